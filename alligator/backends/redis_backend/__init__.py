"""Tasks in Redis or Valkey: for any number of hosts, producers and workers.

``scripts/common.lua`` describes the data model. Each other script is one operation: atomic, and one
round trip. Only the server's clock counts.
"""

from collections.abc import Iterator, Sequence
from logging import Logger, getLogger
from typing import Any, ClassVar

from redis import Redis
from redis import exceptions as errors

from ..._runtime.coroutines import complete
from ..._runtime.flags import InterruptFlag
from ...constants import COMMIT_MEMORY, LEASE_SECONDS, MAX_LOST, MAX_TASKS
from ...exceptions import AlligatorException
from .. import base
from ..base import (
    Canceled,
    Commit,
    DeadLetter,
    Duplicates,
    Figures,
    Lease,
    Message,
    Outcome,
    Peeked,
    Pushed,
    QueueStats,
    Sample,
    Scheduled,
    Step,
    WorkerInfo,
)
from ..stats import COUNTERS, SAMPLE_SECONDS, SAMPLES, read_numbers
from .checks import configuration_warnings
from .commits import LINES, TASKS, Pusher
from .connection import Connections
from .limits import Limits
from .outcomes import microseconds, pack_lease, pack_outcomes
from .protocol import Call, Script
from .replies import (
    read_dead_letters,
    read_history,
    read_lease,
    read_peeked,
    read_scheduled,
    read_stats,
    read_step,
)
from .schedules import Schedules

STEP_SECONDS = 5.0
"""How long a worker waits for a reply; a lost reply hides its tasks until their leases end."""
WAIT_SECONDS = 5.0
"""How long a worker sleeps at most: it bounds the delay if the worker that took a wake-up died."""

STEP, CANCEL, DROP_SOME = (
    Script(name, *TASKS, "unique", "batches") for name in ("step", "cancel", "drop_some")
)
LEASE = Script("lease", *TASKS, "unique")
RETRY_DEAD, EXTEND, DROP_DEAD = (
    Script(name, *TASKS) for name in ("retry_dead", "extend", "drop_dead")
)
PEEK, SHIFT = Script("peek", *LINES), Script("shift", *LINES, "records")
STATS, NOTE = (Script(name, "priorities", "counts") for name in ("stats", "note"))
SCHEDULED = Script("scheduled", "priorities")
BEAT, WORKERS, HISTORY, DEAD_LETTERS = map(Script, ("beat", "workers", "history", "dead_letters"))
PING, LEN, CANCELED = map(Script, ("ping", "len", "canceled"))

PEEKED = 100
"""About how many tasks `peek` reads at a time."""

log: Logger = getLogger("alligator")


