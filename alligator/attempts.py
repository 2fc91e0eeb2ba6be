"""Run a leased task once, and decide what the store is to be told of it."""

from logging import Logger, getLogger
from time import perf_counter
from traceback import format_exception
from typing import NamedTuple, Protocol

from .backends.base import Lease, Outcome
from .constants import FAILED, SUCCESS
from .tasks import Task

log: Logger = getLogger("alligator")

MAX_REASON = 500
MAX_TRACEBACK = 8_000
"""How much of an error a dead letter keeps, in characters; of a traceback, the end."""


class Runs(Protocol):
    """What an attempt needs of a gator."""

    def read(self, lease: Lease) -> Task: ...

    def write(self, task: Task, queue_name: str) -> str: ...

    def run(self, task: Task) -> Task: ...

    def fail(self, task: Task, error: BaseException) -> None: ...


class Attempt(NamedTuple):
    """One run of a task, and what came of it."""

    outcome: Outcome
    task: Task | None = None
    """None when the payload was not a task that may run here."""
    error: BaseException | None = None
    seconds: float = 0.0
    number: int = 1
    """Which attempt it was, those included that were lost with their worker."""
    reason: str = ""
    """What was raised, in words."""


def attempt(gator: Runs, lease: Lease, *, interruptible: bool = True) -> Attempt:
    """Run the task of *lease*; whatever it raises is in what is returned.

    But for `KeyboardInterrupt`, when that may be the user's: with *interruptible* it is let through.
    """
    try:
        task = gator.read(lease)
    except BaseException as error:  # whatever lies on a queue, it must not end a worker
        if interruptible and isinstance(error, KeyboardInterrupt):
            raise
        return bury(lease, error)
    tries = task.attempt
    number = task.attempt = tries + lease.lost
    start = perf_counter()
    try:
        gator.run(task)
    except BaseException as error:
        seconds = perf_counter() - start
        if isinstance(error, KeyboardInterrupt):
            if interruptible:
                raise
            if task.status == SUCCESS:  # it came from a hook
                return Attempt(Outcome("ack", lease), task, None, seconds, number)
            if task.status != FAILED:
                _tell(gator, task, error)
        return _failed(gator, lease, task, error, tries, seconds, number)
    return Attempt(Outcome("ack", lease), task, None, perf_counter() - start, number)


def fail(gator: Runs, lease: Lease, error: BaseException) -> Attempt:
    """Fail the task of *lease*, which could not see to that itself: its process has died."""
    try:
        task = gator.read(lease)
    except BaseException:
        return bury(lease, error)
    tries = task.attempt
    number = task.attempt = tries + lease.lost
    _tell(gator, task, error)
    return _failed(gator, lease, task, error, tries, 0.0, number)


def describe(error: BaseException) -> str:
    """Say what was raised, in one piece of text that every store can keep."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # it cannot say so itself
        text = type(error).__name__
    return _storable(text)


def _tell(gator: Runs, task: Task, error: BaseException) -> None:
    try:
        gator.fail(task, error)
    except BaseException:  # the context of the task, or a hook that interrupts
        log.exception("a hook of %r failed", task)


def _failed(
    gator: Runs,
    lease: Lease,
    task: Task,
    error: BaseException,
    tries: int,
    seconds: float,
    number: int,
) -> Attempt:
    try:
        outcome = _next(gator, lease, task, error, tries)
    except Exception as unwritable:  # a hook may have changed the task in any way
        error, outcome = unwritable, _dead(lease, unwritable)
    return Attempt(outcome, task, error, seconds, number, describe(error))


def _next(gator: Runs, lease: Lease, task: Task, error: BaseException, tries: int) -> Outcome:
    if task.retries <= 0:
        return _dead(lease, error)
    pause = task.next_pause()
    task.retries -= 1
    task.attempt = tries + 1  # what was lost is counted by the store
    task.to_retrying()
    return Outcome("retry", lease, pause, gator.write(task, lease.queue_name))


def bury(lease: Lease, error: BaseException) -> Attempt:
    """Give up the task of *lease*, about which nothing can be found out without harm."""
    return Attempt(_dead(lease, error), None, error, reason=describe(error))


def _dead(lease: Lease, error: BaseException) -> Outcome:
    traceback = _storable("".join(format_exception(error)))[-MAX_TRACEBACK:]
    return Outcome("dead", lease, 0.0, None, describe(error)[:MAX_REASON], traceback)


def _storable(text: str) -> str:
    # A file name that is not UTF-8 has surrogates, which no store can encode.
    return text.encode("utf-8", "backslashreplace").decode()
