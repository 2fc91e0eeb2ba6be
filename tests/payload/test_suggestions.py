"""Annotations are suggested as they are written."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from alligator.payload.hints import suggest
from tests.harness.typed_tasks import Color, Customer, Order, Point, Shop

ID = UUID(int=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ID, "UUID"),
        (NOW, "datetime"),
        (Color.RED, "Color"),
        (Shop.Kind.BIG, "Shop.Kind"),
        (Order(ID), "Order"),
        (Customer(id=ID, since=NOW), "Customer"),
        (Point(1, NOW), "Point"),
        ({1, 2}, "set[int]"),
        (set(), "set[str]"),
        ([ID, "a", None], "list[UUID | str | None]"),
        ({ID: {"a": Decimal(1)}}, "dict[UUID, dict[str, Decimal]]"),
        ((1, "a"), "tuple[int, str]"),
        ((1, 2, 3, 4, 5), "tuple[int, ...]"),
    ],
)
def test_value_has_an_annotation(value: Any, expected: str) -> None:
    assert suggest(value) == expected


@pytest.mark.parametrize(
    "value",
    [object(), 1j, [object()], {(1, 2): 3}, {True: 1}, {None: 1}, (object(),), [[[[[1]]]]]],
)
def test_no_annotation_is_suggested_where_none_would_do(value: Any) -> None:
    assert suggest(value) == ""


def test_value_that_contains_itself_has_none() -> None:
    endless: list[Any] = []
    endless.append(endless)

    assert suggest(endless) == ""
