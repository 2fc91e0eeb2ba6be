"""A PostgreSQL for all tests, a schema for each, and what runs SQL beside a client."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from alligator.backends.postgres_backend import Client
from tests.faults.proxy import Proxy
from tests.harness.postgres_servers import PostgresServer

Query = Callable[..., list[tuple[Any, ...]]]
Open = Callable[..., Client]


@pytest.fixture
def server(postgres_process: PostgresServer) -> PostgresServer:
    return postgres_process


@pytest.fixture
def schema() -> str:
    return f"test_{uuid4().hex[:12]}"


@pytest.fixture
def open_client(server: PostgresServer, schema: str) -> Iterator[Open]:
    """Open clients of the same tables; a DSN and options may be given."""
    with ExitStack() as stack:

        def open_another(dsn: str = "", **options: str) -> Client:
            query = "&".join(f"{name}={value}" for name, value in options.items())
            client = Client(f"{dsn or server.dsn}?schema={schema}{'&' if query else ''}{query}")
            stack.callback(client.close)
            return client

        yield open_another


@pytest.fixture
def client(open_client: Open) -> Client:
    return open_client(timeout="20")


@pytest.fixture
def network(server: PostgresServer) -> Iterator[Proxy]:
    with Proxy(server.dsn) as proxy:
        yield proxy


@pytest.fixture
def through(network: Proxy, server: PostgresServer) -> str:
    """Give the DSN that leads through the network."""
    return network.leading_to(server.dsn)


@pytest.fixture
def query(server: PostgresServer, schema: str) -> Iterator[Query]:
    """Execute SQL on a connection of its own; {s} is the schema."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:

        def execute(sql: str, *values: Any) -> list[tuple[Any, ...]]:
            cursor = connection.execute(sql.replace("{s}", schema).encode(), values)
            return cursor.fetchall() if cursor.description else []

        yield execute
