"""Fork the processes that tasks run in, from a process that has one thread and does nothing else."""

import gc
import logging
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, sleep

from .constants import STOP_SIGNALS

START, KILL, LEAVE = b"s", b"k", b"l"
"""What a nursery may be asked: to start a child, to kill it, to end with all of them."""

ORDER = struct.Struct("!cI")
STATUS = struct.Struct("!i")

NOT_STARTED = 1 << 16
"""What is told in place of an exit status when there could be no child."""

LEAVE_SECONDS = 1.0
"""How long children that nobody needs any more may take to end by themselves."""

log: logging.Logger = logging.getLogger("alligator")

Work = Callable[[socket.socket, int], None]
"""What a child does, with its channel and the file to write to when it crashes."""


@dataclass(frozen=True, slots=True)
class _Born:
    pid: int
    status: int
    """Where to write how it has ended."""


class Nursery:
    """A process that forks children on demand, and says how each of them has ended.

    A worker has threads, and a process that has threads cannot be forked without danger: whatever
    lock another thread holds at that moment stays locked in the child. So this one is forked before
    the worker has any. It ends with its worker, however that comes about, and the children with it.
    """

    def __init__(self, control: socket.socket, work: Work) -> None:
        self._control = control
        self._work = work
        self._children: dict[int, _Born] = {}
        self._reader, self._writer = socket.socketpair()

    def run(self) -> None:
        """Do as the worker says until it says no more."""
        os.setpgid(0, 0)  # out of reach of the terminal's ^C, which is for the worker
        for end in (self._reader, self._writer):
            end.setblocking(False)
        # A handler that does nothing, for to ignore a signal is inherited by programs that are run.
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, _disregard)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        gc.freeze()  # what is never looked at is never copied
        poll = select.poll()
        for source in (self._control, self._reader):
            poll.register(source, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._reader.fileno() in ready:
                self._reader.recv(4096)
                self._collect()
            if self._control.fileno() in ready and not self._obey():
                break
        self._leave()

    def _obey(self) -> bool:
        order, fds, _, _ = socket.recv_fds(self._control, ORDER.size, 3)
        if len(order) < ORDER.size:
            return False
        what, number = ORDER.unpack(order)
        if what == START:
            self._start(number, *fds)
        elif what == KILL and number in self._children:
            _kill(self._children[number].pid)
        return bool(what != LEAVE)

    def _start(self, number: int, channel: int, status: int, trace: int) -> None:
        try:
            pid = os.fork()
        except OSError:
            with suppress(OSError):  # nobody reads it any more
                os.write(status, STATUS.pack(NOT_STARTED))
            os.close(status)
        else:
            if pid == 0:
                os.close(status)
                self._be_child(socket.socket(fileno=channel), trace)
            with suppress(OSError):  # both do it, for either may be the first
                os.setpgid(pid, pid)
            self._children[number] = _Born(pid, status)
        os.close(channel)
        os.close(trace)

    def _be_child(self, channel: socket.socket, trace: int) -> None:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setpgid(0, 0)  # so that what a task has started can be killed with it
            for end in (self._control, self._reader, self._writer):
                end.close()
            for other in self._children.values():
                os.close(other.status)
            self._work(channel, trace)
            code = 0
        except BaseException:
            log.exception("a process for tasks failed")
        finally:
            with suppress(BaseException):
                logging.shutdown()
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _collect(self) -> None:
        for number, born in list(self._children.items()):
            pid, status = os.waitpid(born.pid, os.WNOHANG)
            if pid:
                del self._children[number]
                with suppress(OSError):  # nobody reads it any more
                    os.write(born.status, STATUS.pack(os.waitstatus_to_exitcode(status)))
                os.close(born.status)

    def _leave(self) -> None:
        """Wait a moment for children that have nothing to do, and kill the others."""
        end = monotonic() + LEAVE_SECONDS
        while self._children and monotonic() < end:
            sleep(0.005)
            self._collect()
        for born in self._children.values():
            _kill(born.pid)


def plant(work: Work) -> tuple[int, socket.socket]:
    """Fork a nursery whose children do *work*, and return its pid and the line to it."""
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    try:
        ours.close()
        Nursery(theirs, work).run()
    except BaseException:
        log.exception("the process that forks others failed")
    finally:
        os._exit(0)  # nothing else: it is a copy of the worker, and has nothing of its own
    raise AssertionError("a nursery does not return")


def set_limits(memory: int | None) -> None:
    """Let this process die with its parent and before its worker; give it *memory* MiB, if said."""
    if sys.platform == "linux":
        parent = os.getppid()
        _die_with_parent()
        if os.getppid() != parent:
            os._exit(1)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    if memory is not None:
        import resource

        used = _address_space()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = used + memory * 1024 * 1024
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _die_with_parent() -> None:
    from ctypes import CDLL

    set_death_signal = 1
    CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def _address_space() -> int:
    """Measure what this process has of it already, in bytes; 0 where that cannot be found out."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)  # not waited for yet, so the pid is still its own
    except OSError:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _disregard(signum: int, frame: object) -> None:
    pass
