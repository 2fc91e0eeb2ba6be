"""Store tasks in a SQLite file: the embedded store, for the processes of one machine.

``sqlite:///var/lib/app/queue.db`` is an absolute path, ``sqlite://queue.db`` is relative to the
current directory. ``?timeout=2`` is how many seconds a call waits while others write to the file.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from math import inf
from os.path import basename, exists, realpath
from time import monotonic
from typing import ClassVar

from ...constants import LEASE_SECONDS, MAX_LOST
from ...exceptions import BackendError
from .. import base
from ..base import (
    Announcement,
    Canceled,
    Commit,
    DeadLetter,
    Duplicates,
    Figures,
    KeyStats,
    Lease,
    Limit,
    Message,
    Outcome,
    Peeked,
    Pushed,
    QueueStats,
    Sample,
    Scheduled,
    ScheduleRecord,
    Step,
    WorkerInfo,
    redact,
)
from ..redaction import HIDDEN
from ..stats import SAMPLES, read_numbers, read_text
from . import key_limits
from . import schedules as of_schedules
from . import schema as sql
from .clock import SECOND, is_set_back, micros, now
from .database import Database
from .dsn import absolute_path_hint, read_dsn
from .limits import begins
from .measures import SAMPLE_GAP, measure, measure_keys, sample
from .wakeup import Notifier
from .writes import WriteTransaction

PEEKED = 100
"""How many tasks `peek` reads at a time."""


class Client(base.Client):
    """Tasks in a SQLite file. When a push returns, its tasks are on the disk."""

    groups_commits: ClassVar[bool] = True
    can_peek: ClassVar[bool] = True
    has_priorities: ClassVar[bool] = True
    keeps_keys: ClassVar[bool] = True
    keeps_follow_ups: ClassVar[bool] = True
    keeps_limit_keys: ClassVar[bool] = True
    remembers_ticks: ClassVar[bool] = True

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        path, timeout = read_dsn(conn_string)
        self.commit_seconds: float = timeout
        self._database = Database(
            realpath(path), sql.VERSIONS, timeout=timeout, hint=absolute_path_hint(path)
        )
        self.scope: str = f"sqlite/{basename(self._database.path)}"
        self._notifier = Notifier(f"{self._database.path}-wake", self._database.version)

    @property
    def address(self) -> str:
        # The path alone may show a password: that of sqlite://u/password@/../q.db has lost its @.
        typed = redact(self.conn_string)
        return typed if HIDDEN in typed else redact(f"sqlite://{self._database.path}")

    def exists(self) -> bool:
        return exists(self._database.path)

    def setup_tables(self, queue_name: str = "all") -> None:
        """Create the tables. Alligator 1.0 needed this; now the first use of the file does it."""
        self.ping()

    # Writes. A push and an operator's commands are durable. A power failure may undo the latest
    # writes of a worker: their tasks then run again, which at-least-once delivery allows.

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> Duplicates | None:
        if not messages:
            return None
        with self._write(durable=True) as write:
            return write.push(Commit(messages, commit_id, undo=undo))

    def push_commits(self, commits: Sequence[Commit]) -> list[Pushed]:
        outcomes: list[Pushed] = []
        try:
            with self._write(durable=True, deadline=self.deadline_of(commits)) as write:
                for commit in commits:
                    try:
                        outcomes.append(write.push(commit))
                    except BackendError as refused:  # nothing of this commit was written
                        outcomes.append(refused)
        except BackendError as error:
            # One copy per commit, because they are raised in different threads.
            return [copy(error) for _ in commits]
        return outcomes

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        with self._write(durable=True) as write:
            write.abort(commit_id)

    def step(
        self,
        queue_names: Sequence[str],
        limit: int,
        *,
        outcomes: Sequence[Outcome] = (),
        lease_for: float = LEASE_SECONDS,
        max_lost: int = MAX_LOST,
    ) -> Step:
        # A read first: it takes a tenth of the time of a write, and idle workers block no writer.
        if not outcomes and (pause := self._pause(queue_names) if limit else inf) > 0:
            return Step((), pause)
        leases: list[Lease] = []
        with self._write(durable=False) as write:
            write.apply(outcomes)
            if limit:
                for name in queue_names:
                    write.reclaim(name, max_lost)
                leases = write.reserve(queue_names, limit, lease_for)
            write.bound_dead(self.dead_limit, self.dead_seconds)
        return Step(leases, inf if leases or not limit else self._pause(queue_names))

    def extend(self, leases: Sequence[Lease], lease_for: float = LEASE_SECONDS) -> list[Lease]:
        with self._write(durable=False) as write:
            return [lease for lease in leases if not write.extend(lease, lease_for)]

    def lease(
        self, queue_name: str, task_id: str, lease_for: float = LEASE_SECONDS
    ) -> Lease | None:
        with self._write(durable=False) as write:
            return write.lease(queue_name, task_id, lease_for)

    def cancel(self, queue_name: str, task_id: str) -> Canceled | None:
        with self._write(durable=True) as write:
            return write.cancel(queue_name, task_id)

    def canceled(self, leases: Sequence[Lease]) -> list[Lease]:
        with self._database.read() as connection:
            tokens = {int(token) for (token,) in connection.execute(sql.CANCELED).fetchall()}
        return [lease for lease in leases if lease.token in tokens] if tokens else []

    def drop_all(self, queue_name: str) -> None:
        with self._write(durable=True) as write:
            write.drop_all(queue_name)

    def pause(self, queue_name: str, seconds: float) -> None:
        with self._write(durable=True) as write:
            write.pause(queue_name, seconds)

    def limit(self, queue_name: str, limit: Limit | None, limit_key: str | None = None) -> None:
        with self._write(durable=True) as write:
            write.limit(queue_name, limit, limit_key)

    def key_limits(self, queue_name: str) -> dict[str, Limit]:
        with self._database.read() as connection:
            return key_limits.find(connection.execute, queue_name)

    def key_stats(self, queue_names: Sequence[str]) -> dict[str, KeyStats]:
        moment = now()
        with self._database.read() as connection:
            measured = (measure_keys(connection.execute, name, moment) for name in queue_names)
            found = dict(zip(queue_names, measured, strict=True))
        return {name: stats for name, stats in found.items() if any(stats)}

    def retry_dead(self, queue_name: str, task_id: str) -> bool:
        with self._write(durable=True) as write:
            return write.retry_dead(queue_name, task_id)

    def drop_dead(self, queue_name: str, task_id: str) -> bool:
        with self._write(durable=True) as write:
            return write.drop_dead(queue_name, task_id)

    def beat(self, worker: WorkerInfo, ttl: float) -> None:
        queues, running = list(worker.queues), [each.function for each in worker.running]
        # An older Alligator that has the file open reads the columns, this one reads the JSON.
        own = worker.started_at, json.dumps(queues), json.dumps(running), worker.to_json()
        with self._write(durable=False) as write:
            write.execute(sql.BEAT, (worker.name, write.now, write.now + micros(ttl), *own))
            write.execute(sql.FORGET_WORKERS, (write.now,))

    def note(
        self, figures: Figures, queue_names: Sequence[str] = (), *, report_id: str | None = None
    ) -> None:
        with self._write(durable=False) as write:
            write.note(figures, report_id)
            for name in queue_names:
                sample(write.execute, name, write.now)

    def announce_schedules(self, schedules: Sequence[Announcement], now: int) -> list[int]:
        with self._write(durable=False) as write:
            return of_schedules.announce(write.execute, schedules, now, write.now)

    def push_tick(self, name: str, moment: int, message: Message) -> bool:
        with self._database.read() as connection:
            if of_schedules.was_queued(connection.execute, name, moment, now()):
                return False
        with self._write(durable=True) as write:
            if not of_schedules.tick(write.execute, name, moment, write.now):
                return False
            write.push(Commit([message]))
            return True

    def forget_schedule(self, name: str) -> bool:
        with self._write(durable=True) as write:
            return of_schedules.forget(write.execute, name, write.now)

    @contextmanager
    def _write(self, *, durable: bool, deadline: float | None = None) -> Iterator[WriteTransaction]:
        with self._database.write(durable=durable, deadline=deadline) as connection:
            write = WriteTransaction(connection)
            yield write
            write.save_counts()
        if write.wakes:
            self._notifier.notify()

    # Waiting.

    def wait(self, queue_names: Sequence[str], timeout: float) -> None:
        end = monotonic() + timeout
        with self._notifier.waiter() as waiter:
            while not self._notifier.interrupted.is_new():
                # Clear first, then read: a task pushed before the read is found by it, and one
                # pushed after it sends a notification.
                waiter.clear()
                left = min(self._pause(queue_names), end - monotonic())
                if left <= 0:
                    break
                waiter.wait(left)

    def interrupt(self) -> None:
        self._notifier.interrupt()

    def _pause(self, queue_names: Sequence[str]) -> float:
        """Return for how many seconds there is nothing to do."""
        moment, soonest = now(), inf
        with self._database.read() as connection:
            for name in queue_names:
                row = connection.execute(sql.NEXT, {"queue": name}).fetchone()
                last, paused, ready, scheduled, blocked, leased, is_limited = row
                if blocked is not None and blocked < sql.NO_END:
                    scheduled = blocked if scheduled is None else min(scheduled, blocked)
                if is_limited:
                    paused = max(paused, begins(connection.execute, name, moment))
                # If the clock was set back, the next write must correct the times in the file.
                if (ready and paused <= moment) or is_set_back(moment, last):
                    return 0
                if (ready or scheduled is not None) and paused < sql.NO_END:
                    soonest = min(soonest, max(paused, 0 if ready else scheduled))
                if leased is not None:
                    soonest = min(soonest, leased)
        return max(0, soonest - moment) / SECOND

    # Reads.

    def len(self, queue_name: str) -> int:
        stats = self.stats(queue_name)
        return stats.ready + stats.scheduled

    def queue_names(self) -> list[str]:
        with self._database.read() as connection:
            return [name for (name,) in connection.execute(sql.QUEUE_NAMES).fetchall()]

    def stats(self, queue_name: str) -> QueueStats:
        with self._database.read() as connection:
            return measure(connection.execute, queue_name, now())

    def stats_of(self, queue_names: Sequence[str]) -> list[QueueStats]:
        moment = now()
        with self._database.read() as connection:
            return [measure(connection.execute, name, moment) for name in queue_names]

    def figures(self, queue_name: str) -> dict[str, int]:
        with self._database.read() as connection:
            numbers, unreadable = read_numbers(connection.execute(sql.FIGURES, (queue_name,)))
        return {name: number for name, number in numbers.items() if name not in unreadable}

    def history(self, queue_name: str) -> list[Sample]:
        moment = now()
        span = moment - SAMPLE_GAP * SAMPLES, moment
        with self._database.read() as connection:
            rows = connection.execute(sql.HISTORY, (queue_name, *span)).fetchall()
        return [
            Sample((moment - at) / SECOND, *numbers)
            for at, *numbers in rows
            if all(isinstance(number, int | None) for number in numbers)
        ]

    def scheduled(self, queue_name: str, limit: int = 100) -> list[Scheduled]:
        moment = now()
        with self._database.read() as connection:
            rows = connection.execute(sql.SCHEDULED_TASKS, (queue_name, moment, limit)).fetchall()
        return [
            Scheduled(queue_name, read_text(task_id), read_text(data), (at - moment) / SECOND)
            for task_id, data, at in rows
            if isinstance(at, int)
        ]

    def peek(self, queue_name: str) -> Iterator[Peeked]:
        last = 0
        while True:
            with self._database.read() as connection:
                rows = connection.execute(sql.PEEK, (queue_name, last, PEEKED)).fetchall()
            for last, task_id, data, state in rows:  # noqa: B007 - the next page begins after it
                yield Peeked(queue_name, read_text(task_id), read_text(data), read_text(state))
            if len(rows) < PEEKED:
                return

    def dead_letters(self, queue_name: str, limit: int = 100) -> list[DeadLetter]:
        with self._database.read() as connection:
            rows = connection.execute(sql.DEAD_LETTERS, (queue_name, limit)).fetchall()
        return [
            DeadLetter(
                queue_name,
                *(read_text(task_id), read_text(data)),
                *(read_text(reason), read_text(traceback)),
                at / SECOND if isinstance(at, int) else 0.0,
            )
            for queue_name, task_id, data, reason, traceback, at in rows
        ]

    def workers(self) -> list[WorkerInfo]:
        moment = now()
        with self._database.read() as connection:
            rows = connection.execute(sql.WORKERS, (moment,)).fetchall()
        return [WorkerInfo.from_json(text, max(0, moment - seen) / SECOND) for seen, text in rows]

    def schedules(self) -> list[ScheduleRecord]:
        with self._database.read() as connection:
            return of_schedules.records(connection.execute, now())

    def ping(self) -> None:
        # A write that changes nothing: it fails if the file is read-only, or if its disk is full.
        with self._database.write(durable=False) as connection:
            for statement in sql.PING:
                connection.execute(statement)

    def warnings(self) -> list[str]:
        return self._database.warnings()

    def close(self) -> None:
        self._notifier.close()
        self._database.close()
