"""Keep tasks in a SQLite file: the embedded store, for the processes of one machine.

``sqlite:///var/lib/app/queue.db`` is an absolute path, ``sqlite://queue.db`` one relative to the
current directory. ``?timeout=2`` is how many seconds a call waits for its turn to write.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from math import inf
from os.path import realpath
from time import monotonic
from typing import ClassVar
from urllib.parse import parse_qsl

from ..constants import LEASE_SECONDS, MAX_LOST
from ..exceptions import AlligatorException, BackendError, ConfigurationError
from . import base
from . import sqlite_tables as sql
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
from .figures import SAMPLES
from .sqlite_database import Database
from .sqlite_turn import GAP, SECOND, Turn, is_set_back, measure, micros, now
from .sqlite_wake import Bell


class Client(base.Client):
    """Tasks in a file; a push is on the disk when it returns."""

    gathers: ClassVar[bool] = True

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        path, patience = _parse(conn_string)
        self._database = Database(realpath(path), sql.VERSIONS, patience=patience, hint=_hint(path))
        self._bell = Bell(f"{self._database.path}-wake", self._database.version)

    def setup_tables(self, queue_name: str = "all") -> None:
        """Make the tables; Alligator 1.0 needed this, now the first use of the file does it."""
        self.ping()

    # Writes. Those that people or programs rely on are durable. Of a worker's, a power cut may
    # take back the last: its tasks are run again then, which they may be anyway.

    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        if messages:
            with self._turn(durable=True) as turn:
                turn.push(messages, commit_id)

    def push_commits(
        self, commits: Sequence[Commit], *, waited: float = 0.0
    ) -> list[AlligatorException | None]:
        errors: list[AlligatorException | None] = []
        try:
            with self._turn(durable=True, waited=waited) as turn:
                for messages, commit_id in commits:
                    try:
                        turn.push(messages, commit_id)
                        errors.append(None)
                    except BackendError as refused:  # before anything of it was written
                        errors.append(refused)
        except BackendError as error:
            # A copy for each, as they are raised in several threads.
            return [copy(error) for _ in commits]
        return errors

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        with self._turn(durable=True) as turn:
            turn.abort(commit_id)

    def step(
        self,
        queue_names: Sequence[str],
        limit: int,
        *,
        outcomes: Sequence[Outcome] = (),
        lease_for: float = LEASE_SECONDS,
        max_lost: int = MAX_LOST,
    ) -> Step:
        # A look first: it takes a tenth of the time of a turn, and who is idle blocks nobody.
        if not outcomes and (pause := self._pause(queue_names) if limit else inf) > 0:
            return Step((), pause)
        leases: list[Lease] = []
        with self._turn(durable=False) as turn:
            turn.settle(outcomes)
            if limit:
                for name in queue_names:
                    turn.reclaim(name, max_lost)
                for name in queue_names:
                    leases += turn.reserve(name, limit - len(leases), lease_for)
            turn.bound_dead(self.dead_limit, self.dead_seconds)
        return Step(leases, inf if leases or not limit else self._pause(queue_names))

    def extend(self, leases: Sequence[Lease], lease_for: float = LEASE_SECONDS) -> list[Lease]:
        with self._turn(durable=False) as turn:
            return [lease for lease in leases if not turn.extend(lease, lease_for)]

    def lease(
        self, queue_name: str, task_id: str, lease_for: float = LEASE_SECONDS
    ) -> Lease | None:
        with self._turn(durable=False) as turn:
            return turn.lease(queue_name, task_id, lease_for)

    def cancel(self, queue_name: str, task_id: str) -> str | None:
        with self._turn(durable=True) as turn:
            return turn.cancel(queue_name, task_id)

    def drop_all(self, queue_name: str) -> None:
        with self._turn(durable=True) as turn:
            turn.drop_all(queue_name)

    def retry_dead(self, queue_name: str, task_id: str) -> bool:
        with self._turn(durable=True) as turn:
            return turn.retry_dead(queue_name, task_id)

    def drop_dead(self, queue_name: str, task_id: str) -> bool:
        with self._turn(durable=True) as turn:
            return turn.drop_dead(queue_name, task_id)

    def beat(self, worker: WorkerInfo, ttl: float) -> None:
        queues, running = list(worker.queues), [each.function for each in worker.running]
        # An older Alligator, with the file open, reads the columns; this one reads what was said.
        own = worker.started_at, json.dumps(queues), json.dumps(running), worker.to_json()
        with self._turn(durable=False) as turn:
            turn.execute(sql.BEAT, (worker.name, turn.now, turn.now + micros(ttl), *own))
            turn.execute(sql.FORGET_WORKERS, (turn.now,))

    def note(self, figures: Figures, queue_names: Sequence[str] = ()) -> None:
        with self._turn(durable=False) as turn:
            turn.note(figures)
            for name in queue_names:
                turn.sample(name)

    @contextmanager
    def _turn(self, *, durable: bool, waited: float = 0.0) -> Iterator[Turn]:
        with self._database.write(durable=durable, waited=waited) as connection:
            turn = Turn(connection)
            yield turn
            turn.finish()
        if turn.wakes:
            self._bell.ring()

    # Waiting.

    def wait(self, queue_names: Sequence[str], timeout: float) -> None:
        end = monotonic() + timeout
        with self._bell.listening() as ear:
            while not self._bell.interrupted():
                # In this order: what comes after the look rings, and what came before is seen.
                ear.forget()
                left = min(self._pause(queue_names), end - monotonic())
                if left <= 0:
                    break
                ear.sleep(left)

    def interrupt(self) -> None:
        self._bell.interrupt()

    def _pause(self, queue_names: Sequence[str]) -> float:
        """Ask for how many seconds there is nothing to do."""
        moment, soonest = now(), inf
        with self._database.read() as connection:
            for name in queue_names:
                last, ready, *times = connection.execute(sql.NEXT, {"queue": name}).fetchone()
                # A clock that was set back is put right by the next write: that is to be done.
                if ready or is_set_back(moment, last):
                    return 0
                soonest = min([soonest, *(at for at in times if at is not None)])
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

    def figures(self, queue_name: str) -> dict[str, int]:
        with self._database.read() as connection:
            return dict(connection.execute(sql.FIGURES, (queue_name,)).fetchall())

    def history(self, queue_name: str) -> list[Sample]:
        moment = now()
        span = moment - GAP * SAMPLES, moment
        with self._database.read() as connection:
            rows = connection.execute(sql.HISTORY, (queue_name, *span)).fetchall()
        return [Sample((moment - at) / SECOND, *numbers) for at, *numbers in rows]

    def scheduled(self, queue_name: str, limit: int = 100) -> list[Scheduled]:
        moment = now()
        with self._database.read() as connection:
            rows = connection.execute(sql.SCHEDULED_TASKS, (queue_name, moment, limit)).fetchall()
        return [
            Scheduled(queue_name, task_id, data, (at - moment) / SECOND)
            for task_id, data, at in rows
        ]

    def dead_letters(self, queue_name: str, limit: int = 100) -> list[DeadLetter]:
        with self._database.read() as connection:
            rows = connection.execute(sql.DEAD_LETTERS, (queue_name, limit)).fetchall()
        return [
            DeadLetter(queue_name, task_id, data, reason, traceback, at / SECOND)
            for queue_name, task_id, data, reason, traceback, at in rows
        ]

    def workers(self) -> list[WorkerInfo]:
        moment = now()
        with self._database.read() as connection:
            rows = connection.execute(sql.WORKERS, (moment,)).fetchall()
        return [WorkerInfo.from_json(said, max(0, moment - seen) / SECOND) for seen, said in rows]

    def ping(self) -> None:
        # A turn at writing, though nothing is written: a file that can only be read takes no task.
        with self._database.write(durable=False) as connection:
            connection.execute(sql.CLOCK).fetchone()

    def warnings(self) -> list[str]:
        return self._database.warnings()

    def close(self) -> None:
        self._bell.close()
        self._database.close()


def _parse(conn_string: str) -> tuple[str, float]:
    """Find in a DSN the path and the seconds of patience."""
    path, _, query = conn_string.partition("://")[2].partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    timeout = options.pop("timeout", "2")
    if options:
        raise ConfigurationError(f"sqlite:// has no option {', '.join(options)}; it has: timeout.")
    try:
        patience = float(timeout)
    except ValueError:
        patience = -1
    if not 0 < patience < 3600:
        raise ConfigurationError(f"timeout={timeout} is not a number of seconds above 0.")
    if path.strip("/") == ":memory:":
        raise ConfigurationError("A :memory: of SQLite has one user only: take locmem:// instead.")
    if not path or path.endswith("/"):
        raise ConfigurationError(
            "The DSN names no file: sqlite:///var/lib/app/queue.db is an absolute path, "
            "sqlite://queue.db one relative to the current directory."
        )
    return path, patience


def _hint(path: str) -> str:
    """Say what may be wrong with a path that cannot be opened."""
    relative = path.lstrip("/")
    if path == relative:
        return ""
    return f"Three slashes mean an absolute path: sqlite://{relative} is a relative one."
