"""Arguments arrive as they were passed, or the call raises."""

import collections
import functools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alligator import Gator, Task, Worker
from alligator.exceptions import IncompatibleArguments, NotSerializable
from alligator.payload import arguments
from alligator.payload.envelope import Envelope
from alligator.payload.equality import difference
from alligator.testing import capture, sync
from tests.harness.payloads import payload
from tests.harness.typed_tasks import (
    Checked,
    Color,
    Customer,
    Event,
    Ids,
    Level,
    Mail,
    Order,
    Pair,
    Point,
    Rights,
    Same,
    Secret,
    Shop,
    Size,
    Sms,
    Stock,
    Strict,
    UserId,
    Visit,
    Weight,
    annotated,
    arrived,
    bare,
    book,
)

ID = UUID("12345678-1234-5678-1234-567812345678")
NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
PLUS_5_30 = timezone(timedelta(hours=5, minutes=30))


@pytest.fixture(autouse=True)
def nothing_arrived() -> Iterator[None]:
    arrived.clear()
    yield
    arrived.clear()


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


RESTORED = [
    (datetime, NOW),
    (datetime, datetime(2026, 1, 1)),
    (datetime, datetime(2026, 1, 1, tzinfo=PLUS_5_30)),
    (datetime, datetime(2026, 1, 1, tzinfo=ZoneInfo("Etc/UTC"))),
    (datetime, datetime.max),
    (date, date(2026, 1, 2)),
    (time, time(1, 2, 3, 4)),
    (time, time(1, 2, tzinfo=UTC)),
    (timedelta, timedelta(days=-3, microseconds=7)),
    (timedelta, timedelta.min),
    (UUID, ID),
    (Decimal, Decimal("1.10")),
    (Decimal, Decimal("NaN")),
    (Decimal, Decimal("1E+400")),
    (Color, Color.RED),
    (Level, Level.LOW),
    (Size, Size.SMALL),
    (Rights, Rights.READ | Rights.WRITE),
    (bytes, b"\x00\xff"),
    (bytearray, bytearray(b"a")),
    (set[int], {1, 2}),
    (set, {1, "a"}),
    (set[int], {10**30}),
    (set[str], {"\ud800", "é"}),
    (frozenset[UUID], frozenset({ID})),
    (tuple, (1, "a")),
    (tuple[int, str], (1, "a")),
    (tuple[float, float], (1, 2.5)),
    (tuple[datetime, ...], (NOW, NOW)),
    (list[UUID], [ID]),
    (list["UUID"], [ID]),
    (Sequence[UUID], [ID]),
    (Iterable[UUID], [ID]),
    (Collection[UUID], [ID]),
    (Mapping[UUID, int], {ID: 1}),
    (dict[int, str], {1: "a"}),
    (dict[float, str], {1.5: "a", 1: "b", 2.0: "c"}),
    (dict[datetime, UUID], {NOW: ID}),
    (dict[Color, set[UUID]], {Color.RED: {ID}}),
    (dict[str, datetime], {"at": NOW}),
    (Point, Point(1, NOW)),
    (Event, {"at": NOW}),
    (list[Event], [{"at": NOW, "number": 1}]),
    (Order, Order(ID, {"a"}, Decimal("2.50"), Order(ID))),
    (Weight, Weight(1.5)),
    (Same, Same(date(2026, 1, 2))),
    (Visit, Visit(ID, date(2026, 1, 2))),
    (Stock, Stock(ID)),
    (Customer, Customer(id=ID, since=NOW, friend=Customer(id=ID, since=NOW))),
    (Strict, Strict.model_validate({"id": ID, "alias": 3, "more": "x"})),
    (Ids, Ids([ID])),
    (Checked, Checked(ID)),
    (list[Customer], [Customer(id=ID, since=NOW)]),
    (UserId, UserId(ID)),
    (Annotated[UUID, "the order"], ID),
    (Customer | None, Customer(id=ID, since=NOW)),
    (UUID | str, ID),
    (str | UUID, ID),
    (str | UUID, str(ID)),
    (list[UUID | str], [ID, "abc"]),
    (datetime | date, date(2026, 1, 2)),
    (date | datetime | None, NOW),
    (UUID | datetime | Decimal | None, Decimal("1.5")),
    (Customer | Order, Order(ID)),
    (Sms | Mail, Mail("a", "b")),
    (list[Mail | Sms], [Mail("a", "b"), Sms("c")]),
    (tuple[int, ...] | set[int], {1}),
    (set[int] | frozenset[int], frozenset({1})),
    (dict[str, str] | dict[int, str], {1: "a"}),
    # JSON's own types, whatever the annotation says.
    (UUID, str(ID)),
    (datetime, "2026-01-01"),
    (str, 7),
    (float, 7),
    (Decimal, 7),
    (set[int], [1]),
    (Order, {"id": str(ID)}),
    (Literal["a"], "b"),
    ("Nowhere", {"a": [1, 2.5, None, True, "é\ud800", 10**30, -0.0, 1e300]}),
]


