"""Compare a value with what was restored of it: an equal value of the same type, also inside it."""

from collections.abc import Iterable, Mapping
from datetime import datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID


class Difference(NamedTuple):
    """A place at which two values differ."""

    path: str
    """Where: empty for the values themselves, otherwise such as ``['at'][0]``."""
    before: Any
    after: Any


def difference(before: Any, after: Any) -> Difference | None:
    """Return the first difference; None if the values are equal and of the same types.

    >>> difference([1, (2,)], [1, (2,)])
    >>> difference({"a": [1]}, {"a": [1.0]})
    Difference(path="['a'][0]", before=1, after=1.0)
    """
    kind = type(before)
    if kind is not type(after):
        return Difference("", before, after)
    if isinstance(before, datetime | time):
        return None if _is_same_time(before, after) else Difference("", before, after)
    if isinstance(before, float | Decimal):  # -0.0 and NaN; Decimal("1.0") and Decimal("1.00")
        return None if repr(before) == repr(after) else Difference("", before, after)
    if isinstance(before, Enum | UUID):
        return None if before == after else Difference("", before, after)
    if isinstance(before, set | frozenset):
        if before != after:
            return Difference("", before, after)
        partner = {item: item for item in after}
        return _first("[…]", ((item, partner[item]) for item in before))
    if isinstance(before, dict):
        if len(before) != len(after):
            return Difference("", before, after)
        return _first(".keys()", zip(before, after, strict=True)) or _first_named(before, after)
    if isinstance(before, list | tuple):
        if len(before) != len(after):
            return Difference("", before, after)
        pairs = enumerate(zip(before, after, strict=True))
        return next((d for n, pair in pairs if (d := _at(f"[{n}]", *pair))), None)
    state = state_of(before)
    if state:
        others = state_of(after)
        if state.keys() != others.keys():
            return Difference("", before, after)
        return next((d for n in state if (d := _at(f".{n}", state[n], others[n]))), None)
    return None if before == after else Difference("", before, after)


def state_of(value: object) -> Mapping[str, Any]:
    """Return the attributes of an instance of a class with fields; none for other values."""
    kind: Any = type(value)
    if hasattr(kind, "__pydantic_fields__"):
        names = [*kind.__pydantic_fields__, "__pydantic_extra__", "__pydantic_private__"]
    else:
        names = (
            getattr(kind, "__struct_fields__", None)
            or getattr(kind, "__dataclass_fields__", None)
            or [field.name for field in getattr(kind, "__attrs_attrs__", ())]
        )
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _is_same_time(before: datetime | time, after: datetime | time) -> bool:
    # A time zone is lost in JSON: only its offset arrives. UTC has many names but one meaning.
    zone, other = before.tzinfo, after.tzinfo
    if before.fold != after.fold or before.replace(tzinfo=None) != after.replace(tzinfo=None):
        return False
    return zone == other or (
        zone is not None
        and before.utcoffset() == after.utcoffset()
        and before.tzname() == after.tzname() == "UTC"
    )


def _at(path: str, before: Any, after: Any) -> Difference | None:
    found = difference(before, after)
    return found and found._replace(path=path + found.path)


def _first(path: str, pairs: Iterable[tuple[Any, Any]]) -> Difference | None:
    return next((found for pair in pairs if (found := _at(path, *pair))), None)


def _first_named(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> Difference | None:
    return next(
        (d for key in before if (d := _at(f"[{key!r:.40}]", before[key], after[key]))), None
    )
