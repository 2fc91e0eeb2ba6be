"""Wake workers after a commit of the application that has queued tasks."""

import atexit
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from logging import Logger, getLogger
from threading import Event, Thread, current_thread
from typing import Final
from weakref import WeakSet

from .._runtime.failures import describe
from .._runtime.forks import register_fork_hooks
from ..backends.shared_database import Written

MAX_PENDING: Final = 1_000
"""How many transactions are remembered. Workers find the tasks of further ones within five seconds."""

GIVE_UP_SECONDS: Final = 6.0
"""How long to wait for the end of a transaction. Workers look at least every five seconds anyway."""

FIRST_LOOK, LAST_LOOK = 0.001, 0.1
"""The shortest and the longest pause between two checks whether a transaction has ended, in seconds."""

IDLE_SECONDS: Final = 10.0
"""After how many seconds without a commit the thread ends."""

PATIENCE: Final = 2.0
"""How many seconds `finish` waits at most, for example when the program ends."""

log: Logger = getLogger("alligator")


class Wakeups:
    """A thread that wakes workers for transactions as soon as these have ended.

    The committing transaction does not do this itself: with NOTIFY, all commits of the server would
    wait for each other. The thread that commits does not do it either: it would wait for another round
    trip. *wake* wakes workers for transactions that have ended, and returns the places of the others.
    """

    def __init__(self, wake: Callable[[Sequence[Written]], Sequence[int]]) -> None:
        self._wake = wake
        self._forget()
        register_fork_hooks(self)
        _all.add(self)

    def _forget(self) -> None:
        self._pending: deque[tuple[Written, float]] = deque()
        self._event = Event()
        self._thread: Thread | None = None
        self._is_ending = False

    def after_fork_in_child(self) -> None:
        """Drop what belongs to the parent: its thread, and its transactions."""
        self._forget()

    def add(self, written: Written) -> None:
        """Wake workers for a transaction that has been committed, or is about to be."""
        if len(self._pending) < MAX_PENDING:
            self._pending.append((written, time.monotonic()))
        self._start()
        self._event.set()

    def _start(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        thread = self._thread = Thread(target=self._run, name="alligator-wake", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # too many threads, or Python exits
            self._thread = None
            log.warning(
                "could not start a thread to wake workers; they look within five seconds: %s", error
            )

    def finish(self) -> None:
        """Wake workers for the transactions that have ended, within `PATIENCE` seconds."""
        thread, self._is_ending = self._thread, True
        self._event.set()
        if thread is not None and thread is not current_thread():
            thread.join(PATIENCE)
        self._is_ending = False

    def _run(self) -> None:
        while True:
            if not self._pending and not self._event.wait(IDLE_SECONDS):
                break
            self._event.clear()
            batch: list[tuple[Written, float]] = []
            with suppress(IndexError):
                while len(batch) < MAX_PENDING:
                    batch.append(self._pending.popleft())
            unfinished = self._try([written for written, _ in batch])
            now = time.monotonic()
            late = [batch[place] for place in unfinished if now - batch[place][1] < GIVE_UP_SECONDS]
            if self._is_ending:
                break
            if late:
                self._pending.extend(late)
                youngest = max(since for _, since in late)
                self._event.wait(min(max(FIRST_LOOK, now - youngest), LAST_LOOK))
        self._thread = None
        if self._pending and not self._is_ending:  # added in the meantime
            self._start()

    def _try(self, written: Sequence[Written]) -> Sequence[int]:
        try:
            return self._wake(written) if written else ()
        except Exception as error:  # of any kind: the tasks are queued, and workers will look
            log.info("could not wake workers; they look within five seconds: %s", describe(error))
            return ()


_all: WeakSet[Wakeups] = WeakSet()


def _finish() -> None:
    """Wake workers for the last commits of a program that ends."""
    for wakeups in list(_all):
        wakeups.finish()


atexit.register(_finish)
