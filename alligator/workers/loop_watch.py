"""Measure how long the event loop of a worker is blocked, and say by which code."""

import asyncio
import logging
import sys
import sysconfig
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import CodeType, FrameType

from .._runtime.failures import EVENT
from .._runtime.interrupts import package_of
from ..backends.base import Lease
from ..payload.envelope import name_in
from ..telemetry.logs import about, escape

LIBRARIES = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))


class LoopWatch:
    """Asks an event loop again and again whether it still runs.

    *thread* is the id of its thread. If it does not answer within *patience* seconds, a warning names
    the task and the line that block it. *run* is the code that runs a task on the loop, and its
    variable ``lease`` the task's lease.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        thread: Callable[[], int | None],
        run: CodeType,
        log: logging.Logger,
        patience: float,
    ) -> None:
        self._loop = loop
        self._thread = thread
        self._run = run
        self._log = log
        self._patience = patience
        self._asked_at: float | None = None
        self._has_warned = False
        self._worst = 0.0

    def check(self) -> None:
        """Ask the loop, or look how long its answer takes; one thread calls this regularly."""
        asked_at = self._asked_at
        if asked_at is None:
            self._asked_at = monotonic()
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._answer)
            return
        lag = monotonic() - asked_at
        self._worst = max(self._worst, lag)
        if lag > self._patience and not self._has_warned:
            self._has_warned = True
            self._warn(lag)

    def take_lag(self) -> float:
        """Return the longest time that the loop took to answer since the last call."""
        worst, self._worst = self._worst, 0.0
        return worst

    def _answer(self) -> None:
        if self._asked_at is not None:
            self._worst = max(self._worst, monotonic() - self._asked_at)
        self._asked_at = None
        self._has_warned = False

    def _warn(self, lag: float) -> None:
        thread = self._thread()
        frame = None if thread is None else sys._current_frames().get(thread)
        if frame is None:
            return
        lease = self._lease_of(frame)
        event = (
            f"blocks the event loop, so that all coroutines of this worker wait: {_line(frame)}. Use "
            "an asynchronous library there, or await asyncio.to_thread(...)"
        )
        fields: dict[str, object] = {EVENT: event, "seconds": lag}
        if lease is None:
            which = f"a coroutine that a task has created {event}"
        else:
            name = name_in(lease.data)
            which = f"{about(name, lease.task_id)} {event}"
            fields.update(task_id=lease.task_id, task=name)
        self._log.warning("%s (for %.1f s now)", which, lag, extra=fields)

    def _lease_of(self, frame: FrameType | None) -> Lease | None:
        """Return the lease of the task whose code runs in *frame*."""
        while frame is not None:
            if frame.f_code is self._run:
                lease = frame.f_locals.get("lease")
                return lease if isinstance(lease, Lease) else None
            frame = frame.f_back
        return None


def _line(frame: FrameType) -> str:
    """Return the innermost line of the project that runs in *frame*; else the innermost of any code."""
    innermost = frame
    candidate: FrameType | None = frame
    while candidate is not None and package_of(candidate) not in ("alligator", "asyncio"):
        if not candidate.f_code.co_filename.startswith((*LIBRARIES, "<")):
            innermost = candidate
            break
        candidate = candidate.f_back
    code = innermost.f_code
    return escape(f"{code.co_filename}:{innermost.f_lineno} in {code.co_qualname}")
