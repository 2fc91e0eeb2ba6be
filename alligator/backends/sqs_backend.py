"""Keep tasks in Amazon SQS: nothing to run, and what a queue without ids and counters can promise."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import count
from logging import Logger, getLogger
from math import ceil
from threading import local
from time import monotonic, sleep
from typing import ClassVar, NamedTuple, NoReturn

from ..constants import ALL, LEASE_SECONDS, MAX_LOST
from ..exceptions import BackendError
from ..forks import tell_of_forks
from . import base
from .base import DeadLetter, Lease, Message, Outcome, QueueStats, Step, WorkerInfo
from .sqs_checks import check
from .sqs_connection import BATCH, Connection, NoQueue, Stale, raise_any
from .sqs_dead import Dead
from .sqs_outcomes import Outcomes
from .sqs_parcel import (
    ABOUT,
    Item,
    parcel_of,
    receipt_of,
    sent_at,
    server_time,
    times_received,
    token_of,
    write,
)
from .sqs_pushes import Pushes

FRESH_SECONDS = 1.0
"""How long a measurement is good for: each is a request that AWS charges."""
MAX_LEASE = 12 * 60 * 60
"""How long SQS hides a message at most, in seconds."""
OPEN_SECONDS = 10.0
"""How long a worker may take to send the tasks of a message on, and a quarter of a second for each."""
SLICE = 0.05
"""How soon an interrupt ends a sleep of this process; SQS is not told of it."""

NUMBERS = {
    "ready": "ApproximateNumberOfMessages",
    "scheduled": "ApproximateNumberOfMessagesDelayed",
    "leased": "ApproximateNumberOfMessagesNotVisible",
}

log: Logger = getLogger("alligator")


class Client(base.Client):
    """Tasks in Amazon SQS, in standard queues.

    ``sqs://region/``, or ``sqs+http://host:port/`` (``sqs+https``) of a local server. boto3 finds the
    credentials; they are never in the DSN. Options, as in ``sqs://eu-west-1/?prefix=shop-``:
    ``prefix``, before the names of all queues; ``poll``, the seconds that SQS may look for a message,
    0 to 20 (1); ``create``, whether missing queues are made (yes); ``region`` of a local server.

    What SQS has no means for, `limits` says. In short: a commit is one message for each queue that
    it has tasks for, which is there or not; what was sent cannot be found by its id nor taken back;
    a task may run twice though no worker died; numbers are approximate, counters and ages 0.
    """

    sees_workers: ClassVar[bool] = False
    tells: ClassVar[Collection[str]] = ("ready", "scheduled", "leased", "dead")
    limits: ClassVar[Sequence[str]] = (
        "A commit is atomic for each queue, and up to 1 MiB. When a later message of it fails, those "
        "before it stay.",
        "When SQS takes a commit and its answer is lost, the tasks run though the client was told 503. "
        "What was sent cannot be taken back.",
        "A task may run more than once, and out of order, though no worker died.",
        "No task can be found by its id: no get, no cancel.",
        "Numbers are approximate, and the tasks of a commit count as one until a worker has opened "
        "it. There are no counters, ages, nor a list of workers.",
        "SQS forgets a task after 14 days.",
    )

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self._sqs = Connection(conn_string)
        self._dead = Dead(self._sqs)
        self._pushes = Pushes(self._sqs, self._queue)
        self._outcomes = Outcomes(self._sqs, self._queue)
        self._names: set[str] = set()
        self._stats: dict[str, tuple[float, QueueStats]] = {}
        self._interrupts = count(1)
        self._interrupted = 0
        self.after_fork_in_child()
        tell_of_forks(self)

    def after_fork_in_child(self) -> None:
        """Begin anew: what a parent process has received is not its child's."""
        self._own = local()

    # Tasks in.

    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        if messages:
            self._pushes.push(messages, commit_id)

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        self._pushes.abort(commit_id)

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
        self._settle(outcomes)
        names = list(queue_names) if limit else []
        poll = self._sqs.settings.poll
        leases: list[Lease] = []
        # At first SQS is asked to look well in the last queue only, for that takes its time. Before
        # it is said that there is nothing, it has looked well in all of them.
        for place, name in enumerate([*names, *names[:-1]]):
            if len(leases) >= limit or (leases and place >= len(names)):
                break
            patience = poll if place >= len(names) - 1 and not leases else 0
            try:
                leases += self._reserve(name, limit - len(leases), lease_for, max_lost, patience)
            except BackendError:
                if not leases:
                    raise
                break
        return Step(leases)

    def _reserve(
        self, name: str, limit: int, lease_for: float, max_lost: int, patience: int
    ) -> list[Lease]:
        leases = self._take_found(name, lease_for)
        while len(leases) < limit:
            asked = min(BATCH, limit - len(leases))
            try:
                got = self._receive(name, asked, lease_for, 0 if leases else patience)
            except BackendError:
                if not leases:
                    raise
                break
            leases += got.leases
            if got.number < asked and not got.opened:
                break
        dead = [lease for lease in leases if lease.lost >= max_lost]
        for lease in dead:
            leases.remove(lease)
            reason = f"lost {lease.lost} times: its worker died or froze while it ran"
            try:
                self._settle([Outcome("dead", lease, reason=reason)])
            except BackendError as error:
                log.warning("%s is to be buried when its lease ends: %s", lease.task_id, error)
        if dead and not leases:
            return self._reserve(name, limit, lease_for, max_lost, 0)
        return leases

    def _receive(self, name: str, most: int, lease_for: float, patience: int) -> "_Received":
        url = self._queue(name)
        reply = self._sqs.call(
            "receive_message",
            QueueUrl=url,
            MaxNumberOfMessages=most,
            VisibilityTimeout=_seconds(lease_for),
            WaitTimeSeconds=patience,
            MessageSystemAttributeNames=[*ABOUT],
        )
        received = reply.get("Messages", ())
        now = server_time(reply)
        leases: list[Lease] = []
        opened = False
        for message in received:
            age = max(0.0, now - sent_at(message, now))
            receipt = message["ReceiptHandle"]
            items = [
                item._replace(delay=max(0.0, item.delay - age)) for item in parcel_of(message).items
            ]
            if len(items) == 1 and not items[0].delay:
                lost = items[0].lost + times_received(message) - 1
                leases.append(Lease(name, items[0].task_id, items[0].data, token_of(receipt), lost))
                continue
            try:
                self._open(url, receipt, items, lease_for)
                opened = True
            except BackendError as error:
                log.warning("a message of %d tasks is to be opened again: %s", len(items), error)
        if received:
            self._stats.pop(name, None)
        return _Received(leases, len(received), opened)

    def _open(self, url: str, receipt: str, items: Sequence[Item], lease_for: float) -> None:
        """Send the tasks of a message on, each for itself and for as long as SQS delays it."""
        needed = OPEN_SECONDS + len(items) / 4
        if lease_for < needed:
            raise_any(self._sqs.hide(url, [receipt], _seconds(needed)))
        raise_any(self._sqs.send(url, [write(item) for item in items]))
        raise_any(self._sqs.delete(url, [receipt]))

    def _settle(self, outcomes: Sequence[Outcome]) -> None:
        try:
            self._outcomes.tell(outcomes)
        finally:
            for outcome in outcomes:
                self._stats.pop(outcome.lease.queue_name, None)

    # Waiting.

    def wait(self, queue_names: Sequence[str], timeout: float) -> None:
        end = monotonic() + timeout
        names = list(queue_names)
        patience = max(1, self._sqs.settings.poll) if len(names) == 1 else 1
        while not self._was_interrupted():
            for name in names:
                rest = end - monotonic()
                if rest < 1 or not names:
                    self._sleep(rest)
                    return
                got = self._receive(name, 1, LEASE_SECONDS, min(patience, int(rest)))
                if self._was_interrupted():
                    with suppress(BackendError):
                        self._settle([Outcome("release", lease) for lease in got.leases])
                    return
                if got.number:
                    until = monotonic() + LEASE_SECONDS / 2
                    self._found += [(until, lease) for lease in got.leases]
                    return

    @property
    def _found(self) -> list[tuple[float, Lease]]:
        """What this thread has received while it waited: its next step is given it."""
        try:
            found: list[tuple[float, Lease]] = self._own.found
        except AttributeError:
            found = self._own.found = []
        return found

    @_found.setter
    def _found(self, found: list[tuple[float, Lease]]) -> None:
        self._own.found = found

    def _take_found(self, name: str, lease_for: float) -> list[Lease]:
        if not self._found:
            return []
        now = monotonic()
        # What has been lying here for long is, or soon will be, another worker's.
        good = [(until, lease) for until, lease in self._found if until > now]
        leases = [lease for _, lease in good if lease.queue_name == name]
        self._found = [(until, lease) for until, lease in good if lease.queue_name != name]
        if leases and lease_for != LEASE_SECONDS:
            lost = self.extend(leases, lease_for)
            leases = [lease for lease in leases if lease not in lost]
        return leases

    def _sleep(self, seconds: float) -> None:
        # In slices: a signal handler may call `interrupt`, and must not touch a lock.
        end = monotonic() + seconds
        while (rest := end - monotonic()) > 0 and not self._was_interrupted():
            sleep(min(rest, SLICE))

    def interrupt(self) -> None:
        self._interrupted = next(self._interrupts)

    def _was_interrupted(self) -> bool:
        """Tell whether `interrupt` was called since this thread last asked."""
        now = self._interrupted
        before: int = getattr(self._own, "interrupt", 0)
        self._own.interrupt = now
        return now != before

    def extend(self, leases: Sequence[Lease], lease_for: float = LEASE_SECONDS) -> list[Lease]:
        lost: list[Lease] = []
        for name in dict.fromkeys(lease.queue_name for lease in leases):
            here = [lease for lease in leases if lease.queue_name == name]
            receipts = [receipt_of(lease.token) for lease in here]
            failed = self._sqs.hide(self._queue(name), receipts, _seconds(lease_for))
            lost += [here[place] for place, why in failed.items() if isinstance(why, Stale)]
            raise_any({n: why for n, why in failed.items() if not isinstance(why, Stale)})
        return [lease for lease in leases if lease in lost]

    # One task by its id.

    def lease(
        self, queue_name: str, task_id: str, lease_for: float = LEASE_SECONDS
    ) -> Lease | None:
        self._refuse_id()

    def cancel(self, queue_name: str, task_id: str) -> str | None:
        self._refuse_id()

    def _refuse_id(self) -> NoReturn:
        raise BackendError(
            f"{self._sqs.store} cannot find a task by its id, so none can be got or canceled: let the "
            "task look itself whether it is still wanted"
        )

    # Looking at queues, and tidying them.

    def len(self, queue_name: str) -> int:
        stats = self.stats(queue_name)
        return stats.ready + stats.scheduled

    def drop_all(self, queue_name: str) -> None:
        """Throw away every task of the queue, also those that workers have: SQS can't spare them."""
        url = self._find(queue_name)
        if url is not None:
            self._sqs.call("purge_queue", QueueUrl=url)
        self._stats.pop(queue_name, None)

    def queue_names(self) -> list[str]:
        """Name the queues that begin with the prefix; without one, those that this client has used."""
        found = set(self._names)
        if self._sqs.settings.prefix:
            found.update(self._sqs.names())
        return sorted(found)

    def stats(self, queue_name: str) -> QueueStats:
        """Measure the queue, approximately; an answer is good for a second."""
        measured, stats = self._stats.get(queue_name, (0.0, None))
        if stats is None or monotonic() - measured > FRESH_SECONDS:
            live, dead = self._numbers(queue_name), self._numbers(queue_name, dead=True)
            stats = QueueStats(**live, dead=sum(dead.values()))
            self._stats[queue_name] = monotonic(), stats
        return stats

    def _numbers(self, queue_name: str, *, dead: bool = False) -> dict[str, int]:
        url = self._find(queue_name, dead=dead)
        if url is None:
            return {}
        try:
            found = self._sqs.attributes(url, *NUMBERS.values())
        except NoQueue:
            return {}
        return {state: int(found.get(name, 0)) for state, name in NUMBERS.items()}

    def dead_letters(self, queue_name: str, limit: int = 100) -> list[DeadLetter]:
        return self._dead.letters(queue_name, limit)

    def retry_dead(self, queue_name: str, task_id: str) -> bool:
        self._stats.pop(queue_name, None)
        return self._dead.take(queue_name, task_id, again=True)

    def drop_dead(self, queue_name: str, task_id: str) -> bool:
        self._stats.pop(queue_name, None)
        return self._dead.take(queue_name, task_id, again=False)

    # Workers have no place in SQS.

    def beat(self, worker: WorkerInfo, ttl: float) -> None:
        pass

    def workers(self) -> list[WorkerInfo]:
        return []

    # How things are.

    def ping(self) -> None:
        name = self._sqs.name(min(self._names, default=ALL))
        try:
            self._sqs.call("get_queue_url", quick=True, QueueName=name)
        except NoQueue:
            pass  # that is an answer, too
        except BackendError as error:
            if "forbids" not in str(error):
                raise

    def warnings(self) -> list[str]:
        found: list[str] = []
        names = sorted(self._names)
        if not names:
            with suppress(BackendError):  # not everybody may list queues
                names = self.queue_names()
        for name in names or [ALL]:
            url, dead = self._find(name), self._find(name, dead=True)
            if url is not None:
                found += check(self._sqs.name(name), self._sqs.attributes(url, "All"))
            if dead is not None:
                found += check(self._sqs.name(name, dead=True), self._sqs.attributes(dead, "All"))
        return found

    def close(self) -> None:
        found, self._found = self._found, []
        if found:
            with suppress(BackendError):
                self._settle([Outcome("release", lease) for _, lease in found])
        self._sqs.close()

    def _queue(self, name: str, *, dead: bool = False) -> str:
        self._names.add(name)
        self._stats.pop(name, None)
        return self._sqs.queue(name, dead=dead)

    def _find(self, name: str, *, dead: bool = False) -> str | None:
        url = self._sqs.find(name, dead=dead)
        if url is not None:
            self._names.add(name)
        return url


class _Received(NamedTuple):
    """What came of one look at a queue."""

    leases: list[Lease]
    number: int
    opened: bool
    """Whether a message was among it whose tasks are on the queue now, each for itself."""


def _seconds(lease_for: float) -> int:
    return min(MAX_LEASE, max(0, ceil(lease_for)))
