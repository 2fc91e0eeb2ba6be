"""The options of a task, their validation, and a context that sets them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from math import inf
from operator import index
from time import time
from typing import Any, Generic, Literal, ParamSpec, Protocol, Self, TypeAlias, TypedDict, TypeVar

from ._runtime.coroutines import check_runs
from ._runtime.signatures import signature
from .constants import LEVELS, MAX_NUMBER, MAX_SECONDS, MAX_TIMEOUT
from .exceptions import InvalidOption, MultipleDelayError, UnknownOption

Hook = Callable[..., Any]
StartHook = Callable[[Any], Any]
"""A hook that is called with the task."""
ResultHook = Callable[[Any, Any], Any]
"""A hook that is called with the task, and with its result or its error."""
Seconds: TypeAlias = float | timedelta
Priority: TypeAlias = Literal["high", "normal", "low"]
ErrorTypes: TypeAlias = type[BaseException] | str | Sequence[type[BaseException] | str]
P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

KEY_DETAILS = ("unique_until", "unique_for", "replace")  # of use only with "unique"

SENDING = ("is_async", "immediate", "always", "follows")
"""The options that say how a task is sent; the others are options of the task itself."""

FOLLOW_UP: dict[str, Any] = {"follows": True, "immediate": False, "delay_by": None}
"""The options of a follow-up; nothing else has the first."""


class TaskOptions(TypedDict, total=False):
    """The options that `Gator.options` and `Gator.transaction` take."""

    task_id: str
    """The id of the task; a unique one by default."""
    retries: int
    """The number of attempts after a failed one; 0 by default."""
    is_async: bool | str
    """False to run the task in this process."""
    on_start: StartHook | None
    """Called with the task before each attempt."""
    on_success: ResultHook | None
    """Called with the task and its result."""
    on_error: ResultHook | None
    """Called with the task and its error after each failed attempt."""
    depends_on: Sequence[str] | None
    """Task ids that are stored with the task; it does not wait for them."""
    delay_by: Seconds | None
    """The delay after the call: seconds, or a timedelta."""
    delay_until: float | date | None
    """The earliest time of the run: a Unix timestamp, a datetime or a date; local time if naive."""
    queue_name: str | None
    """The queue; that of the gator by default."""
    backoff: Seconds | Sequence[Seconds] | None
    """The pause before a retry, or one for each; by default they grow from a second to an hour."""
    timeout: Seconds | None
    """The time limit of one attempt."""
    expires: Seconds | date | None
    """The time, as seconds from the call or as a moment, after which the task does not begin."""
    priority: Priority | None
    """Which of the ready tasks of its queue run before it; "normal" by default."""
    unique: str | None
    """A key: the task is not queued if another one of its queue holds it."""
    unique_until: Literal["start", "done"] | None
    """Whether the key is free when the task starts, which is the default, or when it is done."""
    unique_for: Seconds | None
    """For how many seconds the key is held at least, also after that."""
    replace: bool
    """True to take the key from a task that waits, in place of which this one is queued."""
    limit_key: str | None
    """A key, such as a tenant, whose tasks take turns with those of others, and may have a limit."""
    retry_on: ErrorTypes | None
    """The exceptions after which the task is retried, with their subclasses; any by default."""
    give_up_on: ErrorTypes | None
    """The exceptions after which it is not retried, with their subclasses."""
    headers: Mapping[str, str] | None
    """A small mapping of strings that is stored with the task."""
    immediate: bool
    """True to push at once, also in a transaction."""
    always: bool
    """True to push at the end of the transaction even if it is rolled back."""


class Enqueues(Protocol[T_co]):
    """What `Options` needs of a gator."""

    def enqueue(
        self,
        options: Mapping[str, Any],
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> T_co: ...


class Options(Generic[T]):
    """Options that several tasks share. They apply to tasks that are started with its `task`.

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

    def __exit__(self, *exc_info: object) -> None:
        pass

    def task(self, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Push a task that calls *func*, with these options; see `Gator.task`."""
        return self.gator.enqueue(self.task_kwargs, func, args, kwargs)


def merge_options(*levels: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options; later levels override earlier ones.

    ``delay_by`` and ``delay_until`` replace each other.

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

    ``async``, the option's name before Python reserved the word, is accepted for ``is_async``. Raises
    `UnknownOption`, `InvalidOption` or `MultipleDelayError`.
    """
    checked = dict(options)
    if not checked:
        return checked
    if "async" in checked:
        checked["is_async"] = checked.pop("async")
    for name in ("is_async", "immediate", "always", "replace"):
        if name in checked:
            checked[name] = to_bool(name, checked[name])
    known = {*_parameters(task_class), "immediate", "always"}
    for name in checked:
        if name not in known and "**" not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, 1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}."
            )
            raise UnknownOption(f"A task takes no option {name!r}: {hint}")
    if checked.get("unique") is None and any(checked.get(name) for name in KEY_DETAILS):
        raise InvalidOption("unique_until, unique_for and replace need a key: give unique=, too.")
    if checked.get("delay_by") is not None and checked.get("delay_until") is not None:
        raise MultipleDelayError("Give delay_by or delay_until, not both.")
    for name, check in CHECKS.items():
        if checked.get(name) is not None:
            check(name, checked[name])
    return checked


