"""The annotation of a parameter: what it restores from JSON, and which one would restore a value."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from inspect import Parameter
from types import FunctionType, MethodType
from typing import Any, Unpack, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

from .._runtime.failures import describe
from .._runtime.signatures import signature
from ..constants import MAX_WRAPPERS
from .conversion import (
    NoForm,
    OneOf,
    from_json,
    is_always_restored,
    mentions_tuple,
    rewrite,
    to_json,
)
from .encoding import decode, encode
from .equality import Difference, difference

MODULES = re.compile(r"\b(?:[^\W\d]\w*\.)+(?=[^\W\d])")
"""The modules in an annotation; left out, it is written as in most programs."""

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


class Unrestorable(Exception):
    """An annotation does not restore a value. The text is a predicate: "would make it 'a' (str)"."""

    def __init__(self, why: str, found: Difference | None = None) -> None:
        super().__init__(why)
        self.found = found
        """The difference between the value and what would be restored of it."""


class Hint:
    """The annotation of one parameter."""

    def __init__(self, annotation: Any, problem: str = "") -> None:
        self.text: str = "" if annotation is Parameter.empty else _text(annotation)
        """The annotation as it is written; empty if there is none."""
        self.is_evaluated: bool = not problem
        """Whether it was evaluated; if not, the names in it may be defined later."""
        self._problem = problem
        self._type: Any = Any
        if annotation is Parameter.empty:
            self._problem = "has no annotation that restores it"
        elif not problem:
            self._type = rewrite(annotation)
        self.has_tuples: bool = mentions_tuple(self._type)
        """Whether a tuple should arrive as one."""

    def lower(self, value: Any) -> Any:
        """Return *value* in types of JSON; raises `Unrestorable` if it would not be restored."""
        if self._problem:
            raise Unrestorable(self._problem)
        if type(value) is self._type and is_always_restored(value):
            return to_json(value)
        try:
            lowered = decode(encode(to_json(value)))
            restored = self.restore(lowered, type(value).__name__)
            found = difference(value, restored)
        except Unrestorable:
            raise
        except Exception as error:  # methods of the value may raise anything
            raise Unrestorable(f"does not restore it: {describe(error)}") from None
        if found is not None:
            after = found.after
            raise Unrestorable(f"would make it {after!r:.80} ({type(after).__name__})", found)
        return lowered

    def takes(self, value: Any) -> bool:
        """Return whether *value*, in types of JSON, has the annotated type, or none is annotated."""
        if not self.text:
            return True
        try:
            self.lower(value)
        except Unrestorable:
            return False
        return True

    def restore(self, lowered: Any, kind: str) -> Any:
        """Return the value of type *kind* that was lowered; raises `Unrestorable`."""
        if self._problem:
            raise Unrestorable(self._problem)
        try:
            if isinstance(self._type, OneOf):
                return self._type.restore(lowered, kind)
            return from_json(lowered, self._type)
        except Exception as error:  # the annotation may run code of the program
            raise Unrestorable(f"does not restore it: {describe(error)}") from None

    def misfit(self, value: Any) -> bool:
        """Return whether *value*, in types of JSON, certainly does not have the annotated type.

        A list counts as a tuple, because a payload of an older Alligator has it in its place, and a
        bool as an int.
        """
        if self._problem or value is None:
            return False
        try:
            found = difference(value, from_json(value, self._type))
        except msgspec.ValidationError as error:
            if isinstance(error.__cause__, NoForm):
                return False
            return self.misfit(int(value)) if type(value) is bool else True
        except Exception:  # a type that msgspec does not know, or that runs code of the program
            return False
        return found is not None and not isinstance(found.after, tuple)


def hint_of(func: Callable[..., Any], place: int | str) -> Hint:
    """Return the annotation of the parameter of *func* at a position, or of that name.

    Only this annotation is evaluated. A decorator that passes its arguments on, and has declared so
    with `functools.wraps`, has the annotations of the function that it wraps. A name that is no
    identifier has none, because a number would be taken for a position.
    """
    if isinstance(place, str) and not place.isidentifier():
        return Hint(Parameter.empty)
    for _ in range(MAX_WRAPPERS):
        try:
            found = _parameter(func, place)
        except Exception:  # some builtins have no signature, and a custom one may raise anything
            break
        if found is None:
            break
        inner = getattr(func, "__wrapped__", None)
        if found.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD) or inner is None:
            return _hint(func, found, place)
        func = inner
    return Hint(Parameter.empty)


def _parameter(func: Callable[..., Any], place: int | str) -> Parameter | None:
    parameters = [*signature(func, follow_wrapped=False).parameters.values()]
    if isinstance(place, str):
        named = [each for each in parameters if each.name == place]
        rest = [each for each in parameters if each.kind is Parameter.VAR_KEYWORD]
        return (named + rest)[0] if named or rest else None
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    positional = [each for each in parameters if each.kind in kinds]
    rest = [each for each in parameters if each.kind is Parameter.VAR_POSITIONAL]
    return [*positional[place : place + 1], *rest, None][0]


def _hint(func: Callable[..., Any], parameter: Parameter, place: int | str) -> Hint:
    annotation: Any = "?"
    try:
        function, owner = _annotated(func)
        annotation = _annotations(function).get(parameter.name, Parameter.empty)
        if annotation is Parameter.empty:
            return Hint(annotation)
        annotation = _evaluate(annotation, function, owner)
        if get_origin(annotation) is Unpack:  # **kwargs: Unpack[SomeTypedDict]
            annotation = get_type_hints(get_args(annotation)[0], include_extras=True)[str(place)]
        return Hint(annotation)
    except Exception as error:  # an annotation is an expression of the program
        return Hint(
            annotation,
            f"cannot be evaluated ({describe(error)}), so it restores nothing: import the name "
            "at run time, too, not only for type checkers",
        )


def _annotated(func: Any) -> tuple[Any, Mapping[str, Any]]:
    """Return the function that has the annotations of *func*, and the names of its class."""
    if isinstance(func, partial):
        return _annotated(func.func)
    if isinstance(func, MethodType):
        owner = func.__self__ if isinstance(func.__self__, type) else type(func.__self__)
        return func.__func__, vars(owner)
    if isinstance(func, FunctionType):
        return func, {}
    if isinstance(func, type):
        made = getattr(func, "__init__", None)
        return made if isinstance(made, FunctionType) else func.__new__, vars(func)
    return type(func).__call__, vars(type(func))


def _annotations(function: Any) -> Mapping[str, Any]:
    if sys.version_info >= (3, 14):
        from annotationlib import Format, get_annotations

        return get_annotations(function, format=Format.FORWARDREF)
    found = getattr(function, "__annotations__", {})
    return found if isinstance(found, dict) else {}


def _evaluate(annotation: Any, function: Any, owner: Mapping[str, Any]) -> Any:
    def holder() -> None: ...

    holder.__annotations__ = {"value": annotation}
    scope = getattr(function, "__globals__", {})
    return get_type_hints(holder, globalns=scope, localns=owner, include_extras=True)["value"]


def _text(annotation: Any) -> str:
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__qualname__
    return MODULES.sub("", str(annotation))


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
