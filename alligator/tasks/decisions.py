"""What a task decides about its own next run, and which of its errors are retried."""

from collections.abc import Iterator, Sequence

from .._runtime.backoff import pause_after
from ..exceptions import AlligatorException
from ..options import Seconds, check_seconds

MAX_BACKOFF = 3600.0
"""The longest pause between two attempts, in seconds, before jitter."""


class Snooze(AlligatorException):
    """Raised by a task to run again after *seconds*, a number or a timedelta.

    This is no failure: it counts as no attempt, and `on_error` is not called.
    """

    def __init__(self, seconds: Seconds) -> None:
        super().__init__(seconds)
        self.seconds: float = check_seconds("Snooze", seconds)

    def __str__(self) -> str:
        return f"for {self.seconds:g} seconds"


class GiveUp(AlligatorException):
    """Raised by a task that must not be retried: it becomes a dead letter with this *reason*."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)

    def __str__(self) -> str:
        return str(self.args[0]) or "no reason was given"


def snooze_in(error: BaseException) -> Snooze | None:
    """Return the `Snooze` that a task has raised; None if it has raised anything else.

    A `TaskGroup` of asyncio raises a group. Of several in a group, the longest counts.
    """
    if isinstance(error, Snooze):
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    leaves = list(_leaves(error))
    snoozes = [leaf for leaf in leaves if isinstance(leaf, Snooze)]
    if len(snoozes) < len(leaves):
        return None
    return max(snoozes, key=lambda snooze: snooze.seconds)


def is_retried(
    error: BaseException, retry_on: Sequence[str] | None, give_up_on: Sequence[str] | None
) -> bool:
    """Return whether a task that raised *error* is retried, if it has retries left.

    *retry_on* None means any error. A group is retried if each error in it is.
    """
    return all(
        not isinstance(leaf, GiveUp)
        and (retry_on is None or _is_one_of(leaf, retry_on))
        and (give_up_on is None or not _is_one_of(leaf, give_up_on))
        for leaf in _leaves(error)
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors of a group; *error* itself if it is no group."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for each in error.exceptions:
        yield from _leaves(each)


def _is_one_of(error: BaseException, names: Sequence[str]) -> bool:
    """Return whether the class of *error*, or one that it derives from, has one of *names*."""
    return any(f"{kind.__module__}.{kind.__qualname__}" in names for kind in type(error).__mro__)


def pause_before_retry(attempt: int, backoff: float | Sequence[float]) -> float:
    """Return the pause after that attempt, in seconds, with jitter unless the pauses are given."""
    if not isinstance(backoff, int | float):
        return backoff[min(attempt, len(backoff)) - 1] if backoff else 0.0
    from random import uniform  # not loaded by programs that only push tasks

    return pause_after(attempt, backoff, MAX_BACKOFF) * uniform(0.5, 1.5)  # noqa: S311
