"""Run several workers as child processes (``--processes``) and replace those that die."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from threading import Thread
from time import monotonic
from types import FrameType

from .._runtime import exits, streams
from .._runtime.backoff import pause_after
from .._runtime.log import log
from ..constants import EXIT_USAGE, STOP_SIGNALS
from .liveness import Liveness

FIRST_PAUSE = 0.5
MAX_PAUSE = 30.0
"""Seconds before a child that died is replaced: doubled after each failure, up to `MAX_PAUSE`."""

STEADY_SECONDS = 60.0
"""A child that ran this long before it died is replaced after `FIRST_PAUSE` again."""

GRACE_SECONDS = 7.0
"""How much longer than its shutdown timeout a child may take before it is killed."""


@dataclass(slots=True)
class _Slot:
    """One of the worker processes, running or waiting for its start."""

    pid: int = 0
    """The process id; 0 if none is running."""
    started: float = 0.0
    start_at: float = 0.0
    """When the next process starts; `inf` for never."""
    failures: int = 0


class Prefork:
    """*count* child processes that call *work* with their slot, a number from 0.

    What *work* returns is the exit status of the child. A child that dies is replaced after a pause.
    One that returns 0 has finished; with *renew* it is replaced at once. SIGTERM and SIGINT are
    forwarded to the children as SIGTERM, also the second time. Children that still run
    `GRACE_SECONDS` after their *shutdown_timeout* are killed. If the parent dies, its children stop
    by themselves. The parent serves *liveness* while it waits.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[int], int],
        liveness: Liveness,
        *,
        shutdown_timeout: float = 25.0,
        renew: bool = False,
    ) -> None:
        self._work = work
        self._liveness = liveness
        self._kill_after = shutdown_timeout + GRACE_SECONDS
        self._renew = renew
        self._slots = [_Slot() for _ in range(count)]
        self._signals = 0
        self._forwarded = 0
        self._kill_at = inf
        self._status = 0
        # The system closes the write end when this process ends, even if it is killed.
        self._lifeline = os.pipe()

    def run(self) -> int:
        """Keep the children running until all have finished; return 0 if none failed."""
        with self._signals_handled() as wait:
            try:
                while any(slot.pid or slot.start_at < inf for slot in self._slots):
                    self._start_due()
                    wait(self._pause())
                    self._forward_signals()
                    self._collect()
            finally:
                for end in self._lifeline:
                    os.close(end)
        return self._status

    @property
    def _stopping(self) -> bool:
        return self._forwarded > 0

    def _pause(self) -> float | None:
        due = [slot.start_at for slot in self._slots if not slot.pid]
        at = min([*due, self._kill_at], default=inf)
        return None if at == inf else max(0.0, at - monotonic())

    def _start_due(self) -> None:
        for number, slot in enumerate(self._slots):
            if not slot.pid and slot.start_at <= monotonic():
                slot.started = monotonic()
                try:
                    slot.pid = self._fork(number)
                except OSError as error:  # no process or memory left; the other children continue
                    self._start_later(slot, f"a worker process cannot be started ({error})")

    def _fork(self, slot: int) -> int:
        # Until the child has set its own handlers, a signal would call those of the parent.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        streams.flush()
        try:
            pid = os.fork()
            if pid:
                log.info("worker process %d has started", pid)
                return pid
            self._run_child(slot)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        raise AssertionError("a child does not return")

    def _run_child(self, slot: int) -> None:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, *STOP_SIGNALS):
                signal.signal(number, signal.SIG_DFL)
            # Ctrl-C in the terminal does not reach this group: the parent forwards it.
            os.setpgid(0, 0)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            os.close(self._lifeline[1])
            self._liveness.release()
            Thread(target=self._watch_parent, name="alligator-lifeline", daemon=True).start()
            status = self._work(slot)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            log.exception("a worker process failed")
        finally:
            exits.exit_child(status)

    def _watch_parent(self) -> None:
        os.read(self._lifeline[0], 1)  # nothing is ever written
        os.kill(os.getpid(), signal.SIGTERM)

    def _collect(self) -> None:
        """Collect the children that have ended."""
        for slot in self._slots:
            if slot.pid:
                pid, status = os.waitpid(slot.pid, os.WNOHANG)
                if pid:
                    slot.pid = 0
                    self._handle_exit(slot, pid, os.waitstatus_to_exitcode(status))

    def _handle_exit(self, slot: _Slot, pid: int, code: int) -> None:
        if code == 0 and self._renew and not self._stopping:
            slot.start_at = monotonic()
        elif code == 0 or self._stopping:
            # SIGTERM kills a child whose worker has not started yet.
            finished = code in (0, -signal.SIGTERM)
            self._status = self._status or (0 if finished else 1)
            slot.start_at = inf
        elif code == EXIT_USAGE:  # a new child would fail in the same way
            self._status = EXIT_USAGE
            self._signals += 1
            slot.start_at = inf
            self._forward_signals()
        else:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            self._start_later(slot, f"worker process {pid} {how}")

    def _start_later(self, slot: _Slot, why: str) -> None:
        now = monotonic()
        slot.failures = 1 if now - slot.started > STEADY_SECONDS else slot.failures + 1
        pause = pause_after(slot.failures, FIRST_PAUSE, MAX_PAUSE)
        slot.start_at = now + pause
        log.error("%s; a replacement starts in %.1f s", why, pause)

    def _forward_signals(self) -> None:
        if self._signals > self._forwarded:
            self._forwarded = self._signals
            self._kill_at = min(self._kill_at, monotonic() + self._kill_after)
            self._send_to_children(signal.SIGTERM)
        if monotonic() >= self._kill_at:
            self._kill_at = inf
            self._send_to_children(signal.SIGKILL)

    def _send_to_children(self, number: signal.Signals) -> None:
        for slot in self._slots:
            slot.start_at = inf
            if slot.pid:
                os.kill(slot.pid, number)  # not waited for yet, so the pid is not reused

    @contextmanager
    def _signals_handled(self) -> Iterator[Callable[[float | None], None]]:
        """Yield a function that serves the liveness until a signal comes or its timeout is over."""

        def handle(signum: int, frame: FrameType | None) -> None:
            if signum != signal.SIGCHLD:
                self._signals += 1

        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)

        def wait(seconds: float | None) -> None:
            if self._liveness.serve(reader, seconds):
                reader.recv(4096)

        numbers = (signal.SIGCHLD, *STOP_SIGNALS)
        before = {number: signal.signal(number, handle) for number in numbers}
        fd_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield wait
        finally:
            signal.set_wakeup_fd(fd_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            reader.close()
            writer.close()