@pytest.mark.parametrize(("annotation", "value"), RESTORED)
def test_value_arrives_as_it_was_passed(gator: Gator, annotation: Any, value: Any) -> None:
    take = annotated(annotation)

    task = gator.task(take, value)
    gator.pop()
    gator.options(is_async=False).task(take, value)
    with sync():
        gator.task(take, value)
    with capture() as tasks:
        gator.task(take, value=value)
        tasks.run()

    assert [difference(value, each) for each in arrived] == [None] * 4
    assert task.func_args == (value,) or value != value
    if value == value and not isinstance(value, Same):  # one that does not equal another
        tasks.assert_pushed(take, kwargs={"value": value})


TO_ANNOTATE = [
    ("datetime", NOW),
    ("UUID", ID),
    ("Decimal", Decimal("1.10")),
    ("Color", Color.RED),
    ("Level", Level.LOW),
    ("bytes", b"a"),
    ("set[int]", {1}),
    ("frozenset[UUID]", frozenset({ID})),
    ("list[UUID]", [ID]),
    ("dict[int, str]", {1: "a"}),
    ("dict[str, datetime]", {"at": NOW}),
    ("tuple[UUID, int]", (ID, 1)),
    ("Order", Order(ID)),
    ("Visit", Visit(ID, date(2026, 1, 2))),
    ("Stock", Stock(ID)),
    ("Customer", Customer(id=ID, since=NOW)),
    ("Point", Point(1, NOW)),
]


@pytest.mark.parametrize(("annotation", "value"), TO_ANNOTATE)
def test_error_names_the_annotation_that_would_do(
    gator: Gator, annotation: str, value: Any
) -> None:
    for call in (gator.task, gator.options(is_async=False).task):
        with pytest.raises(NotSerializable) as info:
            call(bare, 1, value)
        message = str(info.value)
        assert message.startswith("'other' of tests.harness.typed_tasks.bare ")
        assert f"nnotate the parameter as other: {annotation}, or pass plain data" in message
    assert gator.len() == 0


class OwnDict(dict[str, int]):
    pass


class OwnText(str):
    __slots__ = ()


class Marked(str):
    """A text as Django's templates return it, which is safe to be part of HTML."""

    __slots__ = ()

    def __html__(self) -> str:
        return self

    __str__ = __html__


