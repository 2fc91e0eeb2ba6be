"""Run a leased task once and decide its outcome: ack, retry, release or dead."""

from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter, time
from typing import NamedTuple, Protocol

from .._runtime.backoff import pause_after
from .._runtime.failures import EVENT, describe, hide_our_frames, traceback_of
from .._runtime.log import log
from ..backends.base import Lease, Outcome
from ..constants import FAILED, SUCCESS
from ..exceptions import (
    BadSignature,
    IncompatibleArguments,
    NotRunnable,
    PayloadError,
    TaskExpired,
    TaskTooLarge,
    UnknownCallableError,
    UnknownModuleError,
)
from ..payload.batch import with_batch_of
from ..payload.envelope import released_in
from ..payload.signing import Guard
from ..tasks import Task
from ..tasks.decisions import Snooze, snooze_in

MAX_LAST_ERROR = 200
"""How many characters of the last error a retried task carries."""

MAX_REASON = 500
"""How many characters of the reason a dead letter keeps."""

MAX_TRACEBACK = 8_000
"""How many characters of the traceback a dead letter keeps, counted from its end."""

FIRST_RELEASE_PAUSE, MAX_RELEASE_PAUSE = 1.0, 60.0
"""Seconds before a task that a worker could not run is offered again: the first, the longest."""

MIN_SNOOZE = 0.001
"""The shortest snooze in seconds: a task without a delay would return to the head of its queue."""

UNRUNNABLE = (NotRunnable, UnknownModuleError, UnknownCallableError, IncompatibleArguments)
"""Errors that say that this worker cannot run a task; another one may be able to."""


class TaskRunner(Protocol):
    """What an attempt uses of a gator."""

    guard: Guard

    def read(self, lease: Lease) -> Task: ...

    def run(self, task: Task) -> Task: ...

    def fail(self, task: Task, error: BaseException) -> None: ...


class Attempt(NamedTuple):
    """One run of a task and its outcome."""

    outcome: Outcome
    task: Task | None = None
    """None if it did not run: the payload is not a valid task, or this worker cannot run it."""
    error: BaseException | None = None
    seconds: float = 0.0
    number: int = 1
    """The number of the attempt, counted from 1; lost deliveries count, too."""
    reason: str = ""
    """The error as text; empty after a success."""

    @property
    def has_run(self) -> bool:
        """Whether the task ran to the end of an attempt; if not, this worker has released it."""
        return self.outcome.verdict != "release" or isinstance(self.error, Snooze)

    @property
    def is_repeated(self) -> bool:
        """Whether the task runs again because it failed, or because it asked for that."""
        return self.outcome.verdict == "retry" or isinstance(self.error, Snooze)


_new = tuple.__new__


class HandedOver(Exception):
    """The task was handed over to run elsewhere, so it has no outcome here."""


class LeaseEnded(Exception):
    """The task was not started because its lease may have ended; another worker may have run it."""


HandOver = Callable[[Lease, Task], bool]
"""Takes a task over, to run it elsewhere; returns False if it does not."""


def attempt(
    gator: TaskRunner,
    lease: Lease,
    *,
    interruptible: bool = True,
    task: Task | None = None,
    hand_over: HandOver | None = None,
    holds: Callable[[Lease], bool] | None = None,
) -> Attempt:
    """Run the task of *lease*; an exception of the task is in the `Attempt`, not raised.

    With *interruptible*, `KeyboardInterrupt` is raised, because it may come from the user. Without it,
    `KeyboardInterrupt` is an error of the task. *task* is the task of the lease if it has been read
    already. Raises `LeaseEnded` if *holds* returns False for the lease just before the task starts,
    and `HandedOver` if *hand_over* took the task.
    """
    if task is None:
        try:
            task = gator.read(lease)
            task.check_call()
        except BaseException as error:  # no payload may end a worker
            if interruptible and isinstance(error, KeyboardInterrupt):
                raise
            return refuse(gator, lease, error)
    if holds is not None and not holds(lease):
        raise LeaseEnded
    if hand_over is not None and hand_over(lease, task):
        raise HandedOver
    if task.expires is not None and (expired := expire(gator, lease, task)) is not None:
        return expired
    tries = task.attempt
    number = task.attempt = tries + lease.lost
    start = perf_counter()
    try:
        gator.run(task)
    except BaseException as error:
        if interruptible and isinstance(error, KeyboardInterrupt):
            raise
        return failed(gator, lease, task, error, tries, perf_counter() - start)
    return succeeded(lease, task, start, number)


def succeeded(lease: Lease, task: Task, start: float, number: int) -> Attempt:
    """Return the attempt at *task*, which began at *start* and has succeeded."""
    # Most attempts end here. Each of the two constructors would take twice as long.
    outcome = _new(Outcome, ("ack", lease, 0.0, None, "", ""))
    return _new(Attempt, (outcome, task, None, perf_counter() - start, number, ""))


def refuse(gator: TaskRunner, lease: Lease, error: BaseException) -> Attempt:
    """Return the outcome of a task that cannot be read, because of *error*."""
    return postpone(gator, lease, error) if isinstance(error, UNRUNNABLE) else bury(lease, error)


