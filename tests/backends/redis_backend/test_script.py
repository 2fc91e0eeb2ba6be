"""The Lua scripts, and servers that have forgotten them."""

import pytest

from alligator.backends.redis_backend import Client
from tests.harness.redis_network import (
    commits,
    ids,
    messages,
)

pytestmark = pytest.mark.usefixtures("closed", "note_earlier")


def test_commits_survive_a_forgotten_script(client: Client) -> None:
    client.push_many(messages("before"))
    client.conn.script_flush()

    errors = client.push_commits(commits(*"abc"))

    assert errors == [None, None, None]
    assert ids(client.reserve("all", limit=9)) == ["before", *"abc"]


def test_flushed_script_cache_has_no_effect(client: Client) -> None:
    client.push_many(messages("a"))

    client.conn.script_flush()
    client.push_many(messages("b"))
    client.conn.script_flush()

    assert ids(client.step(["all"], 2).leases) == ["a", "b"]


def test_forgotten_script_is_sent_again_after_a_wait(client: Client) -> None:
    client.step(["all"], 1)
    client.push_many(messages("a"))

    client.conn.script_flush()
    step = client.wait_then_step(["all"], 60, 1)

    assert ids(step.leases) == ["a"]