def check_shared_options(
    options: Mapping[str, Any], task_class: Callable[..., Any]
) -> dict[str, Any]:
    """Return *options* that several tasks share, checked as by `check_options`."""
    for name in ("task_id", "unique", *KEY_DETAILS):
        if name in options:
            raise InvalidOption(
                f"{name} is an option of one task: shared by several, it would make all but the first "
                f"duplicates. Use gator.options({name}=...) at the call."
            )
    return check_options(options, task_class)


@lru_cache
def _parameters(task_class: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the parameters of *task_class*; ``**`` means any name."""
    try:
        parameters = signature(task_class).parameters.values()
    except Exception:  # without a signature, the class itself has to check the options
        return frozenset({"**"})
    return frozenset("**" if p.kind is p.VAR_KEYWORD else p.name for p in parameters)


def to_bool(name: str, value: object) -> bool:
    """Return the value of a switch: a bool, or a word as in environment variables.

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
    raise InvalidOption(f"{name} is one of {', '.join(TRUE + FALSE)}, not {_short_repr(value)}.")


TRUE = ("true", "1", "yes", "on", "t", "y")
FALSE = ("false", "0", "no", "off", "f", "n")


# Each check returns the value in the form that a task stores, or raises InvalidOption with the name
# of the option and the values that it takes.


def check_name(option: str, value: object) -> str:
    """Return a name of 1 to 200 printable characters."""
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        raise InvalidOption(f"{option} is 1 to 200 printable characters, not {_short_repr(value)}.")
    return value


def check_whole(option: str, value: object, *, least: int = 0, most: int = MAX_NUMBER) -> int:
    """Return a whole number from *least* to *most*; 3.0 is accepted, "3" and True are not."""
    if type(value) is int and least <= value <= most:
        return value
    try:
        number = int(value) if isinstance(value, float) else index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = -1
    if isinstance(value, bool) or number != value or not least <= number <= most:
        raise InvalidOption(
            f"{option} is a whole number from {least} to {most:,}, not {_short_repr(value)}."
        )
    return number


def check_seconds(
    option: str, value: object, *, least: float = 0.0, most: float = MAX_SECONDS
) -> float:
    """Return a number of seconds, from a number or a timedelta."""
    if isinstance(value, timedelta):
        number = value.total_seconds()
    else:
        try:
            number = float(value) if isinstance(value, int | float) else -inf
        except OverflowError:
            number = inf
    if isinstance(value, bool) or not least <= number <= most:  # also rejects NaN
        raise InvalidOption(
            f"{option} is a number of seconds from {least:g} to {most:,.0f}, or a timedelta, "
            f"not {_short_repr(value)}."
        )
    return number


def check_pauses(option: str, value: object) -> float | list[float]:
    """Return a number of seconds, or a list of them."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        return [check_seconds(option, pause) for pause in value]
    return check_seconds(option, value)


def to_timestamp(option: str, value: object) -> float:
    """Return a Unix timestamp. A naive datetime is local time; a date means its midnight."""
    moment = value
    if isinstance(value, date):
        if not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        try:
            moment = max(0.0, value.timestamp())
        except (OverflowError, ValueError, OSError):  # outside the range of the system's calendar
            moment = 0.0 if value.year < 1970 else inf
    is_number = isinstance(moment, int | float) and not isinstance(moment, bool)
    if not is_number or not 0 <= moment <= time() + MAX_SECONDS:  # type: ignore[operator]
        raise InvalidOption(
            f"{option} is a moment within 100 years from now: a Unix timestamp, a datetime or a "
            f"date, not {_short_repr(value)}."
        )
    return float(moment)  # type: ignore[arg-type]


def to_expiry(option: str, value: object) -> float:
    """Return a Unix timestamp, from a number of seconds, a timedelta, a datetime or a date."""
    if isinstance(value, date):
        return to_timestamp(option, value)
    return time() + check_seconds(option, value, least=0.001)


def check_headers(option: str, value: object) -> dict[str, str]:
    """Return a copy of a mapping of strings."""
    if not isinstance(value, Mapping) or not all(
        isinstance(part, str) for item in value.items() for part in item
    ):
        raise InvalidOption(f"{option} maps strings to strings, not {_short_repr(value)}.")
    return dict(value)


def check_timeout(option: str, value: object) -> float:
    """Return the time limit of an attempt, in seconds."""
    return check_seconds(option, value, least=0.001, most=MAX_TIMEOUT)


def check_priority(option: str, value: object) -> Priority:
    """Return one of the names of `LEVELS`."""
    if not isinstance(value, str) or value not in LEVELS:
        raise InvalidOption(f"{option} is one of {', '.join(LEVELS)}, not {_short_repr(value)}.")
    return value  # type: ignore[return-value]


def check_errors(option: str, value: object) -> list[str]:
    """Return the names of exceptions, from classes or names; one, or a sequence of them.

    >>> check_errors("retry_on", (OSError, "shop.errors.Busy"))
    ['builtins.OSError', 'shop.errors.Busy']
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_error_name(option, each) for each in value]
    return [_error_name(option, value)]


