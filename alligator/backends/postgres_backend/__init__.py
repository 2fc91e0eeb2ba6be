"""Tasks in PostgreSQL: in the database of the application, or in one of their own.

``sql/`` contains the tables, and one function for each operation: atomic, and one round trip. Only the
server's clock counts.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import inf
from time import monotonic
from typing import ClassVar

from ...constants import DEAD, LEASE_SECONDS, MAX_LOST, MAX_TASKS, READY, SCHEDULED
from ...exceptions import AlligatorException
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
    bounded,
)
from ..limits import MOST_KEYS
from ..schedules import UNANNOUNCED_SECONDS
from ..stats import SAMPLE_SECONDS, SAMPLES
from .checks import check_writable, configuration_warnings
from .codec import BEGINNING
from .commits import Pusher, pack_keys
from .marks import Marks
from .outcomes import (
    new_token,
    numbers_of,
    pack_acks,
    pack_leases,
    pack_outcomes,
    pack_wake,
    read_data,
    read_key_stats,
    read_lease,
    read_stats,
    returns,
)
from .schema import script
from .sessions import CALL_SECONDS, Session, Sessions
from .shared_database import SharedDatabase
from .waiting import Sleepers
from .wire import Lost, ServerError

PEEKED = 100
"""How many tasks `peek` reads at a time."""

DROP_AT_ONCE = 10_000
"""How many tasks one statement drops at most."""


class Client(base.Client):
    """Tasks in PostgreSQL 13 or later.

    ``postgresql://[user[:password]@][host[:port],…][/database]`` with the options of libpq, and two of
    Alligator: ``schema``, where its tables are (``alligator``), and ``timeout``, how many seconds a push
    may take (2).

    A failed push is not queued, with one exception: it arrived in time, the server did not answer
    before its deadline, and a worker was faster than the undo, which is repeated until the server
    answers.
    """

    groups_commits: ClassVar[bool] = True
    can_peek: ClassVar[bool] = True
    has_priorities: ClassVar[bool] = True
    keeps_keys: ClassVar[bool] = True
    keeps_follow_ups: ClassVar[bool] = True
    keeps_limit_keys: ClassVar[bool] = True
    remembers_ticks: ClassVar[bool] = True

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self._sessions = Sessions(conn_string)
        self._statements = self._sessions.statements
        self._call = self._sessions.call
        self._pusher = Pusher(self._sessions)
        self._marks = Marks()
        self._sleepers = Sleepers(self._statements, self._marks)
        self.shared_database: SharedDatabase = SharedDatabase(self._sessions)
        self.scope: str = self._sessions.scope
        self.commit_seconds: float = self._sessions.timeout

    def exists(self) -> bool:
        return self._sessions.exists()

    def tables_sql(self) -> str:
        return script(self._sessions.schema)

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
        return self._pusher.push(commits, self.deadline_of(commits))

    async def apush_commits(self, commits: Sequence[Commit]) -> list[Pushed]:
        return await self._pusher.apush(commits, self.deadline_of(commits))

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        self._pusher.abort(commit_id, messages, self.commit_seconds)

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
        if limit <= 0 and not outcomes:
            return Step()
        return self._sessions.run(
            lambda session, until: self._step(
                session, until, names, limit, outcomes, lease_for, max_lost
            )
        )

    def _step(
        self,
        session: Session,
        until: float,
        names: list[str],
        limit: int,
        outcomes: Sequence[Outcome],
        lease_for: float,
        max_lost: int,
        *,
        slept: bool = False,
    ) -> Step:
        if any(returns(outcome) for outcome in outcomes):
            self._marks.reset()
        scan = self._marks.scan(names)
        token = new_token()
        values = [
            *(names, scan.after, scan.turns, scan.since),
            *(limit, bounded(lease_for), max_lost, token),
            *pack_acks(outcomes),
            *(self.dead_limit, self.dead_seconds, slept),
            *pack_outcomes(outcomes),
        ]
        *rows, last = session.wire.call(self._statements.step, values, until)
        now, pause, took, is_complete, is_reclaimed, _, woken, turns = last[6:]
        if limit > 0:
            self._marks.record(
                *(names, scan, [((row[0], row[11]), row[6]) for row in rows]),
                now=now,
                took=took,
                is_complete=is_complete,
                is_reclaimed=is_reclaimed,
                turns=turns,
            )
        if woken:
            with suppress(Lost, ServerError):  # the step counts; a worker finds the follow-up later
                session.wire.call(self._statements.wake_after, pack_wake(woken), until)
        leases = [read_lease(row, token) for row in rows]
        return Step(leases, inf if leases else pause)

    def wait(self, queue_names: Sequence[str], timeout: float) -> None:
        names, end = list(queue_names), monotonic() + timeout

        def wait(session: Session, until: float) -> None:
            self._sleepers.sleep(session, names, end)
            self._wake_up(session)

        if timeout > 0 and not self._sleepers.is_interrupted():
            self._sessions.run(wait)

    def wait_then_step(
        self,
        queue_names: Sequence[str],
        timeout: float,
        limit: int,
        *,
        lease_for: float = LEASE_SECONDS,
        max_lost: int = MAX_LOST,
    ) -> Step:
        names, end = list(queue_names), monotonic() + timeout

        def wait_then_step(session: Session, until: float) -> Step:
            if self._sleepers.sleep(session, names, end):
                until = monotonic() + CALL_SECONDS
                return self._step(
                    *(session, until, names, limit, (), lease_for, max_lost),
                    slept=not session.is_pooled,
                )
            self._wake_up(session)
            return Step((), 0.0)

        if timeout <= 0 or self._sleepers.is_interrupted():
            return Step((), 0.0)
        return self._sessions.run(wait_then_step)

    def _wake_up(self, session: Session) -> None:
        """Release the locks by which a push knows that this session sleeps."""
        if not session.is_pooled:
            session.wire.call(self._statements.wake_up, [], monotonic() + CALL_SECONDS)

    def interrupt(self) -> None:
        self._sleepers.interrupt()

    def extend(self, leases: Sequence[Lease], lease_for: float = LEASE_SECONDS) -> list[Lease]:
        if not leases:
            return []
        values = [*pack_leases(leases), bounded(lease_for)]
        kept = {number for (number,) in self._call(self._statements.extend, values)}
        return [lease for number, lease in enumerate(leases, 1) if number not in kept]

    def lease(
        self, queue_name: str, task_id: str, lease_for: float = LEASE_SECONDS
    ) -> Lease | None:
        token = new_token()
        values = [queue_name, task_id, bounded(lease_for), token]
        for data, seq, lost in self._call(self._statements.lease, values):
            return read_lease((queue_name, task_id, data, seq, lost, 0.0), token)
        return None

    def cancel(self, queue_name: str, task_id: str) -> Canceled | None:
        [(data, was_leased, woken)] = self._call(self._statements.cancel, [queue_name, task_id])
        self._wake(woken)
        return None if data is None else Canceled(read_data(data), was_leased)

    def canceled(self, leases: Sequence[Lease]) -> list[Lease]:
        found = set(self._call(self._statements.canceled, []))
        return [each for each in leases if numbers_of(each) in found] if found else []

    def _wake(self, queue_names: Sequence[str] | None) -> None:
        """Wake workers for follow-ups that were queued."""
        if queue_names:
            self._call(self._statements.wake_after, pack_wake(queue_names))

    # Inspecting and changing queues.

    def len(self, queue_name: str) -> int:
        stats = self.stats(queue_name)
        return stats.ready + stats.scheduled

    def drop_all(self, queue_name: str) -> None:
        dropped = DROP_AT_ONCE
        while dropped == DROP_AT_ONCE:
            values = [queue_name, DROP_AT_ONCE]
            [(dropped, woken)] = self._call(self._statements.drop_some, values)
            self._wake(woken)

    def queue_names(self) -> list[str]:
        return sorted(name for (name,) in self._call(self._statements.queue_names, []))

    def stats(self, queue_name: str) -> QueueStats:
        [stats] = self.stats_of([queue_name])
        return stats

    def stats_of(self, queue_names: Sequence[str]) -> list[QueueStats]:
        if not queue_names:
            return []
        rows = self._call(self._statements.stats, [list(dict.fromkeys(queue_names))])
        found = {name: read_stats(numbers) for name, *numbers in rows}
        return [found.get(name, QueueStats()) for name in queue_names]

    def scheduled(self, queue_name: str, limit: int = 100) -> list[Scheduled]:
        rows = self._call(self._statements.scheduled, [queue_name, max(0, limit)])
        return [
            Scheduled(queue_name, task_id, read_data(data), due_in)
            for task_id, data, due_in in rows
        ]

    def peek(self, queue_name: str) -> Iterator[Peeked]:
        for kind in "wd":
            at, seq = BEGINNING, 0
            while True:
                rows = self._call(self._statements.peek, [queue_name, kind, at, seq, PEEKED])
                for at, seq, task_id, data, is_due in rows:  # noqa: B007 - the next page begins after it
                    state = DEAD if kind == "d" else READY if is_due else SCHEDULED
                    yield Peeked(queue_name, task_id, read_data(data), state)
                if len(rows) < PEEKED:
                    break

    def dead_letters(self, queue_name: str, limit: int = 100) -> list[DeadLetter]:
        rows = self._call(self._statements.dead_letters, [queue_name, max(0, limit)])
        return [
            DeadLetter(queue_name, task_id, read_data(data), *rest) for task_id, data, *rest in rows
        ]

    def pause(self, queue_name: str, seconds: float) -> None:
        self._call(self._statements.pause_queue, [queue_name, max(0.0, seconds)])

    def limit(self, queue_name: str, limit: Limit | None, limit_key: str | None = None) -> None:
        values = [queue_name, limit_key or "", *(limit or (None, None, None))]
        self._call(self._statements.limit_queue, values)

    def key_limits(self, queue_name: str) -> dict[str, Limit]:
        rows = self._call(self._statements.key_limits, [queue_name, MOST_KEYS])
        return {key: Limit(*numbers) for key, *numbers in rows}

    def key_stats(self, queue_names: Sequence[str]) -> dict[str, KeyStats]:
        rows = self._call(self._statements.key_stats, [list(queue_names), MOST_KEYS])
        return {name: read_key_stats(columns) for name, *columns in rows if any(columns)}

    def retry_dead(self, queue_name: str, task_id: str) -> bool:
        [(found,)] = self._call(self._statements.retry_dead, [queue_name, task_id])
        return bool(found)

    def drop_dead(self, queue_name: str, task_id: str) -> bool:
        [(found,)] = self._call(self._statements.drop_dead, [queue_name, task_id])
        return bool(found)

    def beat(self, worker: WorkerInfo, ttl: float) -> None:
        self._call(self._statements.beat, [worker.name, bounded(ttl), worker.to_json()])

    def workers(self) -> list[WorkerInfo]:
        rows = self._call(self._statements.workers, [])
        return [WorkerInfo.from_json(record, max(0.0, silent)) for silent, record in rows]

    def note(
        self, figures: Figures, queue_names: Sequence[str] = (), *, report_id: str | None = None
    ) -> None:
        rows = [(q, name, n) for q, numbers in figures.items() for name, n in numbers.items()]
        columns = [[row[place] for row in rows] for place in range(3)]
        samples = list(dict.fromkeys(queue_names))
        values = [report_id, *columns, samples, float(SAMPLE_SECONDS), SAMPLES]
        self._call(self._statements.note, values)

    def figures(self, queue_name: str) -> dict[str, int]:
        return dict(self._call(self._statements.figures, [queue_name]))

    def history(self, queue_name: str) -> list[Sample]:
        values = [queue_name, float(SAMPLE_SECONDS * SAMPLES)]
        return [Sample(*row) for row in self._call(self._statements.history, values)]

    def announce_schedules(self, schedules: Sequence[Announcement], now: int) -> list[int]:
        columns = [[each[place] for each in schedules] for place in range(3)]
        rows = self._call(self._statements.announce, [now, *columns])
        return [last for (last,) in rows]

    def push_tick(self, name: str, moment: int, message: Message) -> bool:
        queue_name, task_id, data, delay, priority, *_ = message
        values = [name, moment, UNANNOUNCED_SECONDS, queue_name, task_id, bounded(delay)]
        values += data.encode(), priority, *pack_keys([message])
        [(queued,)] = self._call(self._statements.push_tick, values)
        return bool(queued)

    def schedules(self) -> list[ScheduleRecord]:
        return [ScheduleRecord(*row) for row in self._call(self._statements.schedules, [])]

    def forget_schedule(self, name: str) -> bool:
        [(found,)] = self._call(self._statements.forget_schedule, [name])
        return bool(found)

    def ping(self) -> None:
        check_writable(self._sessions)

    def warnings(self) -> list[str]:
        return configuration_warnings(self._sessions)

    def close(self) -> None:
        self._pusher.close()
        self._sleepers.close()
        self._sessions.close()
