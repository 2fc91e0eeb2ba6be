"""Store tasks in Amazon SQS: no server to run, but no ids and no counters."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from time import monotonic, sleep
from typing import ClassVar, NoReturn

from ..._runtime.flags import InterruptFlag
from ...constants import ALL, LEASE_SECONDS, MAX_LOST
from ...exceptions import AlligatorException, BackendError, BackendUnavailable
from .. import base
from ..base import (
    Commit,
    DeadLetter,
    Duplicates,
    Lease,
    Message,
    Outcome,
    Pushed,
    QueueStats,
    Step,
    WorkerInfo,
)
from .checks import check_pushes, setup_warnings
from .commits import SentCommits
from .connection import Connection
from .dead_letters import DeadLetters
from .envelope import receipt_of
from .errors import StaleReceipt
from .outcomes import OutcomeReporter
from .prefetched import Prefetched
from .queue_stats import StatsCache
from .receiver import Receiver, lease_seconds
from .reservation import Reservation

SLEEP_SLICE = 0.05
"""Seconds after which a sleep checks whether it was interrupted."""


class Client(base.Client):
    """Tasks in Amazon SQS, in standard queues.

    ``sqs://region/``, or ``sqs+http://host:port/`` (``sqs+https``) of a local server. boto3 finds the
    credentials; they are never in the DSN. Options, as in ``sqs://eu-west-1/?prefix=shop-``:
    ``prefix``, put before the names of all queues; ``poll``, the seconds that SQS may look for a
    message, 0 to 20 (1); ``create``, whether missing queues are created (yes); ``region`` of a local
    server.

    `limitations` lists what SQS cannot do. In short: a commit is one message for each of its queues,
    which arrives as a whole or not at all; a task that was sent cannot be found by its id or taken
    back; a task may run twice even if no worker was lost; numbers are approximate, counters and ages
    are 0.
    """

    lists_workers: ClassVar[bool] = False
    guards_releases: ClassVar[bool] = False
    known_stats: ClassVar[Collection[str]] = ("ready", "scheduled", "leased", "dead")
    limitations: ClassVar[Sequence[str]] = (
        "A commit is atomic for each queue, and up to 1 MiB. When a later message of it fails, the "
        "earlier ones stay.",
        "When SQS accepts a commit but its reply is lost, the tasks run although the client got a 503. "
        "What was sent cannot be taken back.",
        "A repeated push is recognised only in the process that has sent it, and for five minutes.",
        "A task may run more than once, and out of order, even if no worker was lost.",
        "No task can be found by its id: no get, no cancel. A task whose id is waiting already is "
        "queued again, unless both are in one commit.",
        "A worker that was frozen and then reports a failure queues its task again, even if another "
        "worker has run it since. A newer task of the same id is never affected.",
        "When a worker is lost, each task of its batch counts as lost, even if it had not started. "
        "Later each of them is leased alone.",
        "A tick of a schedule that another worker has queued is not recognised: start exactly one "
        "worker with --schedules.",
        "Numbers are approximate, and the tasks of a commit count as one until a worker has received "
        "it. There are no counters, no ages and no list of workers.",
        "A queue cannot be paused: stop its workers instead.",
        "A queue cannot be limited: start fewer workers for it, with a lower --concurrency.",
        "Tasks have no priorities: use several queues.",
        "Tasks cannot have unique keys: SQS cannot tell which tasks wait or run. The call is an error.",
        "A task cannot be read before it is reserved, so latergator check does not work.",
        "SQS deletes a task after 14 days.",
    )

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self._sqs = Connection(conn_string)
        self.scope: str = f"sqs/{self._sqs.settings.prefix}"
        self._dead_letters = DeadLetters(self._sqs)
        self._stats = StatsCache(self._sqs, self._find)
        self._commits = SentCommits(self._sqs, self._queue)
        self._outcomes = OutcomeReporter(self._sqs, self._queue)
        self._receiver = Receiver(self._sqs, self._queue, self._stats)
        self._prefetched = Prefetched()
        self._names: set[str] = set()
        """The queues that this client has used."""
        self._expected: set[str] = set()
        """The queues that this client is going to use."""
        self._interrupted = InterruptFlag()

    # Push.

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> Duplicates | None:
        return self._push(Commit(messages, commit_id, undo=undo), monotonic() + self.commit_seconds)

    def push_commits(self, commits: Sequence[Commit]) -> Sequence[Pushed]:
        deadline = self.deadline_of(commits)
        outcomes: list[Pushed] = []
        for commit in commits:
            try:
                outcomes.append(self._push(commit, deadline))
            except AlligatorException as error:
                outcomes.append(error)
        return outcomes

    def _push(self, commit: Commit, deadline: float) -> Duplicates | None:
        return self._commits.push(commit, deadline) if commit.messages else None

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        self._commits.abort(commit_id)

    # Report outcomes and reserve.

    def step(
        self,
        queue_names: Sequence[str],
        limit: int,
        *,
        outcomes: Sequence[Outcome] = (),
        lease_for: float = LEASE_SECONDS,
        max_lost: int = MAX_LOST,
    ) -> Step:
        self._report(outcomes)
        if not limit or not queue_names:
            return Step(())
        reservation = Reservation(
            self._receiver,
            self._report,
            self._take_prefetched,
            limit=limit,
            lease_for=lease_for,
            max_lost=max_lost,
        )
        # A long poll takes time, so only the last queue gets one at first. A step that finds nothing
        # has made a long poll of each queue.
        *first, last = queue_names
        poll = self._sqs.settings.poll
        reservation.add(first, 0)
        reservation.add([last], poll)
        if not reservation.leases:
            reservation.add(first, poll)
        return Step(reservation.result())

    def _report(self, outcomes: Sequence[Outcome]) -> None:
        try:
            self._outcomes.report(outcomes)
        finally:
            for outcome in outcomes:
                self._stats.forget(outcome.lease.queue_name)

    def extend(self, leases: Sequence[Lease], lease_for: float = LEASE_SECONDS) -> list[Lease]:
        lost: list[Lease] = []
        errors: list[BackendError] = []
        for name in dict.fromkeys(lease.queue_name for lease in leases):
            here = [lease for lease in leases if lease.queue_name == name]
            receipts = [receipt_of(lease.token) for lease in here]
            try:
                failed = self._sqs.hide(self._queue(name), receipts, lease_seconds(lease_for))
            except BackendError as error:  # of this queue only
                errors.append(error)
                continue
            lost += [here[place] for place, why in failed.items() if isinstance(why, StaleReceipt)]
            errors += [why for why in failed.values() if not isinstance(why, StaleReceipt)]
        if errors:
            raise errors[0]
        return [lease for lease in leases if lease in lost]

    # Waiting.

    def wait(self, queue_names: Sequence[str], timeout: float) -> None:
        end = monotonic() + timeout
        names = list(queue_names)
        poll = max(1, self._sqs.settings.poll) if len(names) == 1 else 1
        if not names:
            self._sleep(timeout)
        while names and not self._interrupted.is_new():
            refusals: list[BackendError] = []
            for name in names:
                left = end - monotonic()
                if left < 1:
                    self._sleep(left)
                    return
                try:
                    got = self._receiver.receive(name, 1, LEASE_SECONDS, min(poll, int(left)))
                except BackendUnavailable:
                    raise
                except BackendError as error:  # of this queue only
                    refusals.append(error)
                    if len(refusals) == len(names):
                        raise
                    continue
                if self._interrupted.is_new():
                    with suppress(BackendError):
                        self._report([Outcome("release", lease) for lease in got.leases])
                    return
                if got.number:
                    self._prefetched.add(got.leases)
                    return

    def _take_prefetched(self, name: str, lease_for: float) -> list[Lease]:
        leases = self._prefetched.of(name)
        if leases and lease_for != LEASE_SECONDS:
            lost = self.extend(leases, lease_for)  # may raise; then they stay for the next step
            leases = [lease for lease in leases if lease not in lost]
        self._prefetched.discard(name)
        return leases

    def _sleep(self, seconds: float) -> None:
        # In slices, because a signal handler may call `interrupt` and must not use a lock.
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0 and not self._interrupted.is_new():
            sleep(min(left, SLEEP_SLICE))

    def interrupt(self) -> None:
        self._interrupted.set()

    # One task by its id.

    def lease(
        self, queue_name: str, task_id: str, lease_for: float = LEASE_SECONDS
    ) -> Lease | None:
        self._refuse_id()

    def cancel(self, queue_name: str, task_id: str) -> NoReturn:
        self._refuse_id()

    def _refuse_id(self) -> NoReturn:
        raise BackendError(
            f"{self._sqs.store} cannot find a task by its id, so it has no get and no cancel: let the "
            "task check itself whether it is still needed"
        )

    # Queues.

    def len(self, queue_name: str) -> int:
        stats = self.stats(queue_name)
        return stats.ready + stats.scheduled

    def drop_all(self, queue_name: str) -> None:
        """Drop every task of the queue, also leased ones: SQS cannot spare them."""
        url = self._find(queue_name)
        if url is not None:
            self._sqs.call("purge_queue", QueueUrl=url)
        self._stats.forget(queue_name)

    def queue_names(self) -> list[str]:
        """Return the queues that begin with the prefix; without one, those that this client used."""
        found = set(self._names)
        if self._sqs.settings.prefix:
            found.update(self._sqs.names())
        return sorted(found)

    def stats(self, queue_name: str) -> QueueStats:
        """Return approximate numbers, at most a second old."""
        return self._stats.get(queue_name)

    def dead_letters(self, queue_name: str, limit: int = 100) -> list[DeadLetter]:
        return self._dead_letters.read(queue_name, limit)

    def retry_dead(self, queue_name: str, task_id: str) -> bool:
        self._stats.forget(queue_name)
        return self._dead_letters.take(queue_name, task_id, retry=True)

    def drop_dead(self, queue_name: str, task_id: str) -> bool:
        self._stats.forget(queue_name)
        return self._dead_letters.take(queue_name, task_id, retry=False)

    # SQS cannot store a list of workers.

    def beat(self, worker: WorkerInfo, ttl: float) -> None:
        pass

    def workers(self) -> list[WorkerInfo]:
        return []

    # Health.

    def register_queues(self, queue_names: Sequence[str]) -> None:
        self._expected.update(queue_names)

    def ping(self) -> None:
        names = sorted(self._expected) or [min(self._names, default=ALL)]
        check_pushes(self._sqs, names, monotonic() + self.commit_seconds)

    def warnings(self) -> list[str]:
        names = sorted(self._expected | self._names)
        if not names:
            with suppress(BackendError):  # the policy may not allow listing queues
                names = self.queue_names()
        return [text for name in names or [ALL] for text in setup_warnings(self._sqs, name)]

    def close(self) -> None:
        leases = self._prefetched.pop_all()
        if leases:
            with suppress(BackendError):
                self._report([Outcome("release", lease) for lease in leases])
        self._sqs.close()

    def _queue(self, name: str, *, dead: bool = False, deadline: float | None = None) -> str:
        self._names.add(name)
        self._stats.forget(name)
        return self._sqs.queue(name, dead=dead, deadline=deadline)

    def _find(self, name: str, dead: bool = False) -> str | None:
        url = self._sqs.find(name, dead=dead)
        if url is not None:
            self._names.add(name)
        return url