CHANGED: list[tuple[Any, Any, str]] = [
    (str, ID, "its annotation str would make it '12345678-"),
    (Any, ID, "value: UUID"),
    (object, ID, "value: UUID"),
    (TypeVar("T"), ID, "value: UUID"),
    (date, NOW, "value: datetime"),
    (float, Decimal("1"), "value: Decimal"),
    (str, Size.SMALL, "would make it 'small'"),
    (int, Level.LOW, r"would make it 1 \(int\)"),
    (datetime, datetime(2026, 1, 1, tzinfo=BERLIN), "no time zone, only its offset"),
    (datetime, datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1), "only its offset"),
    (datetime, datetime(2026, 10, 25, 2, 30, fold=1), "would make it"),
    (time, time(2, 30, fold=1), "would make it"),
    (Pair, Pair.ONE, "Enums must contain"),
    (Weight, Weight(1), r"value.kilos is an int; its annotation Weight would make it 1.0"),
    (Secret, Secret(token="x"), "value.token is a SecretStr"),  # type: ignore[arg-type]
    (Sequence[UUID], (ID,), r"tuple\[UUID\]"),
    (tuple[str, str], (1, 2), r"tuple\[int, int\]"),
    (dict[str, Any], {"at": NOW}, r"value\['at'\] is a datetime"),
    (dict[tuple[int, int], int], {(1, 2): 3}, "keys are supported"),
    (dict[bool, int], {True: 1}, "has the dict key True"),
    (dict[int | str, int], {1: 1, "1": 2}, "has the dict key 1"),
    (dict[str, int], {1: 1}, "has the dict key 1"),
    (list[UUID | str], [str(ID), ID], r"value\[0\] is a str"),
    ("Nowhere", ID, "its annotation Nowhere cannot be evaluated"),
    (float, math.nan, "the float nan"),
    (float, -math.inf, "the float -inf"),
    (list[float], [math.nan], r"at `\$\[0\]`"),
    (float | None, math.nan, "the float nan"),
    (set[float | None], {math.nan}, "would make it"),
    (dict[str, int], OwnDict(a=1), "OwnDict"),
    (collections.OrderedDict[str, int], collections.OrderedDict(a=1), "OrderedDict"),
    (str, OwnText("a"), "OwnText"),
    (Marked, Marked("a"), "Marked has no form in JSON"),
    (int, Marked("1"), "Marked"),
    ("Nowhere", Marked("a"), "its annotation Nowhere cannot be evaluated"),
    (object, object(), "object"),
    (complex, 1j, "complex"),
    (Path, Path("a"), "Path"),
]


@pytest.mark.parametrize(("annotation", "value", "message"), CHANGED)
def test_value_that_would_arrive_changed_is_an_error_at_the_call(
    gator: Gator, annotation: Any, value: Any, message: str
) -> None:
    take = annotated(annotation)

    for call in (gator.task, gator.options(is_async=False).task):
        with pytest.raises(NotSerializable, match=message) as info:
            call(take, value)
        assert str(info.value).startswith("'value' of tests.harness.typed_tasks.take ")
    assert gator.len() == 0


@pytest.mark.parametrize("annotation", [Any, int, list[int], Sequence[int], "Nowhere"])
def test_tuple_that_is_not_annotated_as_one_arrives_as_a_list(
    gator: Gator, annotation: Any
) -> None:
    gator.task(annotated(annotation), (1, (2, {"a": (3,)})))

    gator.pop()

    assert arrived == [[1, [2, {"a": [3]}]]]


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (str, Marked("<p>"), "<p>"),
        (str | None, Marked("<p>"), "<p>"),
        (Any, {Marked("a"): [Marked("<p>"), 1]}, {"a": ["<p>", 1]}),
        (Sequence[str], [Marked("<p>"), "b"], ["<p>", "b"]),
        (Parameter.empty, Marked("<p>"), "<p>"),
    ],
)
def test_text_that_is_marked_as_html_arrives_without_its_mark(
    gator: Gator, annotation: Any, value: Any, expected: Any
) -> None:
    gator.task(bare if annotation is Parameter.empty else annotated(annotation), value)

    gator.pop()

    assert difference(arrived, [expected]) is None


def test_each_kind_of_parameter_is_restored(gator: Gator) -> None:
    days = [date(2026, 1, 2), date(2026, 1, 3)]

    gator.task(book, ID, NOW, *days, every=timedelta(hours=2), a=Decimal("1.0"))
    gator.task(book, at=NOW, order=ID, b=Decimal(2))
    gator.task(Shop.open, time(7), Shop.Kind.BIG)
    gator.task(Shop, ID)
    while gator.pop():
        pass

    assert arrived == [
        (ID, NOW, tuple(days), timedelta(hours=2), {"a": Decimal("1.0")}),
        (ID, NOW, (), timedelta(days=1), {"b": Decimal(2)}),
        (Shop, time(7), Shop.Kind.BIG),
        ID,
    ]


def logged(func: Any) -> Any:
    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper


@logged
def decorated(order: UUID, *, at: datetime) -> None:
    arrived.append((order, at))


