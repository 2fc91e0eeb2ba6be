"""Waking other processes through FIFOs beside the file, and writing to nothing else."""

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from alligator.backends.base import Message
from alligator.backends.sqlite_backend import Client
from tests.harness.programs import eventually
from tests.harness.sqlite_files import start

NAMES = ["x", "4242-0123456789ab"]
"""Any name, and a name as Alligator makes them."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "queue.db-wake"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    victim = tmp_path / "victim"
    victim.write_text("root:x")
    return victim


def push(client: Client) -> None:
    client.push_many([Message("all", "a", "{}")])


@pytest.mark.parametrize("name", NAMES)
def test_push_writes_through_no_link(client: Client, folder: Path, victim: Path, name: str) -> None:
    folder.mkdir(0o700)
    (folder / name).symlink_to(victim)

    push(client)

    assert victim.read_text() == "root:x"


@pytest.mark.parametrize("name", NAMES)
def test_push_writes_to_no_file_that_is_not_a_fifo(
    client: Client, folder: Path, victim: Path, name: str
) -> None:
    folder.mkdir(0o700)
    os.link(victim, folder / name)

    push(client)

    assert victim.read_text() == "root:x"


def test_folder_that_is_a_link_is_not_used(client: Client, folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(0o700)
    fifo = elsewhere / NAMES[1]
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    folder.symlink_to(elsewhere)

    push(client)
    client.wait(["other"], 0.01)

    assert os.read(reader, 9) == b""
    assert list(elsewhere.iterdir()) == [fifo], "a waiter creates nothing there either"
    os.close(reader)


def test_folder_that_others_can_write_to_is_not_used(client: Client, folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)

    client.wait(["all"], 0.01)
    push(client)

    assert list(folder.iterdir()) == []
    assert client.len("all") == 1


def test_fifo_of_a_killed_process_is_removed(client: Client, path: Path) -> None:
    process = start("print('here', flush=True); client.wait(['mail'], 60)", f"sqlite://{path}")
    assert process.stdout is not None
    process.stdout.readline()
    folder = Path(f"{path}-wake")
    # A FIFO whose name begins with a dot is not in use yet.
    eventually(lambda: folder.exists() and list(folder.glob("[!.]*")))
    process.kill()
    process.communicate()

    client.push("mail", "a", "1")

    assert list(folder.iterdir()) == []


@pytest.fixture
def no_fifos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make FIFOs fail, as on a file system without them."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "mkfifo", refuse)


@pytest.mark.usefixtures("no_fifos")
def test_wait_works_without_fifos(client: Client) -> None:
    thread = threading.Timer(0.1, client.push, ("mail", "a", "1"))
    thread.start()
    began = time.monotonic()
    client.wait(["mail"], 20)
    spent = time.monotonic() - began
    thread.join()
    thread = threading.Timer(0.1, client.interrupt)
    thread.start()
    client.wait(["print"], 20)
    thread.join()

    assert 0.05 < spent < 5
    assert time.monotonic() - began < 10


@pytest.mark.usefixtures("no_fifos")
def test_wait_without_fifos_reads_the_queue_only_after_a_write(
    client: Client, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Sequence[str]] = []
    look = client._pause

    def note_look(queue_names: Sequence[str]) -> float:
        looks.append(queue_names)
        return look(queue_names)

    monkeypatch.setattr(client, "_pause", note_look)
    began = time.monotonic()
    client.wait(["mail"], 0.5)
    idle = len(looks)
    looks.clear()

    writer = start("sys.stdin.readline(); client.push('mail', 'a', '1')", f"sqlite://{path}")
    waiting = threading.Thread(target=client.wait, args=(["mail"], 60))
    waiting.start()
    writer.communicate("\n")
    waiting.join()

    assert idle <= 3 + time.monotonic() - began
    assert client.reserve("mail")


@pytest.mark.usefixtures("no_fifos")
def test_wait_without_fifos_ends_when_a_task_is_due(client: Client) -> None:
    began = time.monotonic()
    client.push_many([Message("mail", "a", "1", 0.3)])

    client.wait(["mail"], 60)

    assert 0.2 < time.monotonic() - began < 10
    assert client.reserve("mail")
