"""The health of several worker processes, in memory that they share with their parent."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from mmap import mmap
from threading import Event, Thread
from time import monotonic

from .liveness import WorkerHealth

POST_SECONDS = 1.0
"""Interval at which each worker process posts its health."""

SILENT_SECONDS = 15.0
"""A worker that has posted nothing for this long is not alive; one that died is replaced earlier."""


class SharedHealth:
    """The health of *count* worker processes, each with a slot of its own, numbered from 0."""

    _SLOT = struct.Struct("d??")

    def __init__(self, count: int) -> None:
        self._memory = mmap(-1, count * self._SLOT.size)
        not_started = WorkerHealth(is_alive=True, store_answers=False)
        for slot in range(count):
            self._write(slot, monotonic(), not_started)

    def health(self) -> WorkerHealth:
        """Return the health of all processes together: alive or ready only if each of them is."""
        now = monotonic()
        slots = list(self._SLOT.iter_unpack(self._memory))
        is_alive = all(alive and now - posted < SILENT_SECONDS for posted, alive, _ in slots)
        return WorkerHealth(is_alive, all(answers for *_, answers in slots))

    @contextmanager
    def posting(self, slot: int, read_health: Callable[[], WorkerHealth]) -> Iterator[None]:
        """Post what *read_health* returns every `POST_SECONDS`, from a thread, during the block.

        After a clean end of the block, this worker counts as healthy although it posts nothing.
        """
        ended = Event()

        def run() -> None:
            while not ended.is_set():
                self._write(slot, monotonic(), read_health())
                ended.wait(POST_SECONDS)

        thread = Thread(target=run, name="alligator-health", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        self._write(slot, inf, WorkerHealth(is_alive=True, store_answers=True))

    def _write(self, slot: int, posted: float, health: WorkerHealth) -> None:
        self._SLOT.pack_into(self._memory, slot * self._SLOT.size, posted, *health)
