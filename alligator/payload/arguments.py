"""The arguments of a call: they arrive as they were passed, or the call raises an error.

Values of JSON's own types are written as they are. All others are written only if the annotation of
their parameter restores them, which is tried at the call. The payload lists these in ``typed``, each
with the name of its type; a position is written as a string, because it is a key.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, time
from math import isfinite
from typing import Any

from ..exceptions import IncompatibleArguments, NotSerializable, PayloadError, WrongArguments
from .encoding import ENCODING_ERRORS, encode, encode_any
from .envelope import Envelope
from .functions import Callee, callee_of
from .hints import Hint, Unrestorable, suggest

SCALARS = frozenset({int, str, bool, type(None)})
"""The types that JSON always gives back; a float may be NaN."""

LISTS: tuple[type, ...] = (list,)
LISTS_AND_TUPLES: tuple[type, ...] = (list, tuple)

MAX_SHOWN = 60
"""How many characters of a value an error message shows."""


Lowered = tuple[Sequence[Any], Mapping[str, Any], dict[str, str] | None]
"""Arguments in types of JSON; those that annotations restore, with the names of their types."""


def lower(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Lowered:
    """Return the arguments in types of JSON.

    Raises `NotSerializable` if one of them would not arrive as it was passed.
    """
    try:
        for value in args:
            if type(value) not in SCALARS and not _is_plain(value, LISTS):
                break
        else:
            for value in kwargs.values():
                if type(value) not in SCALARS and not _is_plain(value, LISTS):
                    break
            else:
                return args, kwargs, None
    except RecursionError:
        pass  # the argument at fault is found below
    return _lower_each(callee_of(func), args, kwargs)


def _lower_each(callee: Callee, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Lowered:
    typed: dict[str, str] = {}

    def lowered(place: int | str, value: Any) -> Any:
        try:
            if _is_plain(value, LISTS):
                return value
        except RecursionError:
            raise NotSerializable(
                f"{callee.name_at(place)!r} of {callee.name} cannot be written as JSON: it contains "
                "itself, or is nested too deeply. Pass plain data, an id for instance."
            ) from None
        hint = callee.hint(place)
        try:
            found = hint.lower(value)
        except Unrestorable as error:
            if is_plain(value, and_tuples=True) and not hint.has_tuples:
                return value
            text = _without_marks(value)
            if is_plain(text) and hint.takes(text):
                return text
            raise _not_serializable(callee, place, value, hint, error) from None
        typed[str(place)] = type(value).__name__
        return found

    args = [lowered(place, value) for place, value in enumerate(args)]
    kwargs = {name: lowered(name, value) for name, value in kwargs.items()}
    return args, kwargs, typed or None


def _without_marks(value: Any) -> Any:
    """Return *value* with a `str` for each text that is marked as safe in HTML.

    The templates of Django return such texts, and ``str()`` leaves the mark on them.
    """
    if isinstance(value, str) and hasattr(value, "__html__"):
        return str.__str__(value)
    if type(value) is list:
        return [_without_marks(item) for item in value]
    if type(value) is dict:
        return {_without_marks(key): _without_marks(item) for key, item in value.items()}
    return value


def restore(func: Callable[..., Any], call: Envelope) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the arguments of a payload as they were passed.

    Raises `IncompatibleArguments` if the annotations of the function do not restore them.
    """
    if not call.typed:
        return tuple(call.args), call.kwargs
    callee = callee_of(func)
    args, kwargs = list(call.args), dict(call.kwargs)
    for place, kind in call.typed.items():
        try:
            if place.isdecimal():
                args[int(place)] = _restored(callee, int(place), args[int(place)], kind)
            else:
                kwargs[place] = _restored(callee, place, kwargs[place], kind)
        except (LookupError, ValueError):
            raise PayloadError(f"this is not a task: it has no argument {place!r:.80}") from None
    return tuple(args), kwargs


