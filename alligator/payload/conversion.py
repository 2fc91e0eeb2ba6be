"""Convert values to types of JSON and back, by their annotated type: msgspec, pydantic and unions."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import GenericAlias, UnionType
from typing import Annotated, Any, Literal, NewType, Optional, Union, get_args, get_origin
from uuid import UUID

import msgspec

from .encoding import encode

PLAIN = frozenset({str, int, float, bool, type(None), list, dict, Any, object})
"""JSON's own types, and types that allow any value. A union tries its other members first."""


class NoForm(TypeError):
    """A type has no form in JSON."""


READ_AS_LIST = frozenset({Iterable, Collection})
"""Abstract types that msgspec does not support."""

ALWAYS_RESTORED = frozenset({UUID, Decimal, date, timedelta, bytes})
"""Types whose values are always restored, so that this is not tried for each value."""


def is_always_restored(value: Any) -> bool:
    """Return whether *value* is restored by an annotation of exactly its type, whatever it is."""
    if type(value) is datetime:
        return value.fold == 0 and (value.tzinfo is None or value.tzinfo is UTC)
    return type(value) in ALWAYS_RESTORED


def to_json(value: Any) -> Any:
    """Return *value* in types of JSON; raises any exception if it cannot be converted."""
    return msgspec.to_builtins(value, str_keys=True, enc_hook=_dump)


def from_json(value: Any, kind: Any) -> Any:
    """Return the value of the type *kind*, which `rewrite` returned; raises any exception."""
    return msgspec.convert(value, kind, str_keys=True, dec_hook=_load)


class OneOf(type):
    """A union that msgspec does not support, as a class that it leaves to `_load`.

    Every object passes as its instance.
    """

    members: Sequence[Any]

    def __instancecheck__(cls, instance: object) -> bool:
        return True

    def restore(cls, value: Any, kind: str = "") -> Any:
        """Return the value of the first member that restores *value*; first the one named *kind*."""
        members = (
            sorted(cls.members, key=lambda member: _name(member) != kind) if kind else cls.members
        )
        kind_of_error: type[Exception] = ValueError
        for member in members:
            try:
                found = from_json(value, member)
                if to_json(found) == value:  # a class may ignore fields of another one
                    return found
            except Exception as error:  # each class has errors of its own
                if isinstance(error.__cause__, NoForm):
                    kind_of_error = NoForm
        names = " or ".join(map(_name, cls.members))
        raise kind_of_error(f"{names} expected, not {value!r:.60}")


def rewrite(kind: Any) -> Any:
    """Return the annotated type in a form that msgspec supports."""
    if isinstance(kind, list):  # the parameters of a Callable
        return kind
    if kind is float:
        return int | float  # an int is accepted where a float is expected, and stays one
    if isinstance(kind, NewType):
        return rewrite(kind.__supertype__)
    if hasattr(kind, "__value__") and type(kind).__name__ == "TypeAliasType":  # Python 3.12
        return rewrite(kind.__value__)
    origin, args = get_origin(kind), get_args(kind)
    if kind in READ_AS_LIST or origin in READ_AS_LIST:
        return GenericAlias(list, (rewrite(args[0]),)) if args else list
    if not args or origin is Literal:
        return kind
    if origin is Annotated:
        return Annotated[rewrite(args[0]), *kind.__metadata__]
    new = tuple(map(rewrite, args))
    if origin in (Union, UnionType):
        return _union(new)
    if (
        new == args
        or not isinstance(origin, type)
        or not origin.__module__.startswith(("builtins", "collections"))
    ):
        return kind
    return GenericAlias(origin, new)


def mentions_tuple(kind: Any) -> bool:
    """Return whether a tuple may be the value of a type, or part of it."""
    if isinstance(kind, OneOf):
        return any(map(mentions_tuple, kind.members))
    origin = get_origin(kind) or kind
    is_tuple = isinstance(origin, type) and issubclass(origin, tuple)
    return is_tuple or any(map(mentions_tuple, get_args(kind)))


def _union(members: tuple[Any, ...]) -> Any:
    try:
        msgspec.json.Decoder(Union[members])  # noqa: UP007
    except TypeError:
        rest = [member for member in members if member is not type(None)]
        rest.sort(key=_is_plain)
        union = OneOf(" | ".join(map(_name, rest)), (), {"members": rest})
        return union if len(rest) == len(members) else Optional[union]  # noqa: UP045
    return Union[members]  # noqa: UP007


def _is_plain(kind: Any) -> bool:
    origin, args = get_origin(kind), get_args(kind)
    if origin is dict and args[0] is not str:
        return False
    return kind in PLAIN or (origin in PLAIN and all(map(_is_plain, args)))


def _name(kind: Any) -> str:
    origin = get_origin(kind) or kind
    return getattr(origin, "__name__", None) or str(kind)


def _dump(value: Any) -> Any:
    """Convert what msgspec leaves to us: models of pydantic."""
    if hasattr(type(value), "__pydantic_serializer__"):
        return value.model_dump(mode="json", by_alias=True, round_trip=True)
    raise NoForm(f"{type(value).__name__} has no form in JSON")


def _load(kind: Any, value: Any) -> Any:
    if isinstance(kind, OneOf):
        return kind.restore(value)
    if hasattr(kind, "__pydantic_validator__"):
        # As JSON, because then a model in strict mode takes a string for a date.
        return kind.model_validate_json(encode(value))
    raise NoForm(f"{_name(kind)} has no form in JSON")
