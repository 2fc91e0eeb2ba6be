"""Errors of Redis, in words that say what to do."""

import re
import traceback
from collections.abc import Callable
from importlib.resources import files

import pytest

from alligator.backends.redis_backend import Client
from alligator.backends.redis_backend.commits import PUSH
from alligator.exceptions import (
    BackendError,
    BackendUnavailable,
)
from tests.harness.redis_network import (
    execute,
    messages,
    undoing,
)
from tests.harness.store_servers import Server

pytestmark = pytest.mark.usefixtures("closed", "note_earlier")


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (("REPLICAOF", "127.0.0.1", "1"), "is a replica and accepts no writes"),
        (("CONFIG", "SET", "min-replicas-to-write", "1"), "too few replicas"),
        (("CONFIG", "SET", "maxmemory", "1"), "is out of memory"),
        (("ACL", "SETUSER", "default", "-rpush"), "denies its user a command"),
        (("ACL", "SETUSER", "default", "-exists"), "denies its user a command"),
        (("ACL", "SETUSER", "default", "-hmget"), "denies its user a command"),
        (("ACL", "SETUSER", "default", "-time"), "denies its user a command"),
        (("ACL", "SETUSER", "default", "resetkeys", "~{other}:*"), "denies its user"),
    ],
    ids=["replica", "min-replicas", "memory", "rpush", "exists", "hmget", "time", "keys"],
)
def test_ping_fails_while_the_server_refuses_pushes(
    server: Server, client: Client, state: tuple[str, ...], says: str
) -> None:
    client.ping()
    execute(client, *state)

    with pytest.raises(BackendError, match=says) as by_ping:
        client.ping()
    with pytest.raises(BackendError, match=says) as by_push:
        client.push_many(messages("a"))
    execute(client, "ACL", "SETUSER", "default", "+@all", "allkeys")  # for an undo

    assert type(by_ping.value) is type(by_push.value)


def test_ping_uses_all_commands_of_a_push() -> None:
    scripts = files("alligator.backends.redis_backend").joinpath("scripts")
    pinged = re.findall(r"'([A-Z]+)'", scripts.joinpath("ping.lua").read_text("utf-8"))

    assert {*re.findall(r"call\('([A-Z]+)'", PUSH.source)} <= {*pinged}


def test_replica_takes_no_writes(server: Server, client: Client) -> None:
    client.ping()
    client.conn.replicaof("127.0.0.1", "1")

    with pytest.raises(BackendUnavailable, match="replica"):
        client.push_many(messages("a"))
    client.conn.replicaof("NO", "ONE")

    client.push_many(messages("a"))
    assert client.len("all") == 1
    assert not undoing()


def test_keys_of_another_kind_are_reported(client: Client) -> None:
    client.conn.set("{alligator}:all:due", "mine")

    with pytest.raises(BackendError, match=r"\?ns="):
        client.reserve("all")


def test_wrong_password_is_refused_and_not_shown(run: Callable[..., Server]) -> None:
    server = run(requirepass="right")
    Client(server).push_many(messages("a"))

    for wrong in ("redis://:s3cret-wrong@", "redis://app:s3cret-wrong@", "redis://"):
        client = Client(server.replace("redis://:right@", wrong))
        with pytest.raises(BackendError, match="password") as raised:
            client.push_many(messages("b"))
        shown = "".join(traceback.format_exception(raised.value)) + repr(client)
        assert not isinstance(raised.value, BackendUnavailable)
        assert "s3cret" not in shown
    assert not undoing()
