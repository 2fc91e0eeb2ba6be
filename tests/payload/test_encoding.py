"""The arguments of a task as JSON, and the errors for those that have none."""

import json
import math
from datetime import datetime
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alligator import Task
from alligator.exceptions import NotSerializable
from alligator.payload import envelope
from alligator.payload.encoding import DECODING_ERRORS, decode, encode, encode_any
from tests.harness.payloads import DEEP
from tests.harness.sample_tasks import add


def ready(func: Any, *args: Any, **options: Any) -> Task:
    """Make a task that is ready to run."""
    task = Task(**options)
    task.to_call(func, *args)
    return task


def take_anything(*args: Any, **kwargs: Any) -> None: ...


def test_json_is_one_line_of_ascii() -> None:
    data = ready(add, "é\n\u2028\ud800", 2).serialize()

    assert data.isascii()
    assert data.isprintable()


@pytest.mark.parametrize(
    ("argument", "kind"),
    [
        (object(), "object"),
        ({1, 2}, "set"),
        (b"bytes", "bytes"),
        (datetime(2030, 1, 1), "datetime"),
        (float("nan"), "float"),
        (float("inf"), "float"),
        ({("a", "b"): 1}, "dict"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_argument_that_is_not_json_is_named(argument: object, kind: str) -> None:
    with pytest.raises(
        NotSerializable, match=f"'b' of tests.harness.sample_tasks.add .*{kind}.*an id"
    ):
        ready(add, 1, argument).serialize()


def test_circular_argument_is_named() -> None:
    endless: list[Any] = []
    endless.append(endless)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(NotSerializable, match="'a' of"):
        ready(add, endless, 1).serialize()
    with pytest.raises(NotSerializable, match="'a' of"):
        ready(add, deep, 1).serialize()
    while deep:  # taken apart by hand, for its end would be as deep
        deep = deep[0]


def test_unnamed_argument_is_named_by_its_number() -> None:
    with pytest.raises(NotSerializable, match="'argument 3' of"):
        ready(take_anything, 1, 2, object()).serialize()


class Text(str):
    __slots__ = ()


class Number(IntEnum):
    ONE = 1


class Measure(float):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, 2.5, None, True]}, '{"a":[1,2.5,null,true]}'),
        ("é\u2028😀", r'"\u00e9\u2028\ud83d\ude00"'),
        ("é\ud800", r'"\u00e9\ud800"'),
        (
            [10**30, -(10**30), 2**64, -(2**63) - 1],
            f"[{10**30},{-(10**30)},{2**64},{-(2**63) - 1}]",
        ),
        ([1.0, -0.0, 1e300, 5e-324], "[1.0,-0.0,1e300,5e-324]"),
        ({Text("a"): Text("b")}, '{"a":"b"}'),
        ([Number.ONE, Measure(1.5)], "[1,1.5]"),
    ],
    ids=str,
)
def test_value_is_encoded_as_ascii_and_decoded_again(value: Any, text: str) -> None:
    assert encode(value) == text
    assert decode(text) == value


@pytest.mark.parametrize("text", ["[NaN]", "[1e400,-Infinity]", '["\\ud800"]', f"[{'9' * 400}]"])
def test_output_of_the_json_module_is_decoded_as_it_would(text: str) -> None:
    assert repr(decode(text)) == repr(json.loads(text))
    assert repr(decode(encode_any(decode(text)))) == repr(json.loads(text))


def test_last_of_equal_keys_counts() -> None:
    assert decode('{"a":1,"a":2}') == {"a": 2}
    assert (
        envelope.read(
            '{"task_id":"a","task_id":"b","retries":0,"is_async":true,"module":"m","callable":"c"}'
        ).task_id
        == "b"
    )


@pytest.mark.parametrize("text", ["", "{", "[1] 2", '"\x00"', "[" * DEEP, "1" * 5000])
def test_text_that_is_not_json_raises_an_error_that_readers_catch(text: str) -> None:
    with pytest.raises(DECODING_ERRORS):
        decode(text)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=8,
)


@given(json_values.filter(lambda value: value not in (math.inf, -math.inf)))
def test_encoder_and_decoder_agree_with_the_json_module(value: Any) -> None:
    if "Infinity" in json.dumps(value):
        return

    text = encode(value)

    assert text.isascii()
    assert repr(json.loads(text)) == repr(decode(text)) == repr(value)
    assert repr(decode(json.dumps(value))) == repr(value)