def failed(
    gator: TaskRunner,
    lease: Lease,
    task: Task,
    error: BaseException,
    tries: int,
    seconds: float,
) -> Attempt:
    """Return the attempt at *task*, which raised *error* after *seconds*; *tries* excludes losses."""
    if isinstance(error, NotRunnable):
        return postpone(gator, lease, error)
    if (snooze := snooze_in(error)) is not None:
        pause = max(MIN_SNOOZE, snooze.seconds)
        outcome = Outcome("release", lease, pause, _begun(gator, lease, task))
        return Attempt(outcome, task, snooze, seconds, tries + lease.lost, describe(snooze))
    hide_our_frames(error)
    if isinstance(error, KeyboardInterrupt):
        if task.status == SUCCESS:  # a hook raised it
            return Attempt(Outcome("ack", lease), task, None, seconds, tries + lease.lost)
        if task.status != FAILED:
            _run_error_hook(gator, task, error)
    return _failed(gator, lease, task, error, tries, seconds, tries + lease.lost)


def fail(gator: TaskRunner, lease: Lease, error: BaseException) -> Attempt:
    """Return the failed attempt of a task whose process has died; run its error hook here."""
    try:
        task = gator.read(lease)
    except BaseException:
        return bury(lease, error)
    tries = task.attempt
    number = task.attempt = tries + lease.lost
    _run_error_hook(gator, task, error)
    return _failed(gator, lease, task, error, tries, 0.0, number)


def postpone(gator: TaskRunner, lease: Lease, error: BaseException) -> Attempt:
    """Return the release of a task that this worker cannot run; the store offers it again later.

    No attempt is counted. The payload records the first release and their number. The pause grows from
    about one second to one minute.
    """
    try:
        data, released = gator.guard.note_release(*lease[:3])
    except BadSignature as forged:
        return bury(lease, forged)
    except (
        PayloadError
    ):  # a task class of the program may not write JSON, so nothing can be recorded
        return bury(lease, error)
    from random import random  # only workers need it

    pause = pause_after(released.times, FIRST_RELEASE_PAUSE, MAX_RELEASE_PAUSE)
    pause *= 0.5 + random() / 2  # noqa: S311 - jitter, not a secret
    return Attempt(Outcome("release", lease, pause, data), None, error, reason=describe(error))


def expire(gator: TaskRunner, lease: Lease, task: Task) -> Attempt | None:
    """Return the dead letter of a task that has expired; None if it may begin, or has begun before.

    The new payload does not expire, so that the task runs if the dead letter is retried.
    """
    if task.expires is None or task.attempt > 1 or lease.lost or time() < task.expires:
        return None
    task.to_canceled()
    moment = datetime.fromtimestamp(task.expires, UTC).isoformat(timespec="seconds")
    error = TaskExpired(f"it had not begun by {moment}")
    outcome = Outcome("expired", lease, 0.0, _begun(gator, lease, task), f"expired: {error}")
    return Attempt(outcome, task, error, 0.0, 1, str(error))


def _begun(gator: TaskRunner, lease: Lease, task: Task) -> str | None:
    """Return the payload of *task* without its expiry; None if the payload does not change."""
    if task.expires is None:
        return None
    try:
        return gator.guard.without_expiry(*lease[:3])
    except PayloadError:  # a task class of the program may not write JSON
        return None


def bury_overdue(done: Attempt, after: float) -> Attempt:
    """Return *done*; or a dead letter if workers could not run its task for *after* seconds."""
    outcome = done.outcome
    released = released_in(outcome.data) if outcome.verdict == "release" and outcome.data else None
    if released is None or time() - released.since < after:
        return done
    error = NotRunnable(
        f"no worker that took it could run it, {released.times} times in "
        f"{released.last - released.since:.0f} seconds: {done.reason}"
    )
    error.__cause__ = done.error
    return bury(outcome.lease, error)


def _run_error_hook(gator: TaskRunner, task: Task, error: BaseException) -> None:
    try:
        gator.fail(task, error)
    except BaseException as broken:  # task_context raised, or the hook raised no Exception
        log.error("a hook of %r failed; the task keeps its outcome", task, exc_info=broken)


def _failed(
    gator: TaskRunner,
    lease: Lease,
    task: Task,
    error: BaseException,
    tries: int,
    seconds: float,
    number: int,
) -> Attempt:
    try:
        outcome = _retry_or_bury(gator, lease, task, error, tries)
    except BaseException as unwritable:  # the task or a hook may have changed it
        why = f"Alligator could not write it for a retry: {describe(unwritable)}"
        fields = {EVENT: why, "task_id": lease.task_id, "task": task.name}
        log.warning("%r: %s", task, why, extra=fields)
        outcome = _dead(lease, error, f"\n{why}\n")
    return Attempt(outcome, task, error, seconds, number, describe(error))


def _retry_or_bury(
    gator: TaskRunner, lease: Lease, task: Task, error: BaseException, tries: int
) -> Outcome:
    if not task.is_retried(error):
        return _dead(lease, error)
    again = task.for_retry(tries + 1)  # the store counts lost deliveries
    again.task_id = lease.task_id
    task.backoff = again.backoff
    pause = task.next_pause()
    again.last_error = describe(error)[:MAX_LAST_ERROR]
    try:
        data = gator.guard.write(again, lease.queue_name)
    except TaskTooLarge:  # because of the last error
        again.last_error = ""
        data = gator.guard.write(again, lease.queue_name)
    data = with_batch_of(lease.data, data)
    task.retries, task.attempt = again.retries, again.attempt
    task.to_retrying()
    return Outcome("retry", lease, pause, data)


def bury(lease: Lease, error: BaseException) -> Attempt:
    """Return the dead letter of a task that must not be read or run."""
    return Attempt(_dead(lease, error), None, error, reason=describe(error))


def _dead(lease: Lease, error: BaseException, note: str = "") -> Outcome:
    traceback = (traceback_of(error) + note)[-MAX_TRACEBACK:]
    return Outcome("dead", lease, 0.0, None, describe(error)[:MAX_REASON], traceback)
