"""Sleep until a task may have arrived."""

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Final
from weakref import finalize

from ..._runtime.flags import InterruptFlag
from ..._runtime.forks import register_fork_hooks
from .marks import Marks
from .sessions import CALL_SECONDS, Session
from .statements import Statements, statement
from .wire import READABLE

WAIT_SECONDS: Final = 5.0
"""How long a worker sleeps at most: it bounds the delay if the worker that took a wake-up died."""

POLL_SECONDS: Final = 0.25
"""How often a worker looks for tasks through a pooler, which passes on no notifications."""

Pipe = tuple[int, int]


class Sleepers:
    """Lets the threads of a process sleep, and wakes them up on an interrupt."""

    def __init__(self, statements: Statements, marks: Marks) -> None:
        self._statements = statements
        self._marks = marks
        self._interrupted = InterruptFlag()
        self._pipes: list[Pipe] = []
        self._free: list[Pipe] = []
        # Not at exit, because a daemon thread may be waiting on one.
        finalize(self, _close_all, self._pipes).atexit = False
        register_fork_hooks(self)

    def is_interrupted(self) -> bool:
        """Return whether there was an interrupt since this thread last asked."""
        return self._interrupted.is_new()

    def sleep(self, session: Session, names: list[str], end: float) -> bool:
        """Sleep until a task may be there, at most until *end*; return False if interrupted.

        Without a pooler, the session holds locks afterwards, which show a push that a worker sleeps.
        """
        with self._pipe() as (readable, _):
            if session.is_pooled:
                return self._poll(session, names, end, readable)
            until = monotonic() + CALL_SECONDS
            if not session.listens:
                # Its own channel: a push wakes as many workers as it has tasks.
                channel = f"LISTEN alligator_{session.wire.pgconn.backend_pid}"
                session.wire.call(statement(channel), [], until)
                session.listens = True
            scan = self._marks.scan(names)
            values = [names, scan.after, scan.turns, scan.since]
            [(pause,)] = session.wire.call(self._statements.sleep, values, until)
            longest = min(WAIT_SECONDS, self._marks.seconds_until_full(scan))
            left = min(pause, end - monotonic(), longest)
            if left > 0 and not self.is_interrupted():
                session.wire.sleep(left, readable)
            return not self.is_interrupted()

    def _poll(self, session: Session, names: list[str], end: float, readable: int) -> bool:
        poll = select.poll()
        poll.register(readable, READABLE)
        while not self.is_interrupted():
            scan = self._marks.scan(names)
            values = [names, scan.after, scan.turns, scan.since]
            until = monotonic() + CALL_SECONDS
            [(pause,)] = session.wire.call(self._statements.pause, values, until)
            left = min(pause, end - monotonic())
            if left <= 0:
                return True
            poll.poll(min(left, POLL_SECONDS) * 1000)
        return False

    def interrupt(self) -> None:
        """Wake all threads that sleep. Takes no lock, because a signal handler may call it."""
        self._interrupted.set()
        for _, writable in tuple(self._pipes):
            with suppress(OSError):  # a full pipe has woken it already
                os.write(writable, b"!")

    @contextmanager
    def _pipe(self) -> Iterator[Pipe]:
        try:
            pipe = self._free.pop()
        except IndexError:
            pipe = os.pipe()
            for fd in pipe:
                os.set_blocking(fd, False)
            self._pipes.append(pipe)
        else:
            with suppress(BlockingIOError):
                os.read(pipe[0], 4096)
        try:
            yield pipe
        finally:
            self._free.append(pipe)

    def after_fork_in_child(self) -> None:
        """Close the pipes of the parent, which would wake its threads."""
        self._free.clear()
        _close_all(self._pipes)

    def close(self) -> None:
        """Close the pipes that no thread uses."""
        while self._free:
            pipe = self._free.pop()
            self._pipes.remove(pipe)
            _close_all([pipe])


def _close_all(pipes: list[Pipe]) -> None:
    while pipes:
        for fd in pipes.pop():
            os.close(fd)
