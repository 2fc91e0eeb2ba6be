"""What is SQLite's own: its file, who may read it, and what can go wrong with it."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from alligator.backends import sqlite_database, sqlite_turn
from alligator.backends.base import Message, Outcome, Verdict, WorkerInfo
from alligator.backends.sqlite_backend import Client
from alligator.exceptions import BackendError, BackendUnavailable, ConfigurationError
from tests.programs import SLACK

HOUR = 3600.0
ROOT = Path(__file__).parents[2]
PRELUDE = """
import sys
from alligator.backends.base import Message
from alligator.backends.sqlite_backend import Client
from tests.programs import SLACK

client = Client(sys.argv[1])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a file that is not there yet."""
    return tmp_path / "queue.db"


@pytest.fixture
def client(path: Path) -> Iterator[Client]:
    """Open a client of that file."""
    client = Client(f"sqlite://{path}?timeout=0.3")
    yield client
    client.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Write to the file, and do not come to an end."""
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
    finally:
        other.close()


@contextmanager
def a_full_disk(client: Client) -> Iterator[None]:
    """Let the file not grow any more."""
    with client._database.write(durable=True) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
    yield
    with client._database.write(durable=True) as connection:
        connection.execute("PRAGMA max_page_count = 1000000")


def start(code: str, dsn: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "error", "-c", PRELUDE + code, dsn]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def is_sound(path: Path) -> bool:
    with sqlite3.connect(path) as connection:
        (found,) = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    return str(found) == "ok"


def recount(path: Path, queue: str) -> dict[str, int]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT state, count(*) FROM task WHERE queue = ? GROUP BY state", (queue,)
        ).fetchall()
    connection.close()
    return dict(rows)


# The DSN.


def test_making_a_client_touches_nothing(path: Path) -> None:
    Client(f"sqlite://{path}")

    assert not path.exists()


def test_two_slashes_are_relative_to_the_directory_at_that_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = Client("sqlite://sub.db")
    monkeypatch.chdir("/")

    client.ping()
    client.close()

    assert (tmp_path / "sub.db").exists()


def test_an_absolute_path_that_fails_names_the_relative_one() -> None:
    client = Client("sqlite:///no-such-directory/q.db")

    with pytest.raises(BackendError, match=r"Three slashes .* sqlite://no-such-directory/q\.db"):
        client.ping()


