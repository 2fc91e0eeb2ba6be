"""Two values differ if they are not equal or not of the same types, also inside them."""

from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from alligator.payload.equality import Difference, difference
from tests.harness.typed_tasks import Customer, Level, Order, Same, Stock, Visit

ID = UUID(int=1)
DAY = datetime(2026, 1, 1)


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        (1, True, ""),
        (1, 1.0, ""),
        (0.0, -0.0, ""),
        (Level.LOW, 1, ""),
        (Decimal("1.0"), Decimal("1.00"), ""),
        ([1, [2, (3,)]], [1, [2, [3]]], "[1][1]"),
        ([1], [1, 2], ""),
        ({1}, {1.0}, "[…]"),
        ({1}, {2}, ""),
        ({"a": 1}, {"a": 1.0}, "['a']"),
        ({1: "a"}, {True: "a"}, ".keys()"),
        ({"a": 1}, {"a": 1, "b": 2}, ""),
        (Order(ID, {"a"}), Order(ID, {"b"}), ".tags"),
        (Order(ID, parent=Order(ID)), Order(ID, parent=Order(UUID(int=2))), ".parent.id"),
        (Same(DAY), Same(DAY.replace(year=2027)), ".at"),
        (Stock(ID, 1), Stock(ID, True), ".number"),
        (Visit(ID, DAY.date()), Visit(ID, DAY), ".day"),
        (Customer(id=ID, since=DAY), Customer(id=ID, since=DAY.replace(fold=1)), ".since"),
        (DAY, DAY.replace(fold=1), ""),
        (DAY, DAY.replace(tzinfo=UTC), ""),
        (DAY.replace(tzinfo=ZoneInfo("Europe/London")), DAY.replace(tzinfo=UTC), ""),
        (time(1), time(1, fold=1), ""),
    ],
)
def test_values_that_differ_are_found(before: Any, after: Any, path: str) -> None:
    found = difference(before, after)

    assert found is not None
    assert found.path == path


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (float("nan"), float("nan")),
        (Decimal("NaN"), Decimal("NaN")),
        (Same(DAY.date()), Same(DAY.date())),
        (DAY.replace(tzinfo=ZoneInfo("UTC")), DAY.replace(tzinfo=UTC)),
        (DAY.replace(tzinfo=UTC), DAY.replace(tzinfo=timezone(timedelta()))),
        ({1, "a", None}, {None, "a", 1}),
    ],
)
def test_values_that_are_the_same_have_no_difference(before: Any, after: Any) -> None:
    assert difference(before, after) is None


def test_difference_holds_both_values() -> None:
    assert difference([1], [2]) == Difference("[0]", 1, 2)
