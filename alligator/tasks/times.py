"""When a task is due, and when it expires."""

from datetime import date
from time import time

from ..exceptions import InvalidOption, MultipleDelayError
from ..options import Seconds, check_seconds, to_expiry, to_timestamp


def due_at(delay_by: Seconds | None, delay_until: float | date | None) -> float | None:
    """Return when a task with these options is due, as a Unix timestamp; None for at once."""
    if delay_by is None:
        return None if delay_until is None else to_timestamp("delay_until", delay_until)
    if delay_until is not None:
        raise MultipleDelayError("Give delay_by or delay_until, not both.")
    return time() + check_seconds("delay_by", delay_by)


def expiry_after(option: str, value: object, delay_until: float | None) -> float:
    """Return `to_expiry`; raise `InvalidOption` if the task is due only after it expires."""
    moment = to_expiry(option, value)
    if delay_until is not None and moment <= delay_until:
        raise InvalidOption(
            f"{option} is {value!r:.80}, but the task is due only later, so it would never run."
        )
    return moment
