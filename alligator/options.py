"""How a task is to be run: the options it may be given, and a context that gives them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from math import inf, isfinite
from types import TracebackType
from typing import Any, Generic, ParamSpec, Protocol, Self, TypedDict, TypeVar

from .exceptions import InvalidOption, MultipleDelayError, UnknownOption

Hook = Callable[..., Any]
P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class TaskOptions(TypedDict, total=False):
    """The options that `Gator.options` and `Gator.transaction` take."""

    task_id: str
    retries: int
    is_async: bool | str
    on_start: Hook | None
    on_success: Hook | None
    on_error: Hook | None
    depends_on: Sequence[str] | None
    delay_by: float | None
    delay_until: float | date | None
    queue_name: str | None
    backoff: float | Sequence[float] | None
    timeout: float | None
    headers: Mapping[str, str] | None
    immediate: bool
    always: bool


class Enqueues(Protocol[T_co]):
    """What a context of options needs of a gator."""

    def enqueue(
        self,
        options: Mapping[str, Any],
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> T_co: ...


class Options(Generic[T]):
    """Options that all tasks of a ``with`` block share; only `Options.task` uses them.

    Ex::

        with gator.options(retries=3, on_error=tell_ops) as opts:
            opts.task(send_mass_mail, list_id)
            opts.task(update_follow_counts, user_id)
    """

    def __init__(self, gator: Enqueues[T], **task_kwargs: Any) -> None:
        self.gator = gator
        self.task_kwargs = task_kwargs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def task(self, func: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call *func* later, with these options; see `Gator.task`."""
        return self.gator.enqueue(self.task_kwargs, func, args, kwargs)


def merge_options(*levels: Mapping[str, Any]) -> dict[str, Any]:
    """Let each level override those before it; a delay of one kind replaces one of the other.

    >>> merge_options({"retries": 1, "delay_by": 5}, {"delay_until": 0})
    {'retries': 1, 'delay_until': 0}
    """
    merged: dict[str, Any] = {}
    for level in levels:
        if not level:
            continue
        if "delay_by" in level or "delay_until" in level:
            merged.pop("delay_by", None)
            merged.pop("delay_until", None)
        merged.update(level)
    return merged


def check_options(options: Mapping[str, Any], task_class: Callable[..., Any]) -> dict[str, Any]:
    """Return *options* in the form that *task_class* takes.

    ``async``, the option's name before Python reserved the word, is taken for ``is_async``. Raises
    `UnknownOption`, `InvalidOption` or `MultipleDelayError`.
    """
    checked = dict(options)
    if not checked:
        return checked
    if "async" in checked:
        checked["is_async"] = checked.pop("async")
    for name in ("is_async", "immediate", "always"):
        if name in checked:
            checked[name] = to_bool(name, checked[name])
    known = {*_parameters(task_class), "immediate", "always"}
    for name in checked:
        if name not in known and "**" not in known:
            from difflib import get_close_matches  # only who errs pays for it

            near = get_close_matches(name, known, 1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}."
            )
            raise UnknownOption(f"A task takes no option {name!r}: {hint}")
    if checked.get("delay_by") is not None and checked.get("delay_until") is not None:
        raise MultipleDelayError("Give delay_by or delay_until, not both.")
    for name, check in CHECKS.items():
        if checked.get(name) is not None:
            check(name, checked[name])
    return checked


@lru_cache
def _parameters(task_class: Callable[..., Any]) -> frozenset[str]:
    """Name what *task_class* can be told; ``**`` stands for anything."""
    from inspect import signature  # half of what an import of Alligator would take

    parameters = signature(task_class).parameters.values()
    return frozenset("**" if p.kind is p.VAR_KEYWORD else p.name for p in parameters)


def to_bool(name: str, value: object) -> bool:
    """Read a switch: a bool, or what people write in environment variables.

    >>> to_bool("is_async", "No"), to_bool("is_async", "1")
    (False, True)
    """
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str | int) else ""
    if word in TRUE:
        return True
    if word in FALSE:
        return False
    raise InvalidOption(f"{name} is one of {', '.join(TRUE + FALSE)}, not {value!r}.")


TRUE = ("true", "1", "yes", "on", "t", "y")
FALSE = ("false", "0", "no", "off", "f", "n")


# What an option may be: each check returns the value in the form that a task keeps, or raises
# InvalidOption, naming the option and what it takes.


def check_name(option: str, value: object) -> str:
    """Take a name that is fit for a line of text."""
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        raise InvalidOption(f"{option} is 1 to 200 printable characters, not {value!r:.80}.")
    return value


def check_whole(option: str, value: object) -> int:
    """Take a whole number from 0."""
    try:
        number = int(value)  # type: ignore[call-overload]  # 1.0 took "3" as well
    except (TypeError, ValueError, OverflowError):
        number = -1
    if number < 0 or (isinstance(value, float) and value != number):
        raise InvalidOption(f"{option} is a whole number from 0, not {value!r}.")
    return int(number)


def check_seconds(option: str, value: object, *, least: float = 0.0) -> float:
    """Take a number of seconds."""
    try:
        number = float(value) if isinstance(value, int | float) else -inf
    except OverflowError:
        number = inf
    if isinstance(value, bool) or not isfinite(number) or number < least:
        raise InvalidOption(f"{option} is a number of seconds from {least:g}, not {value!r:.80}.")
    return number


def check_pauses(option: str, value: object) -> float | list[float]:
    """Take a number of seconds, or several."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [check_seconds(option, pause) for pause in value]
    return check_seconds(option, value)


def to_timestamp(option: str, value: object) -> float:
    """Take a moment: a Unix timestamp, a datetime or a date, both in UTC unless they say otherwise."""
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp())
    if isinstance(value, date):
        return to_timestamp(option, datetime(value.year, value.month, value.day, tzinfo=UTC))
    return check_seconds(option, value)


def check_headers(option: str, value: object) -> dict[str, str]:
    """Take a mapping of strings, and return a copy."""
    if not isinstance(value, Mapping) or not all(
        isinstance(part, str) for item in value.items() for part in item
    ):
        raise InvalidOption(f"{option} maps strings to strings, not {value!r:.80}.")
    return dict(value)


def check_timeout(option: str, value: object) -> float:
    """Take a number of seconds that is more than none."""
    return check_seconds(option, value, least=0.001)


def check_hook(option: str, value: object) -> Hook:
    """Take a function."""
    if not callable(value):
        raise InvalidOption(f"{option} is a function, not {value!r}.")
    hook: Hook = value
    return hook


CHECKS: dict[str, Callable[[str, object], object]] = {
    "task_id": check_name,
    "queue_name": check_name,
    "retries": check_whole,
    "delay_by": check_seconds,
    "delay_until": to_timestamp,
    "backoff": check_pauses,
    "timeout": check_timeout,
    "headers": check_headers,
    "on_start": check_hook,
    "on_success": check_hook,
    "on_error": check_hook,
}
