"""Keep tasks in Redis or Valkey: for several hosts, several producers, several workers.

The data model stands in ``redis_scripts/common.lua``; each script beside it is one operation,
atomic and one round trip. Only the server's clock counts.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import count
from math import inf
from threading import local
from typing import Any, ClassVar

from redis import Redis
from redis import exceptions as errors

from ..constants import LEASE_SECONDS, MAX_LOST, MAX_TASKS
from ..exceptions import AlligatorException, BackendError
from . import base
from .base import (
    Commit,
    DeadLetter,
    Figures,
    Lease,
    Message,
    Outcome,
    QueueStats,
    Sample,
    Scheduled,
    Step,
    WorkerInfo,
)
from .figures import COUNTERS, SAMPLE_SECONDS, SAMPLES
from .redis_connection import Call, Connections, Script
from .redis_pushes import Pushes

STEP_SECONDS = 5.0
"""How long a worker waits for a reply: a lost one would hide its tasks until the lease ends."""
WAIT_SECONDS = 5.0
"""How long a worker sleeps at most: so long a wake-up is late that was taken to the grave."""

STEP, EXTEND, LEASE, CANCEL = map(Script, ("step", "extend", "lease", "cancel"))
DROP_SOME, STATS, BEAT, WORKERS = map(Script, ("drop_some", "stats", "beat", "workers"))
NOTE, HISTORY = map(Script, ("note", "history"))
SCHEDULED, DEAD_LETTERS = map(Script, ("scheduled", "dead_letters"))
RETRY_DEAD, DROP_DEAD = map(Script, ("retry_dead", "drop_dead"))


class Client(base.Client):
    """Tasks in Redis 6.2 or later, or Valkey.

    ``redis://[user:password@]host[:port][/db]``; ``unix:///path/to/redis.sock``;
    ``redis+sentinel://[user:password@]host[:port],host[:port]/master[/db]`` (the login is for the
    master); ``redis+cluster://[user:password@]host[:port],host[:port]``. With ``rediss`` in place of
    ``redis`` it is TLS, the certificates verified. Options, as in ``redis://localhost?ns=shop``:
    ``ns``, before all keys (``alligator``); ``timeout`` and ``connect_timeout`` in seconds; ``db``,
    ``username``, ``password``, ``sentinel_username``, ``sentinel_password``, ``ssl_ca_certs``,
    ``ssl_certfile``, ``ssl_keyfile``.

    A push whose reply is lost is repeated, then undone; once a worker has had one of its tasks it stays
    as a whole, and has succeeded. If no reply comes to that either, because the server hangs, a thread
    goes on undoing for as long as a commit is remembered. A push says until when its reply is waited
    for, by the server's clock: what lay in a network or a server that hung is refused when it arrives
    after that. So what failed is not queued, unless it was taken in time, no reply came through, not
    even to its undoing, and a worker was quicker.
    """

    gathers: ClassVar[bool] = True

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self._connections = Connections(conn_string)
        self._prefix = f"{{{self._connections.namespace}}}:"
        self._call = self._connections.call
        self._pushes = Pushes(self._connections, self._prefix)
        self._interrupts = count(1)
        self._interrupted = 0
        self._seen = local()

    @property
    def conn(self) -> Redis:
        """A redis-py client for the same data; of a cluster it is a ``RedisCluster``."""
        return self._connections.topology.redis

    # Tasks in.

    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        if messages:
            [error] = self._pushes.push([Commit(messages, commit_id)], waited=0.0)
            if error is not None:
                raise error

    def push_commits(
        self, commits: Sequence[Commit], *, waited: float = 0.0
    ) -> list[AlligatorException | None]:
        return self._pushes.push(commits, waited)

    async def apush_commits(
        self, commits: Sequence[Commit], *, waited: float = 0.0
    ) -> list[AlligatorException | None]:
        return await self._pushes.apush(commits, waited)

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        self._pushes.abort(commit_id, messages)

    # Tasks out.

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
        return _read_step(names, self._call(*call, STEP_SECONDS))

    def _step_call(
        self,
        names: list[str],
        limit: int,
        outcomes: Sequence[Outcome],
        lease_for: float,
        max_lost: int,
    ) -> Call:
        """Write down a step; queues that only outcomes are of are put behind *names*."""
        dead = self.dead_limit, _micro(self.dead_seconds)
        args: list[str | int] = [limit, _micro(lease_for), max_lost, *dead, len(names)]
        if outcomes:
            args += _pack(outcomes, names)
        return Call(STEP, [self._prefix + name for name in names], args)

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
        # Both are sent at once, so that the server makes the step the moment that the wait ends:
        # an idle worker has its task one round trip sooner.
        names = list(queue_names)
        call = self._step_call(names, limit, (), lease_for, max_lost)
        replies = self._wait(names, timeout, call)
        if not replies:
            return Step((), 0.0)
        waited, stepped = replies
        if isinstance(stepped, errors.ResponseError):  # the usual way knows what to do about it
            return self.step(names, limit, lease_for=lease_for, max_lost=max_lost)
        step = _read_step(names, stepped)
        if not step.leases:  # or they would be lost
            self._check(waited)
        return step

    def _wait(
        self, queue_names: Sequence[str], timeout: float, call: Call | None = None
    ) -> list[Any]:
        if timeout <= 0 or self._was_interrupted():
            return []
        timeout = max(0.001, min(timeout, WAIT_SECONDS))  # to Redis, 0 is forever
        command = ("BLPOP", *(f"{self._prefix}{name}:wake" for name in queue_names), timeout)
        try:
            return self._connections.wait(
                command, timeout, lambda: not self._was_interrupted(), call
            )
        except errors.RedisError as error:
            raise self._connections.explain(error) from error

    def _check(self, waited: Any) -> None:
        """Raise what the server said of a wait, unless that is over."""
        if isinstance(waited, errors.ResponseError):
            try:
                self._connections.forgive(waited)
            except errors.RedisError as error:
                raise self._connections.explain(error) from error

    def interrupt(self) -> None:
        self._interrupted = next(self._interrupts)
        self._connections.interrupt()

    def _was_interrupted(self) -> bool:
        """Tell whether `interrupt` was called since this thread last asked."""
        now = self._interrupted
        before: int = getattr(self._seen, "interrupt", 0)
        self._seen.interrupt = now
        return now != before

    def extend(self, leases: Sequence[Lease], lease_for: float = LEASE_SECONDS) -> list[Lease]:
        if not leases:
            return []
        args: list[str | int] = [_micro(lease_for)]
        for lease in leases:
            args += lease.task_id, lease.token
        keys = [self._prefix + lease.queue_name for lease in leases]
        return [leases[place - 1] for place in self._call(EXTEND, keys, args, STEP_SECONDS)]

    def lease(
        self, queue_name: str, task_id: str, lease_for: float = LEASE_SECONDS
    ) -> Lease | None:
        args: list[str | int] = [task_id, _micro(lease_for)]
        reply = self._call(LEASE, [self._prefix + queue_name], args, STEP_SECONDS)
        if not reply:
            return None
        fence = int(reply[1])
        return Lease(queue_name, task_id, reply[0], fence, fence >> 32)

    def cancel(self, queue_name: str, task_id: str) -> str | None:
        payload: str | None = self._call(CANCEL, [self._prefix + queue_name], [task_id])
        return payload

    # Looking at queues, and tidying them.

    def len(self, queue_name: str) -> int:
        return int(self._connections.command("ZCARD", f"{self._prefix}{queue_name}:due"))

    def drop_all(self, queue_name: str) -> None:
        while self._call(DROP_SOME, [self._prefix + queue_name], [MAX_TASKS]) == MAX_TASKS:
            pass

    def queue_names(self) -> list[str]:
        return sorted(self._connections.command("SMEMBERS", f"{self._prefix}queues"))

    def stats(self, queue_name: str) -> QueueStats:
        reply = self._call(STATS, [self._prefix + queue_name], COUNTERS)
        ready, waiting, leased, dead, oldest = reply[:5]
        return QueueStats(
            ready=ready,
            scheduled=waiting - ready,
            leased=leased,
            dead=dead,
            oldest=oldest / 1e6,
            **{name: int(number or 0) for name, number in zip(COUNTERS, reply[5:], strict=True)},
        )

    def scheduled(self, queue_name: str, limit: int = 100) -> list[Scheduled]:
        if limit <= 0:
            return []
        reply = self._call(SCHEDULED, [self._prefix + queue_name], [limit])
        return [
            Scheduled(queue_name, task_id, data, int(due_in) / 1e6)
            for task_id, due_in, data in zip(reply[::3], reply[1::3], reply[2::3], strict=True)
        ]

    def dead_letters(self, queue_name: str, limit: int = 100) -> list[DeadLetter]:
        if limit <= 0:
            return []
        reply = self._call(DEAD_LETTERS, [self._prefix + queue_name], [limit])
        letters = []
        for task_id, died, data, why in zip(
            reply[::4], reply[1::4], reply[2::4], reply[3::4], strict=True
        ):
            reason, traceback = json.loads(why)
            letters.append(
                DeadLetter(queue_name, task_id, data, reason, traceback, int(died) / 1e6)
            )
        return letters

    def retry_dead(self, queue_name: str, task_id: str) -> bool:
        return bool(self._call(RETRY_DEAD, [self._prefix + queue_name], [task_id]))

    def drop_dead(self, queue_name: str, task_id: str) -> bool:
        return bool(self._call(DROP_DEAD, [self._prefix + queue_name], [task_id]))

    def beat(self, worker: WorkerInfo, ttl: float) -> None:
        self._call(BEAT, self._worker_keys(), [worker.name, worker.to_json(), _micro(ttl)])

    def workers(self) -> list[WorkerInfo]:
        reply = self._call(WORKERS, self._worker_keys())
        return [
            WorkerInfo.from_json(said, silent / 1e6)
            for silent, said in zip(reply[::2], reply[1::2], strict=True)
        ]

    def _worker_keys(self) -> list[str]:
        return [f"{self._prefix}workers", f"{self._prefix}worker"]

    def note(self, figures: Figures, queue_names: Sequence[str] = ()) -> None:
        names = list(dict.fromkeys([*queue_names, *figures]))
        if not names:
            return
        args: list[str | int] = [len(set(queue_names)), _micro(SAMPLE_SECONDS), SAMPLES]
        for name in names:
            numbers = figures.get(name, {})
            args += len(numbers), *(word for pair in numbers.items() for word in pair)
        self._call(NOTE, [self._prefix + name for name in names], args)

    def figures(self, queue_name: str) -> dict[str, int]:
        words = self._connections.command("HGETALL", f"{self._prefix}{queue_name}:sum")
        return {name: int(number) for name, number in zip(words[::2], words[1::2], strict=True)}

    def history(self, queue_name: str) -> list[Sample]:
        args = [_micro(SAMPLE_SECONDS * SAMPLES)]
        reply = self._call(HISTORY, [self._prefix + queue_name], args)
        samples = [
            Sample(age / 1e6, *map(int, words.split()[1:]))
            for age, words in zip(reply[::2], reply[1::2], strict=True)
        ]
        return sorted(samples, reverse=True)

    def ping(self) -> None:
        self._connections.command("PING")

    def warnings(self) -> list[str]:
        try:
            lines = self._connections.command("INFO").splitlines()
        except BackendError as error:
            if isinstance(error.__cause__, errors.NoPermissionError):
                return ["Redis does not let its user see whether it keeps its data: allow INFO"]
            raise
        facts = dict(line.split(":", 1) for line in lines if ":" in line)
        found = []
        if facts.get("aof_enabled") == "0":
            found.append(
                "Redis would forget accepted tasks when it restarts: set appendonly yes, "
                "and appendfsync everysec or always"
            )
        elif self._appendfsync() == "no":
            found.append(
                "Redis may forget the last half minute when its machine fails: "
                "set appendfsync everysec or always"
            )
        policy = facts.get("maxmemory_policy", "noeviction")
        if facts.get("maxmemory", "0") != "0" and policy != "noeviction":
            found.append(
                f"Redis may throw tasks away when its memory is full (maxmemory-policy {policy}): "
                "set maxmemory-policy noeviction"
            )
        if self._connections.topology.may_split and "min_slaves_good_slaves" not in facts:
            found.append(
                "A master that is cut off would go on taking tasks, and they would be lost: "
                "set min-replicas-to-write 1 and min-replicas-max-lag 10"
            )
        return found

    def _appendfsync(self) -> str | None:
        try:
            reply = self._connections.command("CONFIG", "GET", "appendfsync")
        except BackendError:  # few users may see that, and hosted servers let none
            return None
        return str(reply[1]) if reply else None

    def close(self) -> None:
        self._pushes.close()
        self._connections.close()
        self._connections.topology.close()


def _read_step(names: list[str], reply: Any) -> Step:
    first, *queues = reply
    if not queues:
        return Step((), inf if first < 0 else first / 1e6)
    leases: list[Lease] = []
    for place, found, payloads, fences in queues:
        name = names[place - 1]
        for task_id, since, data, fence in zip(
            found[::2], found[1::2], payloads, fences, strict=True
        ):
            if data is not None:
                token = int(fence) if fence else 0
                waited = (first - float(since)) / 1e6
                leases.append(Lease(name, task_id, data, token, token >> 32, waited))
    return Step(leases)


def _micro(seconds: float) -> int:
    return max(0, round(seconds * 1e6))


def _pack(outcomes: Iterable[Outcome], names: list[str]) -> list[str | int]:
    """Write *outcomes* as the script wants them; queues not among *names* are put behind them."""
    places = {name: place for place, name in enumerate(names, 1)}
    acked: defaultdict[int, list[str]] = defaultdict(list)
    fenced: list[str | int] = []
    released: list[tuple[str | int, ...]] = []
    for verdict, lease, delay, data, reason, traceback in outcomes:
        if lease.queue_name not in places:
            names.append(lease.queue_name)
            places[lease.queue_name] = len(names)
        place = places[lease.queue_name]
        if verdict == "ack":
            acked[place].append(lease.task_id)
            continue
        which = (verdict, place, lease.task_id, lease.token)
        if verdict == "retry":
            fenced += *which, _micro(delay), data or ""
        elif verdict == "dead":
            fenced += *which, json.dumps([reason, traceback])
        else:
            released.append(which)
    acks: list[str | int] = []
    for place, ids in acked.items():
        for start in range(0, len(ids), MAX_TASKS):
            some = ids[start : start + MAX_TASKS]
            acks += "ack", place, len(some), *some
    # Each goes to the head of its queue, so the first of them goes last.
    return [*acks, *fenced, *(word for which in reversed(released) for word in which)]
