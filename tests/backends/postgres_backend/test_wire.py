"""A connection with deadlines that hold, whatever the server does."""

import time
from collections.abc import Iterator

import pytest

from alligator.backends.postgres_backend.dsn import read_dsn
from alligator.backends.postgres_backend.statements import statement
from alligator.backends.postgres_backend.wire import Lost, ServerError, TimedOut, Wire
from tests.faults.proxy import Proxy
from tests.harness.postgres_servers import PostgresServer
from tests.harness.programs import SLACK

ONE = statement("SELECT 1")
LONG = 20.0


def connect(dsn: str, seconds: float = LONG) -> Wire:
    return Wire.connect(read_dsn(dsn).conninfos[0], time.monotonic() + seconds)


@pytest.fixture
def wire(server: PostgresServer) -> Iterator[Wire]:
    wire = connect(server.dsn)
    yield wire
    wire.close()


def test_statement_returns_its_rows(wire: Wire) -> None:
    assert wire.call(ONE, [], time.monotonic() + LONG) == [(1,)]


def test_prepared_statement_is_prepared_once(wire: Wire) -> None:
    counted = statement("SELECT $1::int", "int4", "counted")

    for number in range(3):
        assert wire.call(counted, [number], time.monotonic() + LONG) == [(number,)]

    rows = wire.call(
        statement("SELECT count(*) FROM pg_prepared_statements"), [], time.monotonic() + LONG
    )
    assert rows == [(1,)]


def test_rejected_statement_leaves_the_connection_usable(wire: Wire) -> None:
    with pytest.raises(ServerError) as caught:
        wire.call(statement("SELECT 1/0"), [], time.monotonic() + LONG)

    assert caught.value.code == "22012"
    assert wire.call(ONE, [], time.monotonic() + LONG) == [(1,)]


def test_large_value_passes(wire: Wire) -> None:
    data = b"x" * 8_000_000

    rows = wire.call(statement("SELECT $1", "bytea"), [data], time.monotonic() + LONG)

    assert rows == [(data,)]


def test_slow_statement_ends_at_its_deadline(wire: Wire) -> None:
    began = time.monotonic()

    with pytest.raises(TimedOut):
        wire.call(statement("SELECT pg_sleep(60)"), [], began + 0.2)

    assert time.monotonic() - began < 0.2 + 10
    assert wire.is_closed


def test_server_that_is_frozen_ends_a_call_and_a_connection(server: PostgresServer) -> None:
    wire = connect(server.dsn)
    server.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(TimedOut):
            wire.call(ONE, [], began + 0.3)
        with pytest.raises(TimedOut):
            connect(server.dsn, 0.3)
        assert time.monotonic() - began < 0.6 * SLACK + 10
    finally:
        server.thaw()


def test_connection_that_was_cut_is_lost(network: Proxy, through: str) -> None:
    wire = connect(through)
    network.cut_all()

    with pytest.raises(Lost):
        wire.call(ONE, [], time.monotonic() + LONG)

    assert wire.is_closed
    assert not wire.is_alive()


def test_idle_connection_that_was_cut_is_noticed(network: Proxy, through: str) -> None:
    wire = connect(through)
    assert wire.is_alive()
    network.cut_all()
    end = time.monotonic() + LONG
    while wire.is_alive() and time.monotonic() < end:
        time.sleep(0.01)

    assert not wire.is_alive()


def test_refused_connection_is_lost_with_the_reason() -> None:
    with pytest.raises(Lost, match="refused"):
        connect("postgresql://127.0.0.1:1/x")
