"""Look after the threads of a worker, which cannot do so while they run a task."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread, current_thread, main_thread
from time import monotonic
from types import FrameType
from typing import Protocol

from .attempts import describe
from .backends.base import Lease
from .constants import STOP_SIGNALS
from .gator import Gator
from .heartbeat import Heartbeat
from .lanes import Lane
from .tasks import name_in

TICK = 0.05
"""How often it looks at what the threads are doing, in seconds."""

IDLE_TICK = 0.5
"""The same while the store has nothing for them: each look costs as much as some tasks."""

MAX_PAUSE = 5.0
"""The longest pause between two tries to reach a store that is away, in seconds."""

HANG_SECONDS = 5.0
"""How long after the deadline a worker without a task may still talk to its store."""

LONG = 1.0
"""A task that takes longer than this is shown among what runs, at once; also, how often, in seconds."""

EXIT_UNFINISHED = 1
"""The exit status when tasks had to be given back in mid-run, or could not be run at all."""


class Watched(Protocol):
    """What a watch needs of a worker."""

    gator: Gator
    log: logging.Logger
    lanes: list[Lane]
    keep_running: bool
    shutdown_timeout: float
    stops: int
    """How often it was asked to stop: once is gracefully, twice is at once."""

    def interrupt(self) -> None: ...

    def give_up(self) -> None: ...


class Watch:
    """A thread that stops a worker in time, and has short tasks not wait behind long ones.

    A signal handler only counts and wakes it, for it may have stopped a thread that holds any lock;
    what follows from a signal is done here.
    """

    def __init__(self, worker: Watched, heartbeat: Heartbeat) -> None:
        self._worker = worker
        self._heartbeat = heartbeat
        self._deadline: float | None = None
        self._given_up = False
        self._is_program = False
        self._ended = False
        self._asleep = Lock()
        self._asleep.acquire()
        self._thread = Thread(target=self._run, name="alligator-watch", daemon=True)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM stop the worker during the block, if it runs in the main thread."""
        self._is_program = current_thread() is main_thread()
        if not self._is_program:
            yield
            return

        def handle(signum: int, frame: FrameType | None) -> None:
            self._worker.stops += 1
            self.wake()

        before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                if handler is not None:  # None: it was not set from Python
                    signal.signal(number, handler)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is unfinished after the deadline goes back."""
        self._ended = True
        self.wake()
        self._thread.join()
        if self.is_overdue() and self._is_unfinished() and not self._given_up:
            self._give_up()

    def wake(self) -> None:
        """Let it look now. It waits for nothing, so a signal handler may call it."""
        with suppress(RuntimeError):  # it has been woken already
            self._asleep.release()

    def is_overdue(self) -> bool:
        """Whether the worker should have ended by now."""
        return self._deadline is not None and monotonic() >= self._deadline

    def _run(self) -> None:
        failures, retry_at = 0, 0.0
        shown: list[Lease] = []
        show_at = 0.0
        while True:
            self._asleep.acquire(timeout=TICK if self._is_at_work() else IDLE_TICK)
            if self._ended:
                break
            try:
                self._obey()
                if monotonic() >= show_at and (long := self._long_ones()) != shown:
                    shown, show_at = long, monotonic() + LONG
                    self._heartbeat.hurry()
                self._complain()
                if monotonic() >= retry_at:
                    for lane in list(self._worker.lanes):
                        if lane.is_busy_for(TICK):
                            lane.give_back()
                    failures = 0
            except Exception as error:  # without it nothing could stop the worker
                failures += 1
                retry_at = monotonic() + pause_after(failures)
                if failures == 1:
                    self._worker.log.warning(
                        "what waits behind a long task cannot be given back: %s", describe(error)
                    )

    def _is_at_work(self) -> bool:
        """Whether something may have to be done soon."""
        worker = self._worker
        return not worker.keep_running or not all(lane.idle for lane in list(worker.lanes))

    def _obey(self) -> None:
        """Do what follows from being asked to stop."""
        worker = self._worker
        if worker.stops and self._deadline is None:
            self._deadline = monotonic() + worker.shutdown_timeout
            worker.keep_running = False
            worker.interrupt()
        if worker.stops > 1 and self._deadline is not None:
            self._deadline = min(self._deadline, monotonic())
        if self.is_overdue() and not self._given_up and self._is_unfinished():
            self._give_up()
        if not worker.keep_running:
            worker.gator.client.interrupt()

    def _long_ones(self) -> list[Lease]:
        return [lease for lane in list(self._worker.lanes) if (lease := lane.running_for(LONG))]

    def _complain(self) -> None:
        """Say which tasks do not heed their timeout. They keep their leases: a thread cannot be ended.

        A second worker would only hang in them, too, and run them twice at the same time.
        """
        for lane in list(self._worker.lanes):
            if (lease := lane.overrun()) is not None:
                self._worker.log.error(
                    "it does not heed its timeout, and keeps this worker; --isolate could end it",
                    extra={"task_id": lease.task_id, "task": name_in(lease.data)},
                )

    def _is_unfinished(self) -> bool:
        """Whether a task is running; or, some time after the deadline, whether the store hangs."""
        late = self._deadline is not None and monotonic() >= self._deadline + HANG_SECONDS
        return late or any(lane.doing for lane in list(self._worker.lanes))

    def _give_up(self) -> None:
        """Let other workers have what is not finished, and leave."""
        self._given_up = True
        try:
            self._worker.give_up()
        finally:
            if self._is_program:
                # Python cannot end a thread, and the task's has not ended by itself.
                logging.shutdown()
                os._exit(EXIT_UNFINISHED)


def pause_after(failures: int) -> float:
    """Choose how long to leave a store alone that has failed that many times in a row."""
    return min(TICK * 2.0 ** min(failures, 20), MAX_PAUSE)
