"""Supervise the threads of a worker, which cannot do this themselves while they run tasks."""

import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread, current_thread, main_thread
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from .._runtime import streams
from .._runtime.backoff import pause_after
from .._runtime.failures import EVENT, describe
from ..backends.base import Lease
from ..constants import STOP_SIGNALS
from ..execution.heartbeat import Heartbeat
from ..gator import Gator
from ..payload.envelope import name_in
from ..telemetry.logs import about
from .reservations import Reservations

if TYPE_CHECKING:
    from .dispatcher import Dispatcher

TICK = 0.05
"""Interval at which the supervisor checks the threads, in seconds."""

IDLE_TICK = 0.5
"""The interval while the store has no tasks for them: a check costs as much as some tasks."""

FIRST_PAUSE, MAX_PAUSE = 0.1, 5.0
"""The first and the longest pause between two attempts to reach the store, in seconds."""

HANG_SECONDS = 5.0
"""How long after the deadline a worker without a running task may still wait for its store."""

CANCEL_SECONDS = 2.0
"""How long coroutines may take to end after they were cancelled because the worker ends."""

LONG_SECONDS = 1.0
"""A task that runs longer than this is announced at once; also the interval of these announcements."""

EXIT_UNFINISHED = 1
"""The exit status if running tasks had to be released, or if no task could be run."""


class Supervised(Protocol):
    """The attributes and methods of a worker that its supervisor uses."""

    gator: Gator
    log: logging.Logger
    threads: list[Reservations]
    keep_running: bool
    shutdown_timeout: float
    stops: int
    """How often `stop` was called: once means gracefully, twice means at once."""
    dispatcher: "Dispatcher | None"
    """What runs its coroutines; None before the first of them, and after the end."""

    def interrupt(self) -> None: ...

    def release_all(self) -> None: ...


