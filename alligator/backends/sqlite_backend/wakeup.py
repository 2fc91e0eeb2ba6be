"""Wake threads of any process that wait for new tasks in a file, without polling the file."""

import errno
import os
import re
import select
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from secrets import token_hex
from time import monotonic
from weakref import finalize

from ..._runtime.flags import InterruptFlag
from ..._runtime.forks import register_fork_hooks

MAX_WAIT = 1.0
"""Seconds after which a waiter looks into the file itself, in case a notification was lost."""

MIN_POLL, MAX_POLL = 0.001, 0.05
"""Shortest and longest seconds between two checks of the file's version, where there are no FIFOs."""

FIFO_NAME = re.compile(r"[0-9]+-[0-9a-f]{12}")
"""A process id and a random number. A file of any other name in the folder is not ours."""


class Notifier:
    """Wakes waiting threads through a folder of FIFOs, one for each thread that waits.

    A notification is written to all of them. A single FIFO would need fewer files, but a byte in it
    wakes one thread only, and the task is late when that thread serves other queues or dies.

    Where there are no FIFOs, waiters check the *version* of the file, a number that changes with
    every write.
    """

    def __init__(self, folder: str, version: Callable[[], int]) -> None:
        self._folder = folder
        self._version = version
        self._waiters: list[Waiter] = []
        self._free: list[Waiter] = []
        self.interrupted: InterruptFlag = InterruptFlag()
        # Not at exit, because a daemon thread may be waiting on one.
        finalize(self, _close_all, self._waiters).atexit = False
        register_fork_hooks(self)

    def notify(self) -> None:
        """Wake every waiter of every process."""
        try:
            folder = _open_folder(self._folder)
        except OSError:
            return  # no thread has waited here yet, or the folder is not ours
        try:
            for name in os.listdir(folder):
                if FIFO_NAME.fullmatch(name):
                    _write_to(folder, name)
        finally:
            os.close(folder)

    @contextmanager
    def waiter(self) -> Iterator["Waiter"]:
        """Lend a waiter to this thread."""
        try:
            waiter = self._free.pop()
        except IndexError:
            waiter = Waiter(self._folder, self._version)
            self._waiters.append(waiter)
        try:
            yield waiter
        finally:
            waiter.poll_seconds = MIN_POLL
            self._free.append(waiter)

    def interrupt(self) -> None:
        """Wake the waiters of this process. Takes no lock, because a signal handler may call it."""
        self.interrupted.set()
        for waiter in tuple(self._waiters):
            waiter.wake()

    def close(self) -> None:
        while self._free:
            waiter = self._free.pop()
            self._waiters.remove(waiter)
            waiter.close()

    def after_fork_in_child(self) -> None:
        """Close the waiters of the parent, but keep their files."""
        self._free.clear()
        while self._waiters:
            self._waiters.pop().close(inherited=True)


class Waiter:
    """What one thread waits on: a FIFO that other processes can find, or else a pipe."""

    def __init__(self, folder: str, version: Callable[[], int]) -> None:
        self.poll_seconds: float = MIN_POLL
        self._version = version
        self._seen = 0
        self._path: str | None = os.path.join(folder, f"{os.getpid()}-{token_hex(6)}")
        try:
            self._out = self._in = _open_fifo(folder, self._path)
        except OSError:  # the file system may have no FIFOs
            self._path = None
            self._out, self._in = os.pipe()
            os.set_blocking(self._out, False)
            os.set_blocking(self._in, False)
        self._readable = select.poll()
        self._readable.register(self._out, select.POLLIN)

    def clear(self) -> None:
        """Discard earlier notifications. Call this before looking into the file."""
        with suppress(BlockingIOError):
            while len(os.read(self._out, 4096)) == 4096:
                pass
        if self._path is None:
            self._seen = self._version()

    def wait(self, seconds: float) -> None:
        """Wait for a notification, at most *seconds* and at most `MAX_WAIT`."""
        seconds = min(seconds, MAX_WAIT)
        if self._path is not None:
            self._readable.poll(seconds * 1000)
            return
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            if self._readable.poll(min(left, self.poll_seconds) * 1000):
                return
            self.poll_seconds = min(2 * self.poll_seconds, MAX_POLL)
            if self._version() != self._seen:
                return

    def wake(self) -> None:
        with suppress(OSError):  # a full FIFO has woken it already
            os.write(self._in, b"!")

    def close(self, *, inherited: bool = False) -> None:
        if self._path and not inherited:
            with suppress(OSError):
                os.unlink(self._path)
        for fd in {self._out, self._in}:
            os.close(fd)


def _open_folder(folder: str) -> int:
    """Open the folder of FIFOs; raise `OSError` if it is a link or writable by other users.

    Another user could put links there, and a push would write to their targets.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if os.fstat(fd).st_mode & 0o022:
        os.close(fd)
        raise PermissionError(errno.EPERM, "other users can write to it", folder)
    return fd


def _open_fifo(folder: str, path: str) -> int:
    os.makedirs(folder, 0o700, exist_ok=True)
    os.close(_open_folder(folder))
    # It gets its final name after it is open, because `_write_to` deletes a FIFO without a reader.
    unnamed = os.path.join(folder, f".{os.path.basename(path)}")
    os.mkfifo(unnamed, 0o600)
    fd = os.open(unnamed, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    os.rename(unnamed, path)
    return fd


def _write_to(folder: int, name: str) -> None:
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ENXIO:  # no reader: its process has ended
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
        return
    with suppress(OSError):
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.write(fd, b"!")
    os.close(fd)


def _close_all(waiters: list[Waiter]) -> None:
    while waiters:
        waiters.pop().close()
