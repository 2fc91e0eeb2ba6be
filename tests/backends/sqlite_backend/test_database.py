"""One SQLite file that threads and processes share."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from alligator.backends.base import Message
from alligator.backends.sqlite_backend import Client
from alligator.backends.sqlite_backend import database as sqlite_database
from alligator.exceptions import BackendError
from tests.harness.programs import ROOT, SLACK, eventually
from tests.harness.sqlite_files import is_sound, locked, query, start

EXITS = 8


USES_FILE_AT_EXIT = """
import sys, threading
from alligator.backends.base import Message
from alligator.backends.sqlite_backend import Client

client = Client(sys.argv[1])
used = threading.Event()

def use():
    number = 0
    while True:
        number += 1
        if sys.argv[2] == "push":
            client.push_many([Message("all", str(number), "{}")])
        else:
            client.stats("all")
            client.dead_letters("all")
        if number > 50:
            used.set()

threading.Thread(target=use, daemon=True).start()
used.wait()
"""


READS = """
import sys
from alligator.backends.sqlite_backend import Client

client = Client(sys.argv[1])
print("reading", flush=True)
while True:
    client.dead_letters("all", 1000)
"""


def message(number: int) -> Message:
    return Message("all", str(number), "{}")


# At exit.


@pytest.mark.parametrize("use", ["push", "read"])
def test_process_exits_while_a_daemon_thread_uses_the_file(path: Path, use: str) -> None:
    command = [sys.executable, "-c", USES_FILE_AT_EXIT, f"sqlite://{path}", use]

    codes = [
        subprocess.run(command, cwd=ROOT, capture_output=True).returncode for _ in range(EXITS)
    ]

    assert codes == [0] * EXITS
    assert is_sound(path)


@pytest.mark.parametrize("purpose", ["read", "write"])
def test_connection_that_a_thread_uses_is_not_closed_at_exit(
    client: Client, monkeypatch: pytest.MonkeyPatch, purpose: str
) -> None:
    monkeypatch.setattr(sqlite_database, "EXIT_SECONDS", 0.01)
    client.ping()
    client.push_many([message(1)])
    client.len("all")
    database = client._database
    use = database.read() if purpose == "read" else database.write(durable=True)

    with use as connection:
        # Another thread, for at exit the one that uses it is a daemon thread.
        ending = threading.Thread(
            target=sqlite_database._close_unused, args=(database._locks, database._open)
        )
        ending.start()
        ending.join(SLACK)
        connection.execute("SELECT 1")
        assert set(database._open) == ({"read"} if purpose == "read" else {"durable", "quick"})


def test_process_that_ends_leaves_no_log_behind(path: Path, client: Client) -> None:
    client.ping()
    client.close()
    push = "import sys; from alligator.backends.sqlite_backend import Client, Message\n"
    push += "Client(sys.argv[1]).push_many([Message('all', 'a', '{}')])"

    subprocess.run([sys.executable, "-c", push, f"sqlite://{path}"], cwd=ROOT, check=True)

    assert not path.with_name("queue.db-wal").exists()


# Threads and processes.


def test_ended_threads_leave_no_connections_open(client: Client) -> None:
    def use() -> None:
        client.push("mail", threading.current_thread().name, "1")
        client.reserve("mail")

    client.push("mail", "a", "1")
    use()
    before = len(os.listdir("/dev/fd"))
    for _ in range(10):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()

    assert len(os.listdir("/dev/fd")) <= before


def test_reads_do_not_wait_for_a_writer(client: Client, path: Path) -> None:
    client.push("mail", "a", "1")

    with locked(path):
        assert client.len("mail") == 1
        assert not client.step(["print"], 1).leases


def test_log_stays_bounded_while_readers_overlap(
    path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_database, "LOG_BYTES", 1 << 20)
    monkeypatch.setattr(sqlite_database, "LOG_CHECK", 20)
    big = "x" * 10_000
    client.push_many([Message("all", str(n), big) for n in range(200)])
    for lease in client.reserve("all", limit=200):
        client.dead_letter(lease, reason="for the test")
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READS, f"sqlite://{path}"], cwd=ROOT, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    try:
        for reader in readers:
            assert reader.stdout
            reader.stdout.readline()
        sizes = []
        for number in range(600):
            client.push_many([Message("other", str(number), big)])
            sizes.append(path.with_name("queue.db-wal").stat().st_size)
    finally:
        for reader in readers:
            with suppress(ProcessLookupError):
                reader.send_signal(signal.SIGKILL)
            reader.communicate()

    # Without a bound it has 26 MB. A reader that waits for a processor delays a truncation.
    assert max(sizes) < 12 * sqlite_database.LOG_BYTES
    assert client.len("other") == 600


def test_signal_handler_that_interrupts_a_write_is_refused_at_once(client: Client) -> None:
    refused: list[BackendError] = []
    took: list[float] = []

    def handle(*args: object) -> None:
        began = time.monotonic()
        try:
            client.push_many([message(1)])
        except BackendError as error:
            refused.append(error)
        took.append(time.monotonic() - began)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with client._database.write(durable=True):
            os.kill(os.getpid(), signal.SIGUSR1)
            eventually(lambda: took)
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert len(refused) == 1
    assert "signal handler" in str(refused[0])
    assert took[0] < client._database.timeout / 2
    client.push_many([message(2)])
    assert client.len("all") == 1


def test_open_transaction_is_closed_after_an_interrupt(tmp_path: Path) -> None:
    path = f"{tmp_path}/queue.db"
    client = Client(f"sqlite://{path}")
    client.push_many([Message("all", "a", "{}")])

    with pytest.raises(KeyboardInterrupt), client._database.read() as connection:
        connection.execute("BEGIN IMMEDIATE")
        raise KeyboardInterrupt

    Client(f"sqlite://{path}?timeout=0.2").push_many([Message("all", "b", "{}")])
    assert client.len("all") == 2


def test_deleted_file_is_created_again(client: Client, path: Path) -> None:
    client.push("mail", "a", "1")
    for file in path.parent.glob("queue.db*"):
        if not file.is_dir():
            file.unlink()

    client.push("mail", "b", "2")

    other = Client(f"sqlite://{path}")
    assert other.cancel("mail", "b") == ("2", False)
    other.close()


def test_killed_process_loses_no_task_that_was_accepted(client: Client, path: Path) -> None:
    code = """
for n in range(100000):
    client.push_many([Message("mail", f"{n}-{m}", "1") for m in range(3)], commit_id=f"{n}-")
    print(n, flush=True)
"""
    for _ in range(3):
        start_at = client.stats("mail").pushed
        client.drop_all("mail")
        process = start(code.replace("{n}-", f"{start_at}-{{n}}-"), f"sqlite://{path}")
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        reported = 20 + len([line for line in process.communicate()[0].splitlines() if line])

        queued = client.len("mail")
        assert 3 * reported <= queued
        assert queued % 3 == 0
    states = query(path, "SELECT state, count(*) FROM task WHERE queue = 'mail' GROUP BY state")
    assert states == [("ready", client.len("mail"))]
    assert is_sound(path)