class Supervisor:
    """A thread that stops a worker in time, and releases short tasks that wait behind long ones.

    It waits at a socket, to which Python writes the number of each signal at once. A signal handler
    alone would be too late: it runs only after the main thread has left the C code of a task. The
    handler counts the signals, too, because a task may have replaced the socket. It does no more,
    because it may have interrupted a thread that holds a lock.
    """

    def __init__(self, worker: Supervised, heartbeat: Heartbeat) -> None:
        self._worker = worker
        self._heartbeat = heartbeat
        self._deadline: float | None = None
        self._has_released = False
        self.has_released: bool = False
        """Whether all unfinished tasks were released."""
        self._in_main_thread = False
        self._ended = False
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)
        self._received = 0
        """How many signals were read from the socket."""
        self._handled = 0
        """How many signals the handler was called for; most signals are in both numbers."""
        self._check_at = 0.0
        self._announced: list[Lease] = []
        """The long tasks at the time when the heartbeat was last asked to announce them."""
        self._announce_at = 0.0
        self._thread = Thread(target=self._run, name="alligator-supervisor", daemon=True)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Stop the worker at `STOP_SIGNALS` during the block, if this is the main thread."""
        self._in_main_thread = current_thread() is main_thread()
        # Closed last: afterwards, another file may get the number of the socket.
        with self._wake_reader, self._wake_writer:
            if self._in_main_thread:
                with self._handlers_set():
                    yield
            else:
                yield

    @contextmanager
    def _handlers_set(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS}
        fd_before = signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(fd_before)
            for number, handler in before.items():
                if handler is not None:  # None: not set by Python code
                    signal.signal(number, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self._handled += 1
        self.wake()

    def check_signals(self) -> None:
        """Set the signal handlers again if a task has replaced them.

        Only the main thread may call this, after its tasks: no other can set handlers. It checks at
        most every `TICK`, so not after each short task.
        """
        now = monotonic()
        if now < self._check_at:
            return
        self._check_at = now + TICK
        replaced = [number for number in STOP_SIGNALS if signal.getsignal(number) != self._handle]
        for number in replaced:
            signal.signal(number, self._handle)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        if replaced:
            self._worker.log.warning(
                "a task has replaced the signal handlers of %s; the worker has set its own again, "
                "because it needs them to stop gracefully. Restore the old handler in that task",
                ", ".join(signal.Signals(number).name for number in replaced),
            )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; release what is unfinished if the deadline is over."""
        self._ended = True
        self.wake()
        self._thread.join()
        if self.is_overdue() and self._is_unfinished() and not self._has_released:
            self._release_all()

    def wake(self) -> None:
        """Make the supervisor check now. It never blocks, so a signal handler may call it."""
        with suppress(OSError):  # the buffer is full, or the supervisor has ended
            self._wake_writer.send(b"\0")

    def _sleep(self, seconds: float) -> None:
        """Sleep until `wake`, a signal or the time-out; count the signals."""
        self._wake_reader.settimeout(seconds)
        with suppress(TimeoutError):
            self._received += sum(number in STOP_SIGNALS for number in self._wake_reader.recv(4096))

    def time_left(self) -> float:
        """Return the seconds until the deadline; the shutdown timeout if no stop was requested."""
        if self._deadline is None:
            return self._worker.shutdown_timeout
        return max(0.0, self._deadline - monotonic())

    def is_overdue(self) -> bool:
        """Return whether the deadline is over."""
        return self._deadline is not None and monotonic() >= self._deadline

    def _run(self) -> None:
        failures, retry_at = 0, 0.0
        while True:
            self._sleep(TICK if self._is_at_work() else IDLE_TICK)
            if self._ended:
                break
            try:
                self._apply_stops()
                if self._worker.dispatcher is not None:
                    self._worker.dispatcher.watch.check()
                self._announce_long_tasks()
                self._log_overruns()
                if monotonic() >= retry_at:
                    self._release_waiting()
                    failures = 0
            except Exception as error:  # this thread must keep running, or nothing stops the worker
                failures += 1
                retry_at = monotonic() + pause_after(failures, FIRST_PAUSE, MAX_PAUSE)
                if failures == 1:
                    self._worker.log.warning(
                        "could not release the tasks that wait behind a long one; trying again: %s",
                        describe(error),
                    )

    def _is_at_work(self) -> bool:
        """Return whether there may be something to do soon."""
        worker = self._worker
        return not worker.keep_running or not all(thread.idle for thread in list(worker.threads))

    def _apply_stops(self) -> None:
        """Stop the worker as often as it was requested: gracefully first, then at once."""
        worker = self._worker
        stops = worker.stops + max(self._received, self._handled)
        if stops and self._deadline is None:
            self._deadline = monotonic() + worker.shutdown_timeout
            worker.keep_running = False
            worker.interrupt()
        if stops > 1 and self._deadline is not None:
            self._deadline = min(self._deadline, monotonic())
        if self.is_overdue() and not self._has_released and self._is_unfinished():
            self._release_all()
        if not worker.keep_running:
            worker.gator.client.interrupt()
            if worker.dispatcher is not None:
                worker.dispatcher.wake()

    def _announce_long_tasks(self) -> None:
        """Have the heartbeat announce soon that a long task has started or ended."""
        if monotonic() < self._announce_at:
            return
        threads = list(self._worker.threads)
        long = [lease for thread in threads if (lease := thread.running_for(LONG_SECONDS))]
        if long != self._announced:
            self._announced, self._announce_at = long, monotonic() + LONG_SECONDS
            self._heartbeat.announce_soon()

    def _log_overruns(self) -> None:
        """Log the tasks that have exceeded their timeout by far.

        Their leases are kept, because neither a thread nor a coroutine can be ended: a second worker
        would run the same task at the same time, and hang in it, too.
        """
        for thread in list(self._worker.threads):
            if (lease := thread.overrun()) is not None:
                name = name_in(lease.data)
                event = (
                    "task exceeded its timeout and still runs in this worker; consider --isolate, which "
                    "ends such tasks"
                )
                self._worker.log.error(
                    "%s",
                    about(name, lease.task_id, event),
                    extra={EVENT: event, "task_id": lease.task_id, "task": name},
                )

    def _release_waiting(self) -> None:
        """Release the tasks that were reserved and wait behind a task that is not short."""
        for thread in list(self._worker.threads):
            if thread.is_busy_for(TICK):
                thread.release_reserved()

    def _is_unfinished(self) -> bool:
        """Return whether a task is running, or the store still blocks long after the deadline."""
        late = self._deadline is not None and monotonic() >= self._deadline + HANG_SECONDS
        return late or any(thread.running_tasks() for thread in list(self._worker.threads))

    def _release_all(self) -> None:
        """Release what is unfinished, and end the process if this is its main program."""
        if self._worker.dispatcher is not None:
            self._worker.dispatcher.runner.cancel_all(CANCEL_SECONDS)
        if not self._is_unfinished():
            return
        self._has_released = True
        try:
            self._worker.release_all()
        finally:
            self.has_released = True
            if self._in_main_thread:
                # Python cannot end a thread, and the task has not ended by itself.
                streams.exit_now(EXIT_UNFINISHED)
