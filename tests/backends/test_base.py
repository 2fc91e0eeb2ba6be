"""The methods that `Client` implements for all stores, among them the calls of Alligator 1.0."""

import time

from alligator.backends.base import (
    Client,
)
from tests.harness.contract import (
    HOUR,
    drain,
    push,
)


def test_push_with_a_past_moment_is_ready(client: Client) -> None:
    client.push("mail", "a", "1", delay_until=time.time() - HOUR)

    assert drain(client) == ["a"]


def test_push_returns_the_id(client: Client) -> None:
    assert client.push("mail", "a", "1") == "a"
    assert client.push("mail", "b", "2", time.time() + HOUR) == "b"

    stats = client.stats("mail")
    assert (stats.ready, stats.scheduled) == (1, 1)


def test_popped_task_is_removed(client: Client) -> None:
    push(client, "a")

    assert client.pop("mail") == "data of a"
    assert client.pop("mail") is None
    assert client.stats("mail").leased == 0


def test_get_removes_a_task_by_its_id(client: Client) -> None:
    push(client, "a", "b")

    assert client.get("mail", "b") == "data of b"
    assert client.get("mail", "b") is None
    assert drain(client) == ["a"]
