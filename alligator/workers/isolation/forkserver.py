"""The fork server: a process with one thread that forks the processes of isolated tasks."""

import gc
import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, sleep

from ..._runtime import exits, streams
from ..._runtime.log import log
from ...constants import STOP_SIGNALS

START, KILL, SHUT_DOWN = b"s", b"k", b"l"
"""Commands to a fork server: start a child, kill it, end with all children."""

COMMAND = struct.Struct("!cI")
STATUS = struct.Struct("!i")

NOT_STARTED = 1 << 16
"""Reported in place of an exit code if the child could not be started."""

SHUTDOWN_SECONDS = exits.CHILD_EXIT_SECONDS + 1.0
"""How long the children may take to end by themselves before they are killed."""

Work = Callable[[socket.socket, int], None]
"""Runs in a child, with its channel and the file descriptor for the traceback of a crash."""


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    status: int
    """The file descriptor to which its exit code is written."""


class ForkServer:
    """A process that forks children on command, and reports the exit code of each.

    A process with threads cannot be forked safely: a lock that another thread holds at that moment
    stays locked in the child. So a worker forks this process before it starts threads. It ends with
    its worker, even if that is killed, and the children end with it.

    `multiprocessing.forkserver` does not fit, for three reasons. It starts a new Python, to which a
    gator with its connections and hooks cannot be pickled. SIGTERM from a service manager ends it;
    its children continue but are reported as dead, so their tasks would run twice. It reaps a child
    before the processes that a task has left behind can be killed by the child's process group.
    """

    def __init__(self, control: socket.socket, work: Work) -> None:
        self._control = control
        self._work = work
        self._children: dict[int, _Process] = {}
        self._reader, self._writer = socket.socketpair()

    def run(self) -> None:
        """Execute the commands of the worker until it shuts this process down or ends."""
        with self._control, self._reader, self._writer:
            self._run()

    def _run(self) -> None:
        os.setpgid(0, 0)  # Ctrl-C in the terminal is for the worker only
        for end in (self._reader, self._writer):
            end.setblocking(False)
        _ignore_signals(*STOP_SIGNALS, signal.SIGCHLD)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        gc.freeze()  # the garbage collector does not touch these objects, so their memory stays shared
        poll = select.poll()
        for source in (self._control, self._reader):
            poll.register(source, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._reader.fileno() in ready:
                self._reader.recv(4096)
                self._collect()
            if self._control.fileno() in ready and not self._execute_command():
                break
        self._shut_down()

    def _execute_command(self) -> bool:
        """Execute the next command; return False if this process should end."""
        data, fds, _, _ = socket.recv_fds(self._control, COMMAND.size, 3)
        if len(data) < COMMAND.size:
            return False
        command, number = COMMAND.unpack(data)
        if command == START:
            self._start(number, fds)
        elif command == KILL and number in self._children:
            _kill_group(self._children[number].pid)
        return bool(command != SHUT_DOWN)

    def _start(self, number: int, fds: Sequence[int]) -> None:
        """Fork a child with *fds*: for its exit code, its channel, and the traceback of a crash."""
        pid = (
            _fork() if len(fds) == 3 else None
        )  # fewer arrive if this process has no free descriptor
        if pid == 0:
            status, channel, trace = fds
            os.close(status)
            self._run_child(channel, trace)
        for fd in fds[1:]:
            os.close(fd)
        if pid is not None:
            with suppress(OSError):  # parent and child both do it, because either may be first
                os.setpgid(pid, pid)
            self._children[number] = _Process(pid, fds[0])
        elif fds:
            _report_exit(fds[0], NOT_STARTED)

    def _run_child(self, channel: int, trace: int) -> None:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            # A service manager sends these to all processes, but only the worker stops tasks.
            _ignore_signals(*STOP_SIGNALS)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            os.setpgid(0, 0)  # so that processes that a task starts can be killed with it
            for end in (self._control, self._reader, self._writer):
                end.close()
            for other in self._children.values():
                os.close(other.status)
            with socket.socket(fileno=channel) as own_channel:
                self._work(own_channel, trace)
            code = 0
        except BaseException:
            log.exception("a process for isolated tasks failed")
        finally:
            exits.exit_child(code)

    def _collect(self) -> None:
        for number, process in list(self._children.items()):
            code = _reap(process.pid)
            if code is not None:
                del self._children[number]
                _report_exit(process.status, code)

    def _shut_down(self) -> None:
        """Wait up to `SHUTDOWN_SECONDS` for the children, and kill the others."""
        end = monotonic() + SHUTDOWN_SECONDS
        while self._children and monotonic() < end:
            sleep(0.005)
            self._collect()
        for process in self._children.values():
            _kill_group(process.pid)


def start_fork_server(work: Work) -> tuple[int, socket.socket]:
    """Fork a server whose children do *work*; return its pid and the socket for commands."""
    ours, theirs = socket.socketpair()
    streams.flush()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    try:
        ours.close()
        ForkServer(theirs, work).run()
    except BaseException:
        log.exception("the fork server failed")
    finally:
        os._exit(0)  # no cleanup: everything in this process is a copy that belongs to the worker
    raise AssertionError("a fork server does not return")


def _fork() -> int | None:
    """Fork with `STOP_SIGNALS` blocked; return the pid, or None if it fails."""
    # Until the child has set its own handlers, a signal would end it and its task.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    pid = None
    try:
        pid = os.fork()
    except OSError as error:
        log.error("could not fork a process for isolated tasks: %s", error)
    finally:
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    return pid


def _reap(pid: int) -> int | None:
    """Return the exit code of a child, and kill what its tasks have left; None if it still runs."""
    if not hasattr(os, "waitid"):  # macOS, before Python 3.13
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            _kill_group(pid)
        return os.waitstatus_to_exitcode(status) if ended else None
    if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        return None
    _kill_group(pid)  # first: after the wait, its pid may be reused
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _report_exit(status: int, code: int) -> None:
    """Write the exit code of a child for the worker."""
    with suppress(OSError):  # the worker has closed its end
        os.write(status, STATUS.pack(code))
    os.close(status)


def _kill_group(pid: int) -> None:
    """Kill a child and the processes that its tasks have started."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _ignore_signals(*numbers: signal.Signals) -> None:
    # A handler that does nothing: programs that a task runs would inherit SIG_IGN.
    for number in numbers:
        signal.signal(number, _do_nothing)


def _do_nothing(signum: int, frame: object) -> None:
    pass
