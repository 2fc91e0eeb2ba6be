"""The annotation of one parameter is found and evaluated, whatever the others are."""

import functools
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any, TypedDict, Unpack
from uuid import UUID

import pytest

from alligator.payload.functions import callee_of
from alligator.payload.hints import Unrestorable, hint_of
from tests.harness.typed_tasks import Order, Shop, annotated, bare, book

ID = UUID(int=1)


class Named(TypedDict):
    order: UUID


def by_name(**kwargs: Unpack[Named]) -> None: ...


def has_one_that_is_missing(order: UUID, other: "Nowhere") -> "Nowhere": ...  # type: ignore[name-defined]  # noqa: F821


def passes_on(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper


class Sender:
    def __call__(self, order: UUID) -> None: ...

    def send(self, order: UUID) -> None: ...


@pytest.mark.parametrize(
    ("func", "place", "text"),
    [
        (book, 0, "UUID"),
        (book, "at", "datetime"),
        (book, 2, "date"),
        (book, 7, "date"),
        (book, "every", "timedelta"),
        (book, "other", "Decimal"),
        (bare, 0, ""),
        (bare, 5, ""),
        (bare, "unknown", ""),
        (print, 0, ""),
        (dict, "a", ""),
        (Shop.open, 1, "Shop.Kind"),
        (Shop, 0, "UUID"),
        (Order, "id", "UUID"),
        (Sender(), 0, "UUID"),
        (Sender().send, 0, "UUID"),
        (partial(book, ID), 1, "date"),
        (passes_on(passes_on(book)), 0, "UUID"),
        (passes_on(book), "other", "Decimal"),
        (has_one_that_is_missing, 0, "UUID"),
        (by_name, "order", "UUID"),
        (annotated(dict[int, list[UUID]] | None), 0, "dict[int, list[UUID]] | None"),
    ],
)
def test_annotation_of_a_parameter_is_found(func: Any, place: int | str, text: str) -> None:
    assert hint_of(func, place).text == text


def test_annotation_restores_what_it_describes() -> None:
    hint = hint_of(book, 0)

    assert hint.lower(ID) == str(ID)
    assert hint.restore(str(ID), "UUID") == ID
    with pytest.raises(Unrestorable, match="Expected `uuid`, got `int`"):
        hint.restore(7, "UUID")
    with pytest.raises(Unrestorable, match="Invalid UUID"):
        hint.lower(date(2026, 1, 1))


@pytest.mark.parametrize("func", [has_one_that_is_missing, annotated("1 / 0")])
def test_annotation_that_cannot_be_evaluated_restores_nothing(func: Any) -> None:
    hint = hint_of(func, "other" if func is has_one_that_is_missing else 0)

    with pytest.raises(Unrestorable, match=r"cannot be evaluated .*import the name"):
        hint.lower(ID)
    with pytest.raises(Unrestorable, match=r"cannot be evaluated .*import the name"):
        hint.restore(str(ID), "UUID")


def test_method_of_a_value_that_raises_is_no_more_than_unrestorable() -> None:
    class Breaks(dict[str, int]):
        def __eq__(self, other: object) -> bool:
            raise SystemError

        __hash__ = None

    with pytest.raises(Unrestorable):
        hint_of(annotated(dict[str, int]), 0).lower(Breaks())


def test_name_that_looks_like_a_position_has_no_annotation() -> None:
    assert hint_of(by_name, "0").text == hint_of(book, "0").text == ""


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (UUID, str(ID)),
        (UUID, 7),
        (int, "7"),
        (str, 7),
        (date, "2026-01-01"),
        (set[int], [1]),
        (list[int], ["a"]),
        (Order, {"id": str(ID)}),
        (UUID | date, "x"),
        (str, True),
    ],
)
def test_plain_value_of_another_type_is_a_misfit(annotation: Any, value: Any) -> None:
    assert hint_of(annotated(annotation), 0).misfit(value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str, "a"),
        (str, None),
        (int, True),
        (float, 7),
        (Any, 7),
        (tuple[int, ...], [1]),
        (UUID | str, "x"),
        (UUID | Sender, 7),
        (Sender, {}),
        (Callable[[], int], 7),
        (dict[str, Any], {"a": [1]}),
        ("Nowhere", 7),
    ],
)
def test_plain_value_that_may_have_the_type_is_no_misfit(annotation: Any, value: Any) -> None:
    assert not hint_of(annotated(annotation), 0).misfit(value)


def test_annotation_that_cannot_be_evaluated_yet_is_tried_again() -> None:
    callee = callee_of(annotated("DefinedLater"))
    assert not callee.hint(0).is_evaluated

    callee.func.__globals__["DefinedLater"] = UUID

    assert callee.hint(0).lower(ID) == str(ID)
    del callee.func.__globals__["DefinedLater"]
