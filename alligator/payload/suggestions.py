"""Suggest the annotation that would restore a value."""

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

SIMPLE = frozenset({bool, int, float, str, bytes, date, datetime, time, timedelta, Decimal, UUID})

FIELDS = (
    "__struct_fields__",
    "__dataclass_fields__",
    "__attrs_attrs__",
    "__pydantic_validator__",
    "_fields",
)
"""What classes have that msgspec or pydantic restores."""

MAX_DEPTH = 4
MAX_ITEMS = 1_000


def suggest(value: Any, depth: int = MAX_DEPTH) -> str:
    """Return an annotation, as it is written; empty if there is none.

    >>> suggest({1: [UUID(int=0)]}), suggest((1, "a")), suggest(object())
    ('dict[int, list[UUID]]', 'tuple[int, str]', '')
    """
    kind = type(value)
    if value is None:
        return "None"
    if kind in SIMPLE or isinstance(value, Enum) or any(hasattr(kind, name) for name in FIELDS):
        return kind.__qualname__
    if depth == 0 or kind not in (list, dict, set, frozenset, tuple):
        return ""
    depth -= 1
    if kind is dict:
        if any(key is None or isinstance(key, bool | tuple) for key in value):
            return ""  # no annotation restores such keys
        keys, values = _union(value, depth), _union(value.values(), depth)
        return keys and values and f"dict[{keys}, {values}]"
    if kind is tuple and 0 < len(value) <= 4:
        each = [suggest(item, depth) for item in value]
        return f"tuple[{', '.join(each)}]" if all(each) else ""
    items = _union(value, depth)
    if kind is tuple:
        return items and f"tuple[{items}, ...]"
    return items and f"{kind.__name__}[{items}]"


def _union(values: Iterable[Any], depth: int) -> str:
    """Return the annotation of the items; empty if they are too many or have none."""
    found: dict[str, None] = {}
    for number, value in enumerate(values):
        if number == MAX_ITEMS:
            return ""
        found[suggest(value, depth)] = None
    return " | ".join(found or ["str"]) if "" not in found else ""
