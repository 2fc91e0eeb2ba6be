"""Signal handlers that start tasks while their thread starts one, at any point of it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from alligator import Gator, Task
from alligator.commits.breaker import FAILURES
from alligator.exceptions import BackendError, BackendUnavailable
from tests.harness.postgres_servers import postgres_server
from tests.harness.programs import ROOT, environment
from tests.harness.requirements import needed
from tests.harness.sample_tasks import add
from tests.harness.store_servers import valkey_server

PROGRAM = """
import json, os, signal, sys, time
from alligator import Gator
from alligator.exceptions import BackendError
from tests.harness.sample_tasks import add

gator = Gator(sys.argv[1])
queued, refused, slow, inside = 0, 0, 0, 0

def start() -> bool:
    try:
        gator.task(add, 1, 2)
    except BackendError:
        return False
    return True

def handle(*args):
    global queued, refused, slow, inside
    if inside:
        return
    inside = 1
    began = time.monotonic()
    if start():
        queued += 1
    else:
        refused += 1
    slow += time.monotonic() - began > 1.5
    inside = 0

own = start()  # all is imported then: a handler may find a module half-imported
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.004, 0.004)
end = time.monotonic() + 3
while time.monotonic() < end:
    with gator.transaction(), gator.transaction():
        own += start()
    own += start()
signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
print(json.dumps([queued, refused, slow, own, gator.len()]))
"""


@pytest.fixture(params=["locmem", "sqlite", "valkey", "postgres"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "locmem":
        yield "locmem://"
    elif request.param == "sqlite":
        yield f"sqlite://{tmp_path / 'queue.db'}"
    elif request.param == "postgres":
        with needed():
            postgres = postgres_server()
        with postgres as database:
            yield database.dsn
    else:
        with needed():
            running = valkey_server()
        with running as server:
            yield server


def test_signal_handler_starts_tasks_or_is_refused_at_once(dsn: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, dsn],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    queued, refused, slow, own, length = eval(done.stdout)
    assert queued + refused > 10
    assert slow == 0
    assert length == queued + own
    if not dsn.startswith("sqlite"):
        assert refused == 0


# At the points where a push holds a lock of its process.


@contextmanager
def handling(handle: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Give what sends a signal to this thread, whose handler calls *handle* then and there."""
    before = signal.signal(signal.SIGUSR1, lambda *args: handle())
    try:
        yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.timeout(30, method="thread")
def test_signal_handler_starts_a_task_while_a_transaction_takes_one() -> None:
    class Interrupted(Task):
        """A task that a signal interrupts while its transaction is locked."""

        def to_deferred(self) -> None:
            if not handled:
                interrupt()
            super().to_deferred()

    gator = Gator("locmem://", task_class=Interrupted)
    handled: list[str] = []

    def handle() -> None:
        handled.append("begun")
        handled.append(gator.task(add, 3, 4).task_id)

    with handling(handle) as interrupt, gator.transaction() as transaction:
        task = gator.task(add, 1, 2)
        held = {each.task_id for each in transaction.tasks}

    assert held == {task.task_id, handled[1]}
    assert gator.len() == 2


@pytest.mark.timeout(30, method="thread")
@pytest.mark.parametrize("during", ["_fail", "_enter", "_close"])
def test_signal_handler_starts_a_task_while_the_breaker_counts(
    monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    gator = Gator("locmem://")
    breaker, handled = gator.breaker, list[bool]()
    assert breaker is not None
    locked = breaker._lock

    class Interrupted:
        """The lock of the breaker; a signal comes while it is held."""

        def __enter__(self) -> None:
            locked.acquire()
            if not handled:
                handled.append(False)
                interrupt()

        def __exit__(self, *exc_info: object) -> None:
            locked.release()

    def handle() -> None:
        with suppress(BackendError):
            gator.task(add, 3, 4)
        handled.append(True)

    def push_many(*given: object, **named: object) -> None:
        if during != "_close":
            raise BackendUnavailable("away")

    with handling(handle) as interrupt:
        monkeypatch.setattr(gator.client, "push_many", push_many)
        breaker.failures = {"_fail": 0, "_enter": FAILURES, "_close": 1}[during]
        monkeypatch.setattr(breaker, "_lock", Interrupted())
        with suppress(BackendError):
            gator.task(add, 1, 2)

    assert handled == [False, True]