@pytest.mark.parametrize(
    ("dsn", "says"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite://:memory:", "locmem://"),
        ("sqlite:///:memory:", "locmem://"),
        ("sqlite://q.db?timout=3", "no option timout; it has: timeout"),
        ("sqlite://q.db?timeout=soon", "timeout=soon is not a number"),
        ("sqlite://q.db?timeout=0", "timeout=0 is not a number"),
    ],
)
def test_a_dsn_that_cannot_work_says_so(dsn: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Client(dsn)


# The file.


def test_only_its_owner_can_read_what_is_made(client: Client, path: Path) -> None:
    client.push("mail", "a", "1")
    client.wait(["print"], 0.01)

    made = {file for file in path.parent.rglob("*") if file != path.parent}
    assert {"queue.db", "queue.db-wal", "queue.db-wake"} <= {file.name for file in made}
    for file in made:
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


def test_a_closed_client_leaves_one_file(client: Client, path: Path) -> None:
    client.push("mail", "a", "1")
    client.wait(["print"], 0.01)

    client.close()

    assert [file for file in path.parent.rglob("*") if not file.is_dir()] == [path]


def test_the_set_up_of_alligator_1_0_is_harmless(client: Client) -> None:
    client.setup_tables()
    client.push("mail", "a", "1")
    client.setup_tables("mail")

    assert client.len("mail") == 1


def test_several_processes_can_be_the_first(client: Client, path: Path) -> None:
    code = """
print("here", flush=True)
name = sys.stdin.readline()
client.push_many([Message("mail", name, "1")])
client.close()
"""
    processes = [start(code, f"sqlite://{path}") for _ in range(6)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()

    for n, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.write(f"t{n}\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=20)

    assert [process.returncode for process in processes] == [0] * 6
    assert client.len("mail") == 6


def test_a_deleted_file_is_made_anew(client: Client, path: Path) -> None:
    client.push("mail", "a", "1")
    for file in path.parent.glob("queue.db*"):
        if not file.is_dir():
            file.unlink()

    client.push("mail", "b", "2")

    other = Client(f"sqlite://{path}")
    assert other.cancel("mail", "b") == "2"
    other.close()


@pytest.mark.parametrize("content", [b"This is not a database, but a letter. " * 30, b"SQLite fo"])
def test_a_file_of_another_kind_is_left_alone(client: Client, path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(BackendError, match=r"queue\.db is not a SQLite database"):
        client.push("mail", "a", "1")

    assert path.read_bytes() == content


def test_a_database_of_another_program_is_left_alone(client: Client, path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE task (id)")
    other.close()
    before = path.read_bytes()

    with pytest.raises(BackendError, match="a database of something else"):
        client.push("mail", "a", "1")

    assert path.read_bytes() == before


def test_a_file_of_a_newer_alligator_is_left_alone(client: Client, path: Path) -> None:
    client.push("mail", "a", "1")
    client.close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()

    with pytest.raises(BackendError, match="newer Alligator"):
        client.push("mail", "b", "2")


def test_a_damaged_file_is_reported_and_left_alone(client: Client, path: Path) -> None:
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
def test_a_directory_that_cannot_be_written_to_is_named(client: Client, path: Path) -> None:
    path.parent.chmod(0o500)

    with pytest.raises(BackendError, match=r"queue\.db cannot be (opened|written)"):
        client.push("mail", "a", "1")
    path.parent.chmod(0o700)


def test_a_place_on_a_disk_of_this_machine_raises_no_warning(client: Client) -> None:
    assert [said for said in client.warnings() if "memory" not in said] == []


# Trouble.


def test_a_full_disk_takes_no_part_of_a_push_and_lets_tasks_be_worked_off(
    client: Client, path: Path
) -> None:
    client.push_many([Message("mail", f"t{n}", "x" * 300) for n in range(50)])

    with a_full_disk(client):
        with pytest.raises(BackendError, match="no room"):
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


def test_who_waits_too_long_for_another_writer_is_told(client: Client, path: Path) -> None:
    client.ping()

    with locked(path):
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="locked"):
            client.push("mail", "a", "1")
        spent = time.monotonic() - began

    assert 0.25 < spent < 0.3 + SLACK
    client.push("mail", "b", "2")
    assert client.len("mail") == 1


def test_reads_do_not_wait_for_a_writer(client: Client, path: Path) -> None:
    client.push("mail", "a", "1")

    with locked(path):
        assert client.len("mail") == 1
        assert not client.step(["print"], 1).leases


def test_a_killed_process_loses_nothing_it_was_told_is_queued(client: Client, path: Path) -> None:
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
        told = 20 + len([line for line in process.communicate()[0].splitlines() if line])

        queued = client.len("mail")
        assert 3 * told <= queued
        assert queued % 3 == 0
    assert recount(path, "mail") == {"ready": client.len("mail")}
    assert is_sound(path)


# Time.


def test_a_clock_that_is_set_back_makes_nobody_wait_longer(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.push("mail", "leased", "1")
    client.reserve("mail", lease_for=60)
    client.push_many([Message("mail", "scheduled", "2", 60.0), Message("mail", "ready", "3")])
    client.beat(WorkerInfo(name="w"), 60)

    monkeypatch.setattr(sqlite_turn, "time", lambda: time.time() - HOUR)

    assert client.reserve("mail", lease_for=120)[0].task_id == "ready"
    assert 50 < client.step(["mail"], 1).pause <= 60
    assert client.workers()[0].seen_ago < 10
    monkeypatch.setattr(sqlite_turn, "time", lambda: time.time() - HOUR + 90)
    assert {lease.task_id for lease in client.reserve("mail", limit=5)} == {"leased", "scheduled"}


# Threads and connections.


def test_threads_that_end_leave_no_connections_behind(client: Client) -> None:
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


def test_a_child_inherits_no_connection(client: Client) -> None:
    client.push("mail", "a", "1")
    client.reserve("mail")

    child = os.fork()
    if not child:
        os._exit(len(client._database._open) + len(sqlite_database._inherited))
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    client.push("mail", "b", "2")
    assert client.len("mail") == 1


PATCHED_CHILD = """
import os
import sqlite3

client.push("mail", "before", "{}")
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

from gevent import joinall, monkey, sleep, spawn
monkey.patch_all()
other = sqlite3.connect(client._database.path, isolation_level=None)
other.execute("BEGIN IMMEDIATE")
pushes = [spawn(client.push, "mail", name, "{}") for name in ("a", "b")]
sleep(0.05)  # one of them naps until the file is free, the other waits for the first
other.execute("COMMIT")
joinall(pushes, raise_error=True)
"""


def test_greenlets_wait_for_each_other_in_a_child_that_gevent_patched(
    client: Client, path: Path
) -> None:
    pytest.importorskip("gevent", reason="it is not installed: pip install gevent")

    with start(PATCHED_CHILD, f"sqlite://{path}") as process:
        process.communicate(timeout=20)

    assert process.returncode == 0
    assert client.len("mail") == 3


def test_a_client_that_is_forgotten_closes_itself(path: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    client = Client(f"sqlite://{path}")
    client.push("mail", "a", "1")
    client.wait(["print"], 0.01)

    del client

    assert len(os.listdir("/dev/fd")) == before


# What it costs.


def test_statistics_do_not_scan_the_backlog(client: Client, path: Path) -> None:
    for batch in range(5):
        client.push_many([Message("mail", f"{batch}-{n}", "1") for n in range(1000)])
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    client.stats("mail")
    with client._database.read() as connection:
        connection.set_progress_handler(count, 1)
    client.stats("mail")
    client.step(["print"], 1)

    assert steps < 1000


def test_the_counts_are_those_of_a_recount(client: Client, path: Path) -> None:
    client.push_many([Message("mail", f"t{n}", "1", n % 3 * HOUR) for n in range(60)])
    leases = client.reserve("mail", limit=12)
    verdicts: tuple[Verdict, ...] = ("ack", "retry", "release", "dead")
    client.step(
        (), 0, outcomes=[Outcome(verdicts[n % 4], lease) for n, lease in enumerate(leases[:8])]
    )
    client.cancel("mail", "t1")

    stats = client.stats("mail")

    assert recount(path, "mail") == {
        state: getattr(stats, state) for state in ("ready", "scheduled", "leased", "dead")
    }


@pytest.fixture
def no_fifos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the files on a file system without FIFOs."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "mkfifo", refuse)


@pytest.mark.usefixtures("no_fifos")
def test_waiting_works_where_there_are_no_fifos(client: Client) -> None:
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
def test_without_fifos_the_queue_is_asked_only_when_the_file_was_written_to(
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
def test_without_fifos_a_task_is_found_when_it_is_due(client: Client) -> None:
    client.push_many([Message("mail", "a", "1", 0.3)])

    began = time.monotonic()
    client.wait(["mail"], 60)

    assert 0.2 < time.monotonic() - began < 10
    assert client.reserve("mail")


def test_the_fifo_of_a_killed_process_is_removed(client: Client, path: Path) -> None:
    process = start("print('here', flush=True); client.wait(['mail'], 60)", f"sqlite://{path}")
    assert process.stdout is not None
    process.stdout.readline()
    folder = Path(f"{path}-wake")
    end = time.monotonic() + 10
    while not (folder.exists() and list(folder.iterdir())) and time.monotonic() < end:
        time.sleep(0.01)
    process.kill()
    process.communicate()

    client.push("mail", "a", "1")

    assert list(folder.iterdir()) == []
