"""Call a function with a time limit in its own thread, as far as Python allows it."""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ctypes import c_ulong, py_object, pythonapi
from functools import partial
from itertools import compress, islice, starmap
from operator import is_, itemgetter
from threading import Condition, Thread, get_ident
from time import monotonic
from types import CoroutineType
from typing import Any, TypeVar

from ..exceptions import NotRunnable, TaskTimeout
from .forks import register_fork_hooks
from .interrupts import Interrupt, boundaries, check_log_records, due, interrupted, is_own

T = TypeVar("T")

REPEAT_SECONDS = 1.0
"""After how many seconds a function that handled the interruption is interrupted again."""

RETRY_SECONDS = 0.01
"""After how many seconds to try again if a function could not be interrupted."""

IDLE_SECONDS = 3600.0


def call(
    seconds: float, func: Callable[..., T], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> T:
    """Return the result of *func*; raise `TaskTimeout` if it takes longer than *seconds*.

    The function is interrupted only in its own Python code: not in Alligator, and not while it logs
    or imports. A call into the operating system or an extension is not aborted. If the function
    handles the interruption and continues, it is interrupted again. If it ends too late, it has
    failed, also if it returned a result.
    """
    limit = _Limit(get_ident(), monotonic() + seconds)
    try:
        try:
            _watcher.add(limit)
            result = func(*args, **kwargs)
        finally:
            _watcher.remove(limit)
    except KeyboardInterrupt:
        _watcher.remove(limit)
        raise
    except BaseException as error:
        # Again, because the interruption may have arrived at the first step of `remove`.
        _watcher.remove(limit)
        if limit.is_over and (limit.was_interrupted or isinstance(error, Interrupt)):
            raise _timeout(seconds) from error
        raise
    if limit.is_over:
        if isinstance(result, CoroutineType):
            result.close()  # otherwise Python warns that it was never awaited
        raise _timeout(seconds)
    return result


boundaries.add(call.__code__)


def end_call(thread: int, is_meant: Callable[[], bool]) -> None:
    """Let the `call` that *thread* makes exceed its limit now, if *is_meant* returns True during it."""
    _watcher.end(thread, is_meant)


def _timeout(seconds: float) -> TaskTimeout:
    return TaskTimeout(f"the task took longer than {seconds:g} seconds")


class _Limit:
    """A call in *thread* that must end by *at*, on the monotonic clock."""

    def __init__(self, thread: int, at: float) -> None:
        self.thread = thread
        self.at = at
        self.is_over = False
        """Whether the call ended too late."""
        self.was_interrupted = False
        """Whether the call was interrupted."""


class _Watcher:
    """A thread that interrupts all calls of this process that have exceeded their limits."""

    def __init__(self) -> None:
        self.after_fork_in_child()
        register_fork_hooks(self)

    def after_fork_in_child(self) -> None:
        self._changed = Condition()
        self._limits: set[_Limit] = set()
        self._thread: Thread | None = None
        self._next_check = 0.0
        self._end_checks: Callable[[], None] | None = None
        due.clear()
        interrupted.clear()

    def add(self, limit: _Limit) -> None:
        with self._changed:
            self._limits.add(limit)
            if self._thread is None:
                thread = Thread(target=self._run, name="alligator-timeouts", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise NotRunnable(f"no thread can be started: {error}") from error
                self._thread = thread
            elif limit.at < self._next_check:
                self._changed.notify()

    def remove(self, limit: _Limit) -> None:
        """Stop watching *limit*; calling it twice does no harm."""
        with self._changed:
            if limit not in self._limits:
                return
            self._limits.remove(limit)
            limit.is_over = monotonic() >= limit.at
            limit.was_interrupted = limit.thread in interrupted
            if limit.is_over:  # otherwise the interruption is for a call around this one
                due.discard(limit.thread)
                if interrupted.pop(limit.thread, None) is not None:
                    _receive(limit.thread)

    def end(self, thread: int, is_meant: Callable[[], bool]) -> None:
        with self._changed:
            limits = [each for each in self._limits if each.thread == thread]
            # While this holds the lock, none of these calls can end, and none can begin.
            if limits and is_meant():
                for limit in limits:
                    limit.at = min(limit.at, monotonic())
                self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while True:
                now = monotonic()
                pause = min(
                    [self._check(limit, now) for limit in self._limits], default=IDLE_SECONDS
                )
                if self._end_checks is not None and not due:
                    self._end_checks()
                    self._end_checks = None
                self._next_check = now + pause
                self._changed.wait(pause)

    def _check(self, limit: _Limit, now: float) -> float:
        """Interrupt the call if it has exceeded its limit; return the seconds until the next check."""
        at = max(limit.at, interrupted.get(limit.thread, -REPEAT_SECONDS) + REPEAT_SECONDS)
        if now < at:
            return min(at - now, IDLE_SECONDS)
        if _interrupt(limit.thread):
            due.discard(limit.thread)
            interrupted[limit.thread] = now
            return REPEAT_SECONDS
        due.add(limit.thread)
        if self._end_checks is None:
            self._end_checks = check_log_records()
        return RETRY_SECONDS


def _interrupt(thread: int) -> bool:
    """Interrupt *thread* if it runs the code of a task; return whether it was interrupted."""
    with _without_collections():
        frame = sys._current_frames().get(thread)
        if not is_own(frame):
            return False
        # Since the line above, this thread may have released the GIL, and the other thread may have
        # continued. So compare its frame once more, and raise the exception if it is the same. Both
        # happen in one call of C code (the `next` below), which never releases the GIL. The other
        # thread gets the exception at its next check: in that frame, or at the entry of the function
        # that the frame calls or returns to.
        snapshots = islice(iter(sys._current_frames, None), 1)
        is_same = map(partial(is_, frame), map(itemgetter(thread), snapshots))
        exception = (c_ulong(thread), py_object(Interrupt))
        raised = starmap(pythonapi.PyThreadState_SetAsyncExc, compress([exception], is_same))
        return bool(next(raised, 0))


def _receive(thread: int) -> None:
    """Receive the exception that was set for *thread*, the current one, if it has not arrived yet.

    It must not be raised in later code. So another exception replaces it, and is caught here. If it
    were withdrawn, with NULL, a flag of the interpreter would stay set: every thread would be slower
    (3.12), and would hang as soon as it is profiled or traced (3.11).
    """
    with suppress(Interrupt):
        pythonapi.PyThreadState_SetAsyncExc(c_ulong(thread), py_object(Interrupt))
        for _ in range(2):  # it arrives at the end of the call, or at the latest here
            pass


@contextmanager
def _without_collections() -> Iterator[None]:
    """Prevent garbage collection in the block.

    Before 3.12 a collection may begin in `sys._current_frames`, which holds a lock of the interpreter.
    If a finalizer then lets another thread run, and that thread needs this lock, the process is
    deadlocked.
    """
    if sys.version_info >= (3, 12) or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


_watcher = _Watcher()
