"""Tasks that leave a trace, workers in threads, and stores for the tests of workers."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from alligator import Gator, Worker
from alligator.backends.base import Outcome, Step
from alligator.backends.locmem_backend import Client as Locmem
from alligator.constants import LEASE_SECONDS, MAX_LOST
from alligator.exceptions import BackendUnavailable

ran: list[Any] = []
"""What the tasks of a test have left behind."""

gates: dict[str, Event] = {}
"""What `note_and_wait` waits for."""


@contextmanager
def traces_cleaned() -> Iterator[None]:
    """Forget what the tasks of other tests have left; open all gates at the end."""
    ran.clear()
    gates.clear()
    yield
    for gate in gates.values():
        gate.set()


def note(what: Any) -> Any:
    """Leave *what* behind."""
    ran.append(what)
    return what


def note_and_wait(what: str) -> None:
    """Leave *what* behind and wait for its gate."""
    ran.append(what)
    assert gates[what].wait(10)


def note_pause(what: str, seconds: float) -> None:
    """Leave *what* behind after a while."""
    time.sleep(seconds)
    ran.append(what)


@contextmanager
def workers_running(*workers: Worker) -> Iterator[None]:
    """Run workers in threads during the block."""
    threads = [Thread(target=worker.run_forever) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.stop()
        for gate in gates.values():
            gate.set()
        for thread in threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in threads)


def burst(gator: Gator, **settings: Any) -> Worker:
    """Run a worker until nothing is ready."""
    worker = Worker(gator, burst=True, **settings)
    worker.run_forever()
    return worker


class Counting(Locmem):
    """A store that notes how many tasks are asked for."""

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.asked: list[int] = []

    def step(self, queue_names: Sequence[str], limit: int, **settings: Any) -> Step:
        if limit:
            self.asked.append(limit)
        return super().step(queue_names, limit, **settings)


class Shaky(Locmem):
    """A store that can be away."""

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.away = Event()
        self.asked = 0

    def step(
        self,
        queue_names: Sequence[str],
        limit: int,
        *,
        outcomes: Sequence[Outcome] = (),
        lease_for: float = LEASE_SECONDS,
        max_lost: int = MAX_LOST,
    ) -> Step:
        if self.away.is_set():
            self.asked += 1
            raise BackendUnavailable("gone fishing")
        return super().step(
            queue_names, limit, outcomes=outcomes, lease_for=lease_for, max_lost=max_lost
        )