class Client(Schedules, Limits, base.Client):
    """Tasks in Redis 6.2 or later, or Valkey.

    ``redis://[user:password@]host[:port][/db]``; ``unix:///path/to/redis.sock``;
    ``redis+sentinel://[user:password@]host[:port],host[:port]/master[/db]`` (the login is for the
    master); ``redis+cluster://[user:password@]host[:port],host[:port]``. ``rediss`` in place of
    ``redis`` selects TLS with verified certificates. Options, as in ``redis://localhost?ns=shop``:
    ``ns``, the prefix of all keys (``alligator``); ``timeout`` and ``connect_timeout`` in seconds;
    ``db``, ``username``, ``password``, ``sentinel_username``, ``sentinel_password``,
    ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``.

    A push whose reply is lost is repeated, then undone. It is not undone if a worker has had one of
    its tasks: then all of them stay, and the push has succeeded. If the undo gets no reply either,
    because the server hangs, a thread repeats it for as long as a commit is remembered. Each push
    carries its deadline by the server's clock. The server refuses a push that arrives later, for
    example because the network or the server hung. So a failed push is not queued, with one exception:
    it arrived in time, all replies were lost, also that of the undo, and a worker was faster than the
    repeated undo.
    """

    groups_commits: ClassVar[bool] = True
    can_peek: ClassVar[bool] = True
    has_priorities: ClassVar[bool] = True
    keeps_keys: ClassVar[bool] = True
    keeps_follow_ups: ClassVar[bool] = True
    keeps_limit_keys: ClassVar[bool] = True

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self._connections = Connections(conn_string)
        self.scope: str = self._connections.scope
        self._prefix = f"{{{self._connections.namespace}}}:"
        self._pusher = Pusher(self._connections, self._prefix)
        self._interrupted = InterruptFlag()

    def _call(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[str | int] = (),
        patience: float = 0.0,
    ) -> Any:
        return self._connections.call(script.call(keys, args), patience)

    @property
    def conn(self) -> Redis:
        """A redis-py client for the same data; a ``RedisCluster`` for a cluster."""
        return self._connections.topology.redis

    # Pushing.

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> Duplicates | None:
        if not messages:
            return None
        [pushed] = self.push_commits([Commit(messages, commit_id, undo=undo)])
        if isinstance(pushed, AlligatorException):
            raise pushed
        return pushed

    def push_commits(self, commits: Sequence[Commit]) -> list[Pushed]:
        return complete(self._pusher.push(commits, awaits=False))

    async def apush_commits(self, commits: Sequence[Commit]) -> list[Pushed]:
        return await self._pusher.push(commits, awaits=True)

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        self._pusher.abort(commit_id, messages)

    # Running.

    def step(
        self,
        queue_names: Sequence[str],
        limit: int,
        *,
        outcomes: Sequence[Outcome] = (),
        lease_for: float = LEASE_SECONDS,
        max_lost: int = MAX_LOST,
    ) -> Step:
        names = list(queue_names)
        limit = min(limit, MAX_TASKS) if names else 0
        if not limit and not outcomes:
            return Step()
        call = self._step_call(names, limit, outcomes, lease_for, max_lost)
        return read_step(names, self._connections.call(call, STEP_SECONDS))

    def _step_call(
        self,
        names: list[str],
        limit: int,
        outcomes: Sequence[Outcome],
        lease_for: float,
        max_lost: int,
    ) -> Call:
        """Return the call of a step; queues that only *outcomes* mention are appended to *names*."""
        dead = -1 if self.dead_limit is None else self.dead_limit, microseconds(self.dead_seconds)
        args: list[str | int] = [limit, microseconds(lease_for), max_lost, *dead, len(names)]
        if outcomes:
            args += pack_outcomes(outcomes, names)
        return STEP.call([self._prefix + name for name in names], args)

    def wait(self, queue_names: Sequence[str], timeout: float) -> None:
        for reply in self._wait(queue_names, timeout):
            self._check(reply)

    def wait_then_step(
        self,
        queue_names: Sequence[str],
        timeout: float,
        limit: int,
        *,
        lease_for: float = LEASE_SECONDS,
        max_lost: int = MAX_LOST,
    ) -> Step:
        # Both are sent at once. The server makes the step as soon as the wait ends: an idle worker
        # has its task one round trip earlier.
        names = list(queue_names)
        call = self._step_call(names, limit, (), lease_for, max_lost)
        replies = self._wait(names, timeout, call)
        if not replies:
            return Step((), 0.0)
        waited, stepped = replies
        if isinstance(stepped, errors.ResponseError):  # `step` handles it
            return self.step(names, limit, lease_for=lease_for, max_lost=max_lost)
        step = read_step(names, stepped)
        if not step.leases:  # an error must not hide reserved tasks
            self._check(waited)
        return step

    def _wait(
        self, queue_names: Sequence[str], timeout: float, call: Call | None = None
    ) -> list[Any]:
        if timeout <= 0 or self._interrupted.is_new():
            return []
        timeout = max(0.001, min(timeout, WAIT_SECONDS))  # 0 means no limit
        command = ("BLPOP", *(f"{self._prefix}{name}:wake" for name in queue_names), timeout)
        try:
            return self._connections.wait(
                command, timeout, lambda: not self._interrupted.is_new(), call
            )
        except errors.RedisError as error:
            raise self._connections.explain(error) from error

    def _check(self, waited: Any) -> None:
        """Raise the error that ended a wait, unless the next attempt can succeed."""
        if isinstance(waited, errors.ResponseError):
            try:
                self._connections.raise_if_permanent(waited)
            except errors.RedisError as error:
                raise self._connections.explain(error) from error

    def interrupt(self) -> None:
        self._interrupted.set()
        self._connections.interrupt()

    def extend(self, leases: Sequence[Lease], lease_for: float = LEASE_SECONDS) -> list[Lease]:
        if not leases:
            return []
        args: list[str | int] = [microseconds(lease_for)]
        for lease in leases:
            args += lease.task_id, lease.token
        keys = [self._prefix + lease.queue_name for lease in leases]
        return [leases[position - 1] for position in self._call(EXTEND, keys, args, STEP_SECONDS)]

    def lease(
        self, queue_name: str, task_id: str, lease_for: float = LEASE_SECONDS
    ) -> Lease | None:
        args: list[str | int] = [task_id, microseconds(lease_for)]
        reply = self._call(LEASE, [self._prefix + queue_name], args, STEP_SECONDS)
        return read_lease(queue_name, task_id, reply)

    def cancel(self, queue_name: str, task_id: str) -> Canceled | None:
        keys = [self._prefix + queue_name, f"{self._prefix}canceled"]
        found = self._call(CANCEL, keys, [task_id, microseconds(COMMIT_MEMORY)])
        return None if found is None else Canceled(found[0], bool(found[1]))

    def canceled(self, leases: Sequence[Lease]) -> list[Lease]:
        keys = [f"{self._prefix}canceled"]
        found = set(self._call(CANCELED, keys, [microseconds(COMMIT_MEMORY)], STEP_SECONDS))
        return [each for each in leases if pack_lease(self._prefix, each) in found] if found else []

    # Inspecting and changing queues.

    def len(self, queue_name: str) -> int:
        return int(self._call(LEN, [self._prefix + queue_name]))

    def drop_all(self, queue_name: str) -> None:
        while self._call(DROP_SOME, [self._prefix + queue_name], [MAX_TASKS]) == MAX_TASKS:
            pass

    def queue_names(self) -> list[str]:
        return sorted(self._connections.command("SMEMBERS", f"{self._prefix}queues"))

    def old_tasks(self, queue_name: str) -> int:
        if self._connections.command("TYPE", queue_name) != "zset":
            return 0
        return int(self._connections.command("ZCARD", queue_name))

    def stats(self, queue_name: str) -> QueueStats:
        [stats] = self.stats_of([queue_name])
        return stats

    def stats_of(self, queue_names: Sequence[str]) -> list[QueueStats]:
        keys = [self._prefix + name for name in queue_names]
        return [read_stats(reply) for reply in self._call(STATS, keys, COUNTERS)] if keys else []

    def scheduled(self, queue_name: str, limit: int = 100) -> list[Scheduled]:
        if limit <= 0:
            return []
        reply = self._call(SCHEDULED, [self._prefix + queue_name], [limit])
        return read_scheduled(queue_name, reply)

    def peek(self, queue_name: str) -> Iterator[Peeked]:
        cursor = "0"
        while True:
            cursor, *found = self._call(PEEK, [self._prefix + queue_name], [cursor, PEEKED])
            yield from read_peeked(queue_name, found)
            if cursor == "0":
                return

    def dead_letters(self, queue_name: str, limit: int = 100) -> list[DeadLetter]:
        if limit <= 0:
            return []
        reply = self._call(DEAD_LETTERS, [self._prefix + queue_name], [limit])
        return read_dead_letters(queue_name, reply)

    def retry_dead(self, queue_name: str, task_id: str) -> bool:
        return bool(self._call(RETRY_DEAD, [self._prefix + queue_name], [task_id]))

    def drop_dead(self, queue_name: str, task_id: str) -> bool:
        return bool(self._call(DROP_DEAD, [self._prefix + queue_name], [task_id]))

    def beat(self, worker: WorkerInfo, ttl: float) -> None:
        record: list[str | int] = [worker.name, worker.to_json(), microseconds(ttl)]
        clock = f"{self._prefix}clock"
        last = self._call(BEAT, [*self._worker_keys(), clock], record)
        if last is not None:
            keys = [clock, self._worker_keys()[0], f"{self._prefix}schedules"]
            keys += [self._prefix + name for name in self.queue_names()]
            back = self._call(SHIFT, keys, [last], STEP_SECONDS)
            self._call(BEAT, [*self._worker_keys(), clock], record)
            if back:
                log.error(
                    "the clock of %s was set back by %.0f s; all times in its queues were shifted by "
                    "the same amount, so no task is delayed",
                    *(self._connections.store, back / 1e6),
                )

    def workers(self) -> list[WorkerInfo]:
        reply = self._call(WORKERS, self._worker_keys())
        return [
            WorkerInfo.from_json(record, silent / 1e6)
            for silent, record in zip(reply[::2], reply[1::2], strict=True)
        ]

    def _worker_keys(self) -> list[str]:
        return [f"{self._prefix}workers", f"{self._prefix}worker"]

    def note(
        self, figures: Figures, queue_names: Sequence[str] = (), *, report_id: str | None = None
    ) -> None:
        names = list(dict.fromkeys([*queue_names, *figures]))
        if not names:
            return
        keys = [self._prefix + name for name in names]
        memory = 0
        if report_id is not None:
            keys.append(f"{self._prefix}{report_id}:report")
            memory = int(COMMIT_MEMORY)
        args: list[str | int] = [
            len(set(queue_names)),
            microseconds(SAMPLE_SECONDS),
            SAMPLES,
            memory,
        ]
        for name in names:
            numbers = figures.get(name, {})
            args += len(numbers), *(word for pair in numbers.items() for word in pair)
        self._call(NOTE, keys, args)

    def figures(self, queue_name: str) -> dict[str, int]:
        words = self._connections.command("HGETALL", f"{self._prefix}{queue_name}:sum")
        numbers, unreadable = read_numbers(zip(words[::2], words[1::2], strict=True))
        return {name: number for name, number in numbers.items() if name not in unreadable}

    def history(self, queue_name: str) -> list[Sample]:
        args = [microseconds(SAMPLE_SECONDS * SAMPLES)]
        return read_history(self._call(HISTORY, [self._prefix + queue_name], args))

    def ping(self) -> None:
        self._call(PING, [f"{self._prefix}ping"])

    def warnings(self) -> list[str]:
        return configuration_warnings(self._connections, f"{self._prefix}clock")

    def close(self) -> None:
        self._pusher.close()
        self._connections.close()
        self._connections.topology.close()