def _error_name(option: str, value: object) -> str:
    if isinstance(value, type) and issubclass(value, BaseException):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, str) and "." in value and value.isprintable():
        return value
    raise InvalidOption(
        f"{option} is an exception class, its name as package.module.Name, or a sequence of these, "
        f"not {_short_repr(value)}."
    )


def check_until(option: str, value: object) -> str:
    """Return until when a unique key is held: "start" or "done"."""
    if value not in ("start", "done"):
        raise InvalidOption(f'{option} is "start" or "done", not {_short_repr(value)}.')
    return str(value)


def check_shortest(option: str, value: object) -> float:
    """Return a number of seconds that is more than 0."""
    return check_seconds(option, value, least=0.001)


def check_hook(option: str, value: object) -> Hook:
    """Return a function that can be a hook."""
    if not callable(value):
        raise InvalidOption(f"{option} is a function, not {_short_repr(value)}.")
    check_runs(option, value)
    hook: Hook = value
    return hook


def _short_repr(value: object) -> str:
    try:
        return repr(value)[:80]
    except BaseException:  # a number of ten thousand digits, or a __repr__ that raises
        return f"this {type(value).__name__}"


CHECKS: dict[str, Callable[[str, object], object]] = {
    "task_id": check_name,
    "queue_name": check_name,
    "retries": check_whole,
    "delay_by": check_seconds,
    "delay_until": to_timestamp,
    "backoff": check_pauses,
    "timeout": check_timeout,
    "expires": to_expiry,
    "priority": check_priority,
    "unique": check_name,
    "unique_until": check_until,
    "unique_for": check_shortest,
    "limit_key": check_name,
    "retry_on": check_errors,
    "give_up_on": check_errors,
    "headers": check_headers,
    "on_start": check_hook,
    "on_success": check_hook,
    "on_error": check_hook,
}
