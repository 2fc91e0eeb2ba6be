"""Errors of SQLite: what they say, and what they leave unchanged."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alligator.backends.base import Message, Outcome
from alligator.backends.sqlite_backend import Client
from alligator.exceptions import BackendError, BackendUnavailable
from tests.harness.programs import SLACK
from tests.harness.sqlite_files import is_sound, locked, start


@contextmanager
def full_disk(client: Client) -> Iterator[None]:
    """Keep the file from growing."""
    with client._database.write(durable=True) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
    yield
    with client._database.write(durable=True) as connection:
        connection.execute("PRAGMA max_page_count = 1000000")


def test_full_disk_rejects_a_whole_push_but_lets_tasks_be_done(client: Client, path: Path) -> None:
    client.push_many([Message("mail", f"t{n}", "x" * 300) for n in range(50)])

    with full_disk(client):
        with pytest.raises(BackendError, match="no space"):
            client.push_many(
                [Message("mail", f"big{n}", "x" * 10_000) for n in range(50)], commit_id="c1"
            )
        assert client.stats("mail").pushed == 50
    outcomes: list[Outcome] = []
    while leases := client.step(["mail"], 10, outcomes=outcomes).leases:
        outcomes = [Outcome("ack", lease) for lease in leases]

    assert client.stats("mail").succeeded == 50
    client.push_many([Message("mail", "big", "x" * 10_000)], commit_id="c1")
    assert client.len("mail") == 1
    assert is_sound(path)


FULL_DISK = """
import os, resource
from alligator.exceptions import BackendError

client.push_many([Message("all", "a", "{}")])
client.ping()  # it has opened its connection
size = os.stat(client._database.path + "-wal").st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
for call in (client.ping, lambda: client.push_many([Message("all", "b", "{}")])):
    try:
        print(call())
    except BackendError as error:
        print(error)
"""


def test_ping_fails_while_a_full_disk_rejects_pushes(path: Path) -> None:
    with start(FULL_DISK, f"sqlite://{path}") as process:
        by_ping, by_push = process.communicate(timeout=SLACK)[0].splitlines()

    assert "queue.db" in by_push
    assert by_ping == by_push


def test_call_that_waits_too_long_for_a_lock_is_unavailable(path: Path) -> None:
    client = Client(f"sqlite://{path}?timeout=0.3")
    client.ping()

    with locked(path):
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="locked"):
            client.push("mail", "a", "1")
        spent = time.monotonic() - began

    assert 0.25 < spent < 0.3 + SLACK
    client.push("mail", "b", "2")
    assert client.len("mail") == 1
    client.close()


@pytest.mark.parametrize("content", [b"This is not a database, but a letter. " * 30, b"SQLite fo"])
def test_file_of_another_kind_is_left_unchanged(client: Client, path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(BackendError, match=r"queue\.db is not a SQLite database"):
        client.push("mail", "a", "1")

    assert path.read_bytes() == content


def test_damaged_file_is_reported_and_left_unchanged(client: Client, path: Path) -> None:
    for n in range(100):
        client.push("mail", f"t{n}", "x" * 3000)
    client.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)

    with pytest.raises(BackendError, match="damaged"):
        client.push("mail", "a", "1")
    client.close()

    assert path.read_bytes() == content


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_directory_without_write_permission_is_reported(client: Client, path: Path) -> None:
    path.parent.chmod(0o500)

    with pytest.raises(BackendError, match=r"queue\.db cannot be (opened|written)"):
        client.push("mail", "a", "1")
    path.parent.chmod(0o700)
