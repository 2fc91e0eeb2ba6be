"""Run tasks in processes that may hang, crash or eat memory without harm to their worker."""

import json
import os
import select
import signal
import socket
from contextlib import suppress
from tempfile import TemporaryFile
from threading import Lock, local
from time import monotonic
from typing import Any

from .attempts import Attempt, bury
from .backends.base import Lease, Outcome
from .exceptions import ConfigurationError, TaskCrashed, TaskFailed, TaskTimeout
from .gator import Gator
from .isolated import LENGTH, send, serve
from .nursery import KILL, LEAVE, NOT_STARTED, ORDER, START, STATUS, plant
from .tasks import Task, name_in, timeout_in

GRACE_SECONDS = 5.0
"""How much longer than its timeout a task, hooks included, may take before its process is killed."""

TELL_SECONDS = 30.0
"""How long the hook may take that is told of a killed task; also, how long a child may be deaf."""

MAX_TRACE = 4_000
"""How much is kept of where a process crashed, in characters."""

TRIES = 3
"""How many children may die before they take a task, which is then not to blame."""


class Isolation:
    """The processes that run a worker's tasks: one for each of its threads, kept from task to task.

    They are forked from the worker, so they have its program, gator and settings as they were then;
    what a task imports or changes stays in its process. Hooks run there too. A process that dies, or
    is killed because its task is over its timeout, costs that task an attempt, and is replaced.
    """

    def __init__(self, gator: Gator, memory: int | None = None) -> None:
        if gator.conn_string.startswith("locmem:"):
            raise ConfigurationError(
                "locmem:// lives in one process: what an isolated task puts on it would be lost. "
                "Take another store, such as sqlite:///var/lib/app/queue.db."
            )
        self.gone: bool = False
        """Whether no more processes can be had."""
        self._numbers = 0
        self._sending = Lock()
        self._own = local()
        self._children: set[Child] = set()
        self._pid, self._control = plant(
            lambda channel, trace: serve(gator, channel, trace, memory)
        )

    def run(self, lease: Lease) -> Attempt:
        """Run the task of *lease* in the process that belongs to this thread."""
        timeout = timeout_in(lease.data)
        limit = None if timeout is None else timeout + GRACE_SECONDS
        request: dict[str, Any] = {"lease": lease, "dump": limit and limit - GRACE_SECONDS / 4}
        start = monotonic()
        for _ in range(TRIES):
            try:
                answer = self._child().ask(request, limit)
            except Died as died:
                self._forget()
                if self.gone or died.is_nursery_gone:
                    self.gone = True
                    raise RuntimeError("the processes for tasks cannot be replaced") from died
                if died.has_taken:
                    done = self._fail(lease, died, timeout)
                    return done._replace(seconds=monotonic() - start)
            else:
                return self._read(lease, answer)
        raise RuntimeError(f"{TRIES} processes for tasks have died before they took one")

    def order(self, what: bytes, number: int = 0, fds: tuple[int, ...] = ()) -> None:
        """Tell the nursery to do something."""
        with self._sending:
            try:
                socket.send_fds(self._control, [ORDER.pack(what, number)], fds)
            except OSError as error:
                raise Died("the process that starts others is gone", None) from error

    def kill(self) -> None:
        """Kill the processes, whatever they are doing; there will be no others."""
        self.gone = True
        for child in list(self._children):
            with suppress(Died):
                self.order(KILL, child.number)

    def close(self) -> None:
        """Let the processes end, and wait until they have."""
        self.gone = True
        for child in list(self._children):
            child.close()
        self._children.clear()
        with suppress(Died):
            self.order(LEAVE)
        self._control.close()
        with suppress(ChildProcessError):  # somebody else has waited for it
            os.waitpid(self._pid, 0)

    def _child(self) -> "Child":
        child: Child | None = getattr(self._own, "child", None)
        if child is None or child.has_died():
            self._forget()
            with self._sending:
                self._numbers += 1
                number = self._numbers
            child = self._own.child = Child(self, number)
            self._children.add(child)
        return child

    def _forget(self) -> None:
        child: Child | None = getattr(self._own, "child", None)
        if child is not None:
            self._own.child = None
            self._children.discard(child)
            child.close()

    def _fail(self, lease: Lease, died: "Died", timeout: float | None) -> Attempt:
        """Have a new process find out what is to become of a task whose process has died."""
        error: TaskFailed
        if died.is_overdue:
            error = TaskTimeout(f"it took longer than {timeout:g} seconds, and was killed")
        else:
            error = TaskCrashed(str(died))
        if died.trace:
            error.add_note(died.trace)
        request = {"lease": lease, "failed": [died.is_overdue, str(error), died.trace]}
        try:
            done = self._read(lease, self._child().ask(request, TELL_SECONDS))
        except Died as again:
            self._forget()
            if self.gone or again.is_nursery_gone:
                self.gone = True
                raise RuntimeError("the processes for tasks cannot be replaced") from again
            # To import it, or its hook, is deadly too.
            return bury(lease, error)
        return done._replace(error=error)

    def _read(self, lease: Lease, answer: dict[str, Any]) -> Attempt:
        verdict, *more = answer["outcome"]
        outcome = Outcome(verdict, lease, *more)
        error = None
        if answer["reason"]:
            error = TaskFailed(answer["reason"])
            if outcome.traceback:
                error.add_note(outcome.traceback)
        if answer["spent"]:
            self._forget()
        return Attempt(
            outcome,
            RanElsewhere(lease, answer),
            error,
            answer["seconds"],
            answer["number"],
            answer["reason"],
        )


