"""The protocol of Redis: commands and replies as bytes, with hiredis and without."""

from typing import Any

import pytest
from redis import exceptions as errors

from alligator.backends.redis_backend import protocol

REPLIES: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", "OK"),
    (b":-12\r\n", -12),
    (b"$-1\r\n", None),
    (b"$0\r\n\r\n", ""),
    (b"$5\r\na\r\nb\xff\r\n", "a\r\nb\udcff"),
    (b"*-1\r\n", None),
    (b"*0\r\n", []),
    (b"*3\r\n*1\r\n:1\r\n$-1\r\n$2\r\n\xc3\xa9\r\n", [[1], None, "é"]),
]
ERRORS = [
    (b"-NOSCRIPT No matching script.\r\n", errors.NoScriptError, "No matching script."),
    (b"-READONLY You can't write\r\n", errors.ReadOnlyError, "You can't write"),
    (b"-LOADING Redis is loading\r\n", errors.BusyLoadingError, "Redis is loading"),
    (b"-WRONGPASS invalid\r\n", errors.AuthenticationError, "invalid"),
    (b"-ERR AUTH <password> called\r\n", errors.AuthenticationError, "AUTH <password> called"),
    (b"-ERR max number of clients reached\r\n", errors.ConnectionError, "max number of clients"),
    (b"-MISCONF no disk\r\n", errors.ResponseError, "MISCONF no disk"),
    (b"-ERR no such thing\r\n", errors.ResponseError, "ERR no such thing"),
]


@pytest.fixture(params=["hiredis", "python"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "python":
        monkeypatch.setattr(protocol, "hiredis", None)
    return protocol.new_reader()


def test_replies_may_arrive_in_any_pieces(reader: Any) -> None:
    found = []
    for byte in b"".join(data for data, _ in REPLIES):
        reader.feed(bytes([byte]))
        reply = reader.gets()
        if reply is not protocol.NOTHING:
            found.append(reply)

    assert found == [reply for _, reply in REPLIES]


def test_several_replies_may_arrive_at_once(reader: Any) -> None:
    data = b"".join(data for data, _ in REPLIES)
    reader.feed(bytearray(b"xx" + data + b"xx"), 2, len(data))

    assert [reader.gets() for _ in REPLIES] == [reply for _, reply in REPLIES]
    assert reader.gets() is protocol.NOTHING


@pytest.mark.parametrize(("data", "kind", "text"), ERRORS)
def test_error_of_the_server_is_a_reply(reader: Any, data: bytes, kind: type, text: str) -> None:
    reader.feed(data)

    error = reader.gets()

    assert type(error) is kind
    assert text in str(error)


def test_error_names_the_new_place_of_a_slot(reader: Any) -> None:
    reader.feed(b"-MOVED 7 127.0.0.1:7001\r\n")

    error = reader.gets()

    assert isinstance(error, errors.MovedError)
    assert (error.host, error.port) == ("127.0.0.1", 7001)


@pytest.mark.parametrize("data", [b"?\r\n", b"HTTP/1.1 400 Bad Request\r\n", b":x\r\n"])
def test_bytes_that_are_no_reply_raise(reader: Any, data: bytes) -> None:
    reader.feed(data)

    with pytest.raises(errors.InvalidResponse):
        reader.gets()


@pytest.mark.parametrize("has_hiredis", [True, False])
def test_command_is_packed(monkeypatch: pytest.MonkeyPatch, has_hiredis: bool) -> None:
    if not has_hiredis:
        monkeypatch.setattr(protocol, "hiredis", None)

    assert protocol.packed(("SET", "é", 12, b"\xff")) == (
        b"*4\r\n$3\r\nSET\r\n$2\r\n\xc3\xa9\r\n$2\r\n12\r\n$1\r\n\xff\r\n"
    )
    assert protocol.packed(("x\udcff",)) == b"*1\r\n$2\r\nx\xff\r\n"