def test_decorated_function_has_the_annotations_of_the_one_it_wraps(gator: Gator) -> None:
    gator.task(decorated, ID, at=NOW)

    gator.pop()

    assert arrived == [(ID, NOW)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.uuids(), inner, max_size=3)
    ),
    max_leaves=6,
)
rich_values = (
    st.datetimes(timezones=st.none() | st.just(UTC) | st.timezones())
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals()
    | st.binary()
    | st.sampled_from(Color)
    | st.sets(st.integers() | st.text() | st.booleans(), max_size=3)
    | st.frozensets(st.uuids() | st.dates(), max_size=3)
    | json_values
)
annotations = st.sampled_from(
    [
        *dict.fromkeys([datetime, date, time, timedelta, UUID, Decimal, bytes, Color]),
        set[int | str],
        frozenset[UUID | date],
        tuple[Any, ...],
        dict[int | UUID, Any],
        dict[str, datetime | str],
        datetime | date | time | timedelta | None,
        UUID | str | int | set[int],
        Any,
    ]
)


def as_lists(value: Any) -> Any:
    """Return *value* with its tuples as lists."""
    if type(value) in (list, tuple):
        return [as_lists(item) for item in value]
    return {key: as_lists(v) for key, v in value.items()} if type(value) is dict else value


@given(annotations, rich_values)
def test_accepted_value_arrives_equal_and_of_the_same_type(annotation: Any, value: Any) -> None:
    gator = Gator("locmem://")
    arrived.clear()
    try:
        gator.task(annotated(annotation), value)
    except NotSerializable:
        return

    gator.pop()

    assert difference(value, arrived[0]) is None or difference(as_lists(value), arrived[0]) is None


# The arguments as the payload has them.


def test_plain_arguments_need_no_mark_in_the_payload() -> None:
    task = Task()
    task.to_call(book, "1", "2", every=3)

    assert '"typed":' not in task.serialize()


def test_retry_repeats_the_arguments_that_were_read(gator: Gator) -> None:
    gator.options(retries=1, backoff=0).task(empties, {ID}, [1])

    Worker(gator, burst=True).run_forever()

    [letter] = gator.dead_letters()
    assert arrived == [({ID}, [1]), ({ID}, [1])]
    assert '"typed":{"0":"set"}' in letter.data


def empties(ids: set[UUID], numbers: list[int]) -> None:
    arrived.append((set(ids), list(numbers)))
    ids.clear()
    numbers.clear()
    raise RuntimeError("no luck")


# Code that has changed since the call.


@pytest.mark.parametrize(
    ("args", "typed", "message"),
    [
        (
            ["x"],
            {"0": "UUID"},
            r"'order' of \S+book cannot be restored: the payload holds the UUID "
            r'"x", and its annotation UUID does not restore it: ValidationError: Invalid UUID',
        ),
        ([7], {"0": "Order"}, r"'order' .* the Order 7, .* Expected `uuid`, got `int`"),
    ],
)
def test_type_that_has_changed_is_named_with_what_the_payload_holds(
    args: list[Any], typed: dict[str, str], message: str
) -> None:
    with pytest.raises(IncompatibleArguments, match=message):
        arguments.restore(book, envelope_of(args, typed))


def test_annotation_that_is_missing_now_is_named() -> None:
    with pytest.raises(IncompatibleArguments, match=r"'value' of .*bare.* no annotation"):
        arguments.restore(bare, envelope_of([str(ID)], {"0": "UUID"}))


def envelope_of(args: list[Any], typed: dict[str, str]) -> Envelope:
    return Envelope("5f1c", 0, True, "shop", "book", args, typed=typed)


@pytest.mark.parametrize("typed", [{"7": "UUID"}, {"nothing": "UUID"}, {"9" * 5000: "UUID"}])
def test_mark_without_an_argument_is_no_task(typed: dict[str, str]) -> None:
    data = payload("tests.harness.typed_tasks", "bare")
    data = f'{data[:-1]}, "typed": {{"{next(iter(typed))}": "UUID"}}}}'

    with pytest.raises(Exception, match="this is not a task"):
        Task.deserialize(data)


def test_parameter_that_was_renamed_is_named_with_what_the_payload_holds() -> None:
    with pytest.raises(
        IncompatibleArguments,
        match=r"add\(a, b\) cannot .*missing a required argument: 'b'.* holds \(1, c=2\)",
    ):
        arguments.check_call(annotated_add, [1], {"c": 2})


def annotated_add(a: int, b: int) -> int:
    return a + b