def check_call(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise `IncompatibleArguments` if the function, as it is here, does not take the arguments."""
    try:
        callee_of(func).check(args, kwargs)
    except WrongArguments as error:
        raise IncompatibleArguments(
            f"{error} The payload holds {_shown_call(args, kwargs)}."
        ) from None


def misfit(func: Callable[..., Any], call: Envelope) -> str:
    """Return which plain argument of a payload does not have its annotated type; empty if all have.

    It would arrive all the same, because values of JSON's own types always do.
    """
    callee = callee_of(func)
    places: list[int | str] = [*range(len(call.args)), *call.kwargs]
    for place, value in zip(places, [*call.args, *call.kwargs.values()], strict=True):
        if str(place) not in (call.typed or {}) and callee.hint(place).misfit(value):
            return (
                f"{callee.name_at(place)!r} of {callee.name} is annotated "
                f"{callee.hint(place).text}, but the payload holds the {type(value).__name__} "
                f"{_shown(value)}."
            )
    return ""


def _restored(callee: Callee, place: int | str, value: Any, kind: str) -> Any:
    hint = callee.hint(place)
    try:
        return hint.restore(value, kind)
    except Unrestorable as error:
        raise IncompatibleArguments(
            f"{callee.name_at(place)!r} of {callee.name} cannot be restored: the payload holds the "
            f"{kind:.80} {_shown(value)}, and {_whose(hint)}{error}."
        ) from None


def is_plain(value: object, *, and_tuples: bool = False) -> bool:
    """Return whether JSON gives *value* back as it is; with *and_tuples*, a tuple as a list.

    >>> is_plain([1, {"a": None}]), is_plain({1: 2}), is_plain((1, 2))
    (True, False, False)
    """
    try:
        return _is_plain(value, LISTS_AND_TUPLES if and_tuples else LISTS)
    except RecursionError:
        return False


def _is_plain(value: Any, lists: tuple[type, ...]) -> bool:
    kind = type(value)
    if kind in SCALARS:
        return True
    if kind is float:
        return isfinite(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        value = value.values()
    elif kind not in lists:
        return False
    for item in value:  # a loop, because it is faster than all()  # noqa: SIM110
        if type(item) not in SCALARS and not _is_plain(item, lists):
            return False
    return True


def check_plain(option: str, value: object) -> None:
    """Raise `NotSerializable` if the value of an option does not consist of types of JSON."""
    if not is_plain(value):
        raise NotSerializable(f"{option} cannot be written as JSON: {value!r:.80}. Pass strings.")


def encoding_error(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], error: Exception
) -> NotSerializable:
    """Return the exception for a payload that cannot be written; it names an argument at fault."""
    callee = callee_of(func)
    places: list[int | str] = [*range(len(args)), *kwargs]
    for place, value in zip(places, [*args, *kwargs.values()], strict=True):
        try:
            encode(value)
        except ENCODING_ERRORS:
            name = callee.name_at(place)
            return NotSerializable(
                f"{name!r} of {callee.name} cannot be written as JSON: {type(value).__name__}, "
                f"{error}. Pass plain data, an id for instance, and look the rest up in the task."
            )
    return NotSerializable(f"{callee.name} cannot be written as JSON: {error}")


def _not_serializable(
    callee: Callee, place: int | str, value: Any, hint: Hint, error: Unrestorable
) -> NotSerializable:
    name = callee.name_at(place)
    path, culprit = (error.found.path, error.found.before) if error.found else ("", value)
    subject = f"{name!r} of {callee.name}"
    keys = [*_changed_keys(value)][:1]
    if keys and (not path or culprit is keys[0] or isinstance(culprit, tuple)):
        subject += (
            f" has the dict key {keys[0]!r:.40} ({type(keys[0]).__name__}), which JSON would "
        )
        subject += "change into a string"
    else:
        at = f"{name}{path}" if path else "it"
        subject += f" cannot be written as JSON and restored: {at} is {_described(culprit)}"
    advice = "pass plain data, an id for instance, and look the rest up in the task"
    annotation = suggest(value)
    if (
        isinstance(culprit, datetime | time)
        and culprit.tzinfo
        and type(culprit).__name__ in hint.text
    ):
        advice = (
            "pass it in UTC (astimezone(timezone.utc)): JSON keeps no time zone, only its offset"
        )
    elif annotation and annotation != hint.text:
        advice = f"annotate the parameter as {name}: {annotation}, or {advice}"
    return NotSerializable(f"{subject}; {_whose(hint)}{error}. {advice[0].upper()}{advice[1:]}.")


def _whose(hint: Hint) -> str:
    return f"its annotation {hint.text} " if hint.text else "it "


def _described(value: object) -> str:
    kind = type(value).__name__
    if isinstance(value, float) and not isfinite(value):
        return f"the float {value}"
    return f"{'an' if kind[:1].lower() in 'aeio' else 'a'} {kind}"


def _changed_keys(value: object) -> Iterator[object]:
    """Yield the keys that JSON would change into strings, of a dict and of those in it."""
    rest, seen = [value], set()
    while rest:
        value = rest.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            yield from (key for key in value if type(key) in (int, float, bool, type(None)))
            rest.extend(value.values())
        elif isinstance(value, list | tuple):
            rest.extend(value)


def _shown(value: object) -> str:
    try:
        text = encode_any(value)
    except ENCODING_ERRORS:
        text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _shown_call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    given = [_shown(value) for value in args[:10]]
    given += [f"{name}={_shown(value)}" for name, value in [*kwargs.items()][:10]]
    return f"({', '.join(given)})"
