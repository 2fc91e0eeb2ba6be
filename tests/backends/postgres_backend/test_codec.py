"""The binary format: what is written, the server reads, and the other way round."""

from typing import Any

import pytest

from alligator.backends.postgres_backend import Client
from alligator.backends.postgres_backend.codec import BEGINNING
from alligator.backends.postgres_backend.statements import statement


@pytest.mark.parametrize(
    ("kind", "value", "as_text"),
    [
        ("text", "ümläut ☃", "ümläut ☃"),
        ("text", None, None),
        ("bytea", b"\x00\xff", "\\x00ff"),
        ("int4", -7, "-7"),
        ("int8", 2**62, str(2**62)),
        ("float8", 0.1, "0.1"),
        ("float8", float("inf"), "Infinity"),
        ("bool", True, "true"),
        ("timestamptz", BEGINNING, "-infinity"),
        ("text[]", ["a", "", None, 'b"c'], '{a,"",NULL,"b\\"c"}'),
        ("text[]", [], "{}"),
        ("int8[]", [1, -1], "{1,-1}"),
        ("float8[]", [1.5], "{1.5}"),
        ("float8[]", [1.5, None], "{1.5,NULL}"),
        ("bytea[]", [b"", b"\x01"], '{"\\\\x","\\\\x01"}'),
        ("bool[]", [True, False], "{t,f}"),
        ("timestamptz[]", [BEGINNING], "{-infinity}"),
    ],
)
def test_value_is_read_by_the_server_and_comes_back(
    client: Client, kind: str, value: Any, as_text: str | None
) -> None:
    asked = statement("SELECT $1, $1::text", kind)

    assert client._call(asked, [value]) == [(value, as_text)]


def test_value_of_another_type_is_given_as_its_bytes(client: Client) -> None:
    assert client._call(statement("SELECT 'x'::\"char\""), []) == [(b"x",)]
