"""Run a leased task once, and decide what the store is to be told of it."""

from time import perf_counter
from traceback import format_exception
from typing import NamedTuple, Protocol

from .backends.base import Lease, Outcome
from .tasks import Task

MAX_REASON = 500
MAX_TRACEBACK = 8_000
"""How much of an error a dead letter keeps, in characters; of a traceback, the end."""


class Runs(Protocol):
    """What an attempt needs of a gator."""

    def read(self, lease: Lease) -> Task: ...

    def write(self, task: Task, queue_name: str) -> str: ...

    def run(self, task: Task) -> Task: ...


class Attempt(NamedTuple):
    """One run of a task, and what came of it."""

    outcome: Outcome
    task: Task | None = None
    """None when the payload was not a task that may run here."""
    error: BaseException | None = None
    seconds: float = 0.0


def attempt(gator: Runs, lease: Lease) -> Attempt:
    """Run the task of *lease*; whatever it raises but `KeyboardInterrupt` is in what is returned."""
    try:
        task = gator.read(lease)
    except Exception as error:  # whatever lies on a queue, it must not end a worker
        return Attempt(_dead(lease, error), None, error)
    tries = task.attempt
    task.attempt += lease.lost
    start = perf_counter()
    try:
        gator.run(task)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        seconds = perf_counter() - start
        try:
            outcome = _failed(gator, lease, task, tries, error)
        except Exception as unwritable:  # a hook may have changed the task in any way
            return Attempt(_dead(lease, unwritable), task, unwritable, seconds)
        return Attempt(outcome, task, error, seconds)
    return Attempt(Outcome("ack", lease), task, None, perf_counter() - start)


def describe(error: BaseException) -> str:
    """Say what was raised, in one piece of text that every store can keep."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # it cannot say so itself
        text = type(error).__name__
    return _storable(text)


def _failed(gator: Runs, lease: Lease, task: Task, tries: int, error: BaseException) -> Outcome:
    if task.retries <= 0:
        return _dead(lease, error)
    pause = task.next_pause()
    task.retries -= 1
    task.attempt = tries + 1  # what was lost is counted by the store
    task.to_retrying()
    return Outcome("retry", lease, pause, gator.write(task, lease.queue_name))


def _dead(lease: Lease, error: BaseException) -> Outcome:
    traceback = _storable("".join(format_exception(error)))[-MAX_TRACEBACK:]
    return Outcome("dead", lease, 0.0, None, describe(error)[:MAX_REASON], traceback)


def _storable(text: str) -> str:
    # A file name that is not UTF-8 has surrogates, which no store can encode.
    return text.encode("utf-8", "backslashreplace").decode()
