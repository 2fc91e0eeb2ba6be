"""Warnings about the configuration of a Redis server."""

from collections.abc import Callable

import pytest

from alligator.backends.redis_backend import Client
from tests.harness.store_servers import Server

pytestmark = pytest.mark.usefixtures("closed", "note_earlier")


def test_warnings_name_a_server_without_persistence(client: Client) -> None:
    client.conn.config_set("maxmemory", 10**9)
    client.conn.config_set("maxmemory-policy", "allkeys-lru")

    forgets, evicts = client.warnings()

    assert "appendonly yes" in forgets
    assert "noeviction" in evicts


def test_warnings_are_empty_for_a_durable_server(run: Callable[..., Server]) -> None:
    assert Client(run(appendonly="yes")).warnings() == []


def test_warnings_name_appendfsync_no(
    run: Callable[..., Server],
) -> None:
    (warning,) = Client(run(appendonly="yes", appendfsync="no")).warnings()

    assert "appendfsync always" in warning
