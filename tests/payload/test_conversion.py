"""Types are rewritten for msgspec, and a union takes the member that gives the same JSON."""

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from typing import Any, Literal, Optional
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alligator.payload.conversion import (
    OneOf,
    from_json,
    is_always_restored,
    mentions_tuple,
    rewrite,
    to_json,
)
from alligator.payload.encoding import decode, encode
from alligator.payload.equality import difference
from tests.harness.typed_tasks import Mail, Order, Sms, UserId

ID = UUID(int=1)


@pytest.mark.parametrize(
    "kind",
    [
        int,
        list[int],
        dict[str, Any],
        UUID | None,
        Literal["a"],
        Order,
        tuple[()],
        Callable[[], int],
    ],
    ids=str,
)
def test_type_that_msgspec_supports_stays_as_it_is(kind: Any) -> None:
    assert rewrite(kind) == kind


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (float, int | float),
        (list[float], list[int | float]),
        (UserId, UUID),
        (Iterable[UUID], list[UUID]),
        (Iterable, list),
        (Optional[list[UserId]], Optional[list[UUID]]),  # noqa: UP045
    ],
    ids=str,
)
def test_type_that_it_does_not_support_is_replaced(kind: Any, expected: Any) -> None:
    assert rewrite(kind) == expected


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (datetime | date, "2026-01-02", date(2026, 1, 2)),
        (str | UUID, str(ID), ID),
        (Sms | Mail, {"to": "a", "subject": "b"}, Mail("a", "b")),
        (list[Mail | Sms | None], [{"to": "a"}, None], [Sms("a"), None]),
    ],
    ids=str,
)
def test_union_takes_the_member_that_gives_the_same_json(
    kind: Any, value: Any, expected: Any
) -> None:
    assert from_json(value, rewrite(kind)) == expected


def test_union_prefers_the_member_with_the_name_of_the_type() -> None:
    union = rewrite(set[int] | frozenset[int])

    assert isinstance(union, OneOf)
    assert type(union.restore([1], "frozenset")) is frozenset
    assert type(union.restore([1], "set")) is set
    with pytest.raises(ValueError, match="set or frozenset expected, not 'x'"):
        union.restore("x")


def test_value_without_a_form_in_json_raises() -> None:
    with pytest.raises(TypeError, match="object has no form in JSON"):
        to_json(object())
    with pytest.raises(msgspec.ValidationError, match="object has no form in JSON"):
        from_json({}, object)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (tuple, True),
        (list[tuple[int, ...]], True),
        (rewrite(set[int] | tuple[int, ...]), True),
        (list[int], False),
        (Any, False),
    ],
    ids=str,
)
def test_types_that_mention_a_tuple_are_known(kind: Any, expected: bool) -> None:
    assert mentions_tuple(kind) is expected


@given(
    st.uuids()
    | st.decimals()
    | st.dates()
    | st.timedeltas()
    | st.binary()
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.timezones(), allow_imaginary=False)
)
def test_value_that_is_not_tried_is_always_restored(value: Any) -> None:
    if is_always_restored(value):
        restored = from_json(decode(encode(to_json(value))), type(value))

        assert difference(value, restored) is None
