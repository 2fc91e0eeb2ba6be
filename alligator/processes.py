"""Run several workers as child processes, and replace those that die."""

import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from threading import Thread
from time import monotonic
from types import FrameType

from .constants import EXIT_USAGE, STOP_SIGNALS

FIRST_PAUSE = 0.5
MAX_PAUSE = 30.0
"""Seconds until a child that died is replaced; doubled each time, up to the second."""

STEADY_SECONDS = 60.0
"""A child that lived this long has earned a fresh start: it is replaced after the first pause."""

GRACE_SECONDS = 5.0
"""How much longer than its own shutdown timeout a child may take before it is killed."""

log: logging.Logger = logging.getLogger("alligator")


@dataclass(slots=True)
class _Place:
    """One of the processes there are to be."""

    pid: int = 0
    """0 while none is running."""
    started: float = 0.0
    start_at: float = 0.0
    """When the next is to be started; `inf` for never."""
    failures: int = 0


class Processes:
    """*count* children that each run *work*, with their place from 0, and end with what it returns.

    A child that dies is replaced after a pause, one that returns 0 has finished; with *renew* it is
    replaced, too, and at once, for it has only had its share. SIGTERM and SIGINT are handed to
    the children as SIGTERM, a second time too; those still there *shutdown_timeout* seconds and some
    later are killed. Children whose parent is gone stop by themselves.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[int], int],
        *,
        shutdown_timeout: float = 25.0,
        renew: bool = False,
    ) -> None:
        self._work = work
        self._patience = shutdown_timeout + GRACE_SECONDS
        self._renew = renew
        self._places = [_Place() for _ in range(count)]
        self._signals = 0
        self._handed_on = 0
        self._kill_at = inf
        self._status = 0
        # Its writing end is closed when this process is no more, however that came about.
        self._lifeline = os.pipe()

    def run(self) -> int:
        """Keep the children running until all have finished; return 0 if all went well."""
        with self._wake_up() as wake_up:
            try:
                while any(place.pid or place.start_at < inf for place in self._places):
                    self._start_due()
                    wake_up(self._pause())
                    self._hand_on_signals()
                    self._collect()
            finally:
                for end in self._lifeline:
                    os.close(end)
        return self._status

    @property
    def _stopping(self) -> bool:
        return self._handed_on > 0

    def _pause(self) -> float | None:
        due = [place.start_at for place in self._places if not place.pid]
        at = min([*due, self._kill_at], default=inf)
        return None if at == inf else max(0.0, at - monotonic())

    def _start_due(self) -> None:
        for number, place in enumerate(self._places):
            if not place.pid and place.start_at <= monotonic():
                place.started = monotonic()
                place.pid = self._fork(number)

    def _fork(self, place: int) -> int:
        # A signal between the fork and the child's own handlers would go to the parent's.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
            if pid:
                log.info("worker process %d has started", pid)
                return pid
            self._be_child(place)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        raise AssertionError("a child does not return")

    def _be_child(self, place: int) -> None:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, *STOP_SIGNALS):
                signal.signal(number, signal.SIG_DFL)
            # Out of reach of the terminal's ^C, which the parent hands on.
            os.setpgid(0, 0)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            os.close(self._lifeline[1])
            Thread(target=self._watch_parent, name="alligator-lifeline", daemon=True).start()
            status = self._work(place)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            log.exception("a worker process failed")
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _watch_parent(self) -> None:
        os.read(self._lifeline[0], 1)  # nothing is ever written
        os.kill(os.getpid(), signal.SIGTERM)

    def _collect(self) -> None:
        """Note which children have ended."""
        for place in self._places:
            if place.pid:
                pid, status = os.waitpid(place.pid, os.WNOHANG)
                if pid:
                    place.pid = 0
                    self._has_ended(place, pid, os.waitstatus_to_exitcode(status))

    def _has_ended(self, place: _Place, pid: int, code: int) -> None:
        if code == 0 and self._renew and not self._stopping:
            place.start_at = monotonic()
        elif code == 0 or self._stopping:
            # One that SIGTERM has killed was told to end before its worker had begun.
            finished = code in (0, -signal.SIGTERM)
            self._status = self._status or (0 if finished else 1)
            place.start_at = inf
        elif code == EXIT_USAGE:  # it would end like this again
            self._status = EXIT_USAGE
            self._signals += 1
            place.start_at = inf
            self._hand_on_signals()
        else:
            now = monotonic()
            place.failures = 1 if now - place.started > STEADY_SECONDS else place.failures + 1
            pause = min(FIRST_PAUSE * 2 ** (place.failures - 1), MAX_PAUSE)
            place.start_at = now + pause
            how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            log.error("worker process %d %s: another starts in %.1f s", pid, how, pause)

    def _hand_on_signals(self) -> None:
        if self._signals > self._handed_on:
            self._handed_on = self._signals
            self._kill_at = min(self._kill_at, monotonic() + self._patience)
            self._tell(signal.SIGTERM)
        if monotonic() >= self._kill_at:
            self._kill_at = inf
            self._tell(signal.SIGKILL)

    def _tell(self, number: signal.Signals) -> None:
        for place in self._places:
            place.start_at = inf
            if place.pid:
                os.kill(place.pid, number)  # not waited for yet, so the pid is still its own

    @contextmanager
    def _wake_up(self) -> Iterator[Callable[[float | None], None]]:
        """Make a sleep that ends when a signal comes."""

        def handle(signum: int, frame: FrameType | None) -> None:
            if signum != signal.SIGCHLD:
                self._signals += 1

        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)

        def sleep(seconds: float | None) -> None:
            if select.select([reader], [], [], seconds)[0]:
                reader.recv(4096)

        numbers = (signal.SIGCHLD, *STOP_SIGNALS)
        before = {number: signal.signal(number, handle) for number in numbers}
        fd_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield sleep
        finally:
            signal.set_wakeup_fd(fd_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            reader.close()
            writer.close()