class RanElsewhere(Task):
    """What a worker knows of a task that another process ran."""

    def __init__(self, lease: Lease, answer: dict[str, Any]) -> None:
        super().__init__(lease.task_id)
        self.attempt: int = answer["number"]
        self.result: Any = answer["result"]
        self._name = name_in(lease.data)
        self.headers: dict[str, str] = answer["headers"]

    @property
    def name(self) -> str:
        """The function it called."""
        return self._name


class Died(Exception):
    """A child has died, or its nursery."""

    def __init__(
        self,
        how: str,
        code: int | None,
        *,
        has_taken: bool = False,
        is_overdue: bool = False,
        trace: str = "",
    ) -> None:
        super().__init__(how)
        self.is_nursery_gone: bool = code is None
        self.has_taken = has_taken
        """Whether it had begun the task."""
        self.is_overdue = is_overdue
        self.trace = trace


class Child:
    """One process that runs tasks, as its worker sees it."""

    def __init__(self, isolation: Isolation, number: int) -> None:
        self.number = number
        self._isolation = isolation
        self._channel, theirs = socket.socketpair()
        self._status, status = os.pipe()
        self._trace = TemporaryFile()  # noqa: SIM115 - closed with the child
        self._buffer = bytearray()
        try:
            isolation.order(START, number, (theirs.fileno(), status, self._trace.fileno()))
        except Died:
            self.close()
            raise
        finally:
            theirs.close()
            os.close(status)
        self._channel.settimeout(TELL_SECONDS)
        self._poll = select.poll()
        self._poll.register(self._channel, select.POLLIN)
        self._poll.register(self._status, select.POLLIN)

    def has_died(self) -> bool:
        """Whether it has died since its last task."""
        return bool(self._poll.poll(0))

    def ask(self, request: dict[str, Any], seconds: float | None) -> dict[str, Any]:
        """Have it run a task, and kill it if that takes more than so many *seconds*."""
        try:
            send(self._channel, request)
        except OSError:
            raise self._died(has_taken=False) from None
        taken: dict[str, Any] | None = None
        end = None if seconds is None else monotonic() + seconds
        while True:
            pause = None if end is None else max(0, int((end - monotonic()) * 1000) + 1)
            ready = {fd for fd, _ in self._poll.poll(pause)}
            if self._channel.fileno() in ready:
                is_open = self._receive()
                if taken is None:
                    taken = self._next()
                if taken is not None and (answer := self._next()) is not None:
                    return answer
                if not is_open:
                    raise self._died(has_taken=taken is not None)
            elif ready:
                raise self._died(has_taken=taken is not None)
            elif end is not None and monotonic() >= end:
                raise self._died(has_taken=True, is_overdue=True)

    def close(self) -> None:
        """Let it end when it has nothing to do."""
        self._channel.close()
        self._trace.close()
        if self._status >= 0:
            os.close(self._status)
            self._status = -1

    def _receive(self) -> bool:
        try:
            data = self._channel.recv(65536)
        except OSError:
            return False
        self._buffer += data
        return bool(data)

    def _next(self) -> dict[str, Any] | None:
        """Take the next message out of what was received, if all of it is there."""
        if len(self._buffer) < LENGTH.size:
            return None
        end = LENGTH.size + LENGTH.unpack_from(self._buffer)[0]
        if len(self._buffer) < end:
            return None
        message: dict[str, Any] = json.loads(self._buffer[LENGTH.size : end])
        del self._buffer[:end]
        return message

    def _died(self, *, has_taken: bool, is_overdue: bool = False) -> Died:
        """Wait for its end, which is brought about if need be, and say how it came."""
        try:
            if is_overdue or not select.select([self._status], [], [], 1.0)[0]:
                self._isolation.order(KILL, self.number)
            told = os.read(self._status, STATUS.size)
        except (Died, OSError):
            told = b""
        if len(told) < STATUS.size:
            return Died("the process that starts others is gone", None, has_taken=has_taken)
        code: int = STATUS.unpack(told)[0]
        if code == NOT_STARTED:
            raise RuntimeError("no process for tasks can be started: the system has none left")
        self._trace.seek(0)
        trace = _shortened(self._trace.read().decode(errors="replace"))
        return Died(_how(code), code, has_taken=has_taken, is_overdue=is_overdue, trace=trace)


def _shortened(trace: str) -> str:
    """Keep of the stacks that Python wrote when it crashed, innermost first, what is not ours."""
    ours = f'File "{os.path.dirname(__file__)}{os.sep}'
    kept = []
    is_ours = False
    for line in trace.splitlines():
        is_ours = line.startswith("  File") and (is_ours or ours in line)
        if not is_ours:
            kept.append(line)
    return "\n".join(kept)[:MAX_TRACE]


def _how(code: int) -> str:
    if code >= 0:
        return f"its process ended with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    perhaps = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
    return f"its process was killed by {name}{perhaps}"
