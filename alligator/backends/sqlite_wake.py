"""Wake those who wait for a queue in a file, in this process and in others, without polling."""

import errno
import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from secrets import token_hex
from time import monotonic
from weakref import finalize

from ..forks import tell_of_forks

LONGEST_NAP = 1.0
"""Seconds after which a sleeper looks for itself: a ring is a hint, the file is the truth."""

SHORTEST_POLL, LONGEST_POLL = 0.001, 0.05
"""Seconds between two looks at the file's version where nobody can ring, the first and the longest."""


class Bell:
    """A folder of FIFOs, one for each thread that sleeps; to ring is to write to all of them.

    One FIFO for all would do with less, but a byte in it wakes one sleeper only, and the task is
    late when that one serves other queues or dies on its way to the file.

    Where there are no FIFOs, sleepers ask time and again for the *version* of the file, a number
    that is another when somebody has written to it.
    """

    def __init__(self, folder: str, version: Callable[[], int]) -> None:
        self._folder = folder
        self._version = version
        self._ears: list[Ear] = []
        self._free: list[Ear] = []
        self._interrupts = 0
        self._seen = threading.local()
        finalize(self, _close_all, self._ears)
        tell_of_forks(self)

    def ring(self) -> None:
        """Wake every sleeper of every process."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return  # nobody has ever slept here
        for name in names:
            if not name.startswith("."):
                _write_to(os.path.join(self._folder, name))

    @contextmanager
    def listening(self) -> Iterator["Ear"]:
        """Lend this thread an ear."""
        try:
            ear = self._free.pop()
        except IndexError:
            ear = Ear(self._folder, self._version)
            self._ears.append(ear)
        try:
            yield ear
        finally:
            ear.poll_for = SHORTEST_POLL
            self._free.append(ear)

    def interrupt(self) -> None:
        """Wake the sleepers of this process; nothing here may block, a signal handler calls it."""
        self._interrupts += 1
        for ear in tuple(self._ears):
            ear.poke()

    def interrupted(self) -> bool:
        """Whether there was an interrupt that this thread has not been told of yet."""
        told, self._seen.interrupts = getattr(self._seen, "interrupts", 0), self._interrupts
        return bool(told != self._seen.interrupts)

    def close(self) -> None:
        while self._free:
            ear = self._free.pop()
            self._ears.remove(ear)
            ear.close()

    def after_fork_in_child(self) -> None:
        """Let go of what belongs to the parent, and leave its files."""
        self._free.clear()
        while self._ears:
            self._ears.pop().close(inherited=True)


class Ear:
    """What one thread sleeps on: a FIFO that every process can find, or at least a pipe."""

    def __init__(self, folder: str, version: Callable[[], int]) -> None:
        self.poll_for: float = SHORTEST_POLL
        self._version = version
        self._seen = 0
        self._path: str | None = os.path.join(folder, f"{os.getpid()}-{token_hex(6)}")
        try:
            self._out = self._in = _open_fifo(folder, self._path)
        except OSError:  # not every file system has FIFOs
            self._path = None
            self._out, self._in = os.pipe()
            os.set_blocking(self._out, False)
            os.set_blocking(self._in, False)
        self._readable = select.poll()
        self._readable.register(self._out, select.POLLIN)

    def forget(self) -> None:
        """Drop the rings there were, before looking at what they were about."""
        with suppress(BlockingIOError):
            while len(os.read(self._out, 4096)) == 4096:
                pass
        if self._path is None:
            self._seen = self._version()

    def sleep(self, seconds: float) -> None:
        """Sleep until a ring, at most *seconds*, and never long without a look."""
        seconds = min(seconds, LONGEST_NAP)
        if self._path is not None:
            self._readable.poll(seconds * 1000)
            return
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            if self._readable.poll(min(left, self.poll_for) * 1000):
                return
            self.poll_for = min(2 * self.poll_for, LONGEST_POLL)
            if self._version() != self._seen:
                return

    def poke(self) -> None:
        with suppress(OSError):  # full of rings already: it is awake
            os.write(self._in, b"!")

    def close(self, *, inherited: bool = False) -> None:
        if self._path and not inherited:
            with suppress(OSError):
                os.unlink(self._path)
        for fd in {self._out, self._in}:
            os.close(fd)


def _open_fifo(folder: str, path: str) -> int:
    os.makedirs(folder, 0o700, exist_ok=True)
    # It gets its name when it is open, for a FIFO that nobody reads is taken for a dead one's.
    unnamed = os.path.join(folder, f".{os.path.basename(path)}")
    os.mkfifo(unnamed, 0o600)
    fd = os.open(unnamed, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    os.rename(unnamed, path)
    return fd


def _write_to(path: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nobody reads: its process is dead
            with suppress(OSError):
                os.unlink(path)
        return
    with suppress(OSError):
        os.write(fd, b"!")
    os.close(fd)


def _close_all(ears: list[Ear]) -> None:
    while ears:
        ears.pop().close()
