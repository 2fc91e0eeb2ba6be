"""Run tasks in processes that may hang, crash or use too much memory without harm to the worker."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import TIMEOUT_MAX, Lock, local
from time import monotonic
from typing import Any

from ..._runtime.failures import describe
from ..._runtime.log import log
from ..._runtime.remote_errors import unpack
from ...backends.base import Lease, Outcome
from ...exceptions import (
    ConfigurationError,
    NotRunnable,
    PayloadError,
    TaskCrashed,
    TaskFailed,
    TaskTimeout,
    TaskTooLarge,
)
from ...execution.attempt import Attempt, LeaseEnded, bury
from ...gator import Gator
from ...payload.envelope import name_in, timeout_in
from ...tasks import Task
from ...tasks.decisions import Snooze
from .child import serve
from .client import ForkServerClient, ForkServerEnded
from .messages import Message
from .process import ChildProcess, ProcessDied

GRACE_SECONDS = 5.0
"""How much longer than its timeout a task and its hooks may take before the process is killed."""

HOOK_SECONDS = 30.0
"""How long the error hook of a task whose process has died may take."""

TRIES = 3
"""How many processes may die before they start a task; it is released then."""


class Isolation:
    """The processes that run a worker's tasks: one for each of its threads, kept from task to task.

    They are forked from the worker, so they have its program, gator and settings as they were then.
    What a task imports or changes stays in its process. Hooks run there, too. If a process dies, or is
    killed because its task exceeded the timeout, the task loses an attempt, and the process is
    replaced.
    """

    def __init__(self, gator: Gator, memory: int | None = None, loop_kind: str = "asyncio") -> None:
        if gator.conn_string.startswith("locmem:"):
            raise ConfigurationError(
                "locmem:// lives in one process: tasks that an isolated task pushes would be lost. "
                "Use another store, such as sqlite:///var/lib/app/queue.db."
            )
        self.has_ended: bool = False
        """Whether no more processes can be started."""
        self._guard = gator.guard
        self._local = local()
        self._children: set[ChildProcess] = set()
        self._entered: list[ChildProcess] = []
        """The process that has entered the lifespan, until a thread uses it."""
        self._lock = Lock()
        self._asked: dict[Lease, ChildProcess] = {}
        """The processes that run tasks now."""
        self._canceled: set[Lease] = set()
        """The leases whose processes were killed because their tasks were canceled."""
        self._server = ForkServerClient(
            lambda channel, trace: serve(gator, channel, trace, memory, loop_kind)
        )

    def enter(self, go_on: Callable[[], bool]) -> bool:
        """Start a process, which enters the lifespan of the gator before its first task.

        Returns False if that failed, or if *go_on* returned False meanwhile.
        """
        try:
            child = ChildProcess(self._server)
            self._children.add(child)
            child.ask({}, None, go_on)
        except (OSError, NotRunnable, ForkServerEnded, ProcessDied) as error:
            if go_on():
                log.error(
                    "the lifespan of this worker cannot start in a process for isolated tasks: %s. This "
                    "worker ends and takes no task",
                    describe(error),
                )
            else:
                log.info("stopped while its lifespan was starting; no task was taken")
            return False
        self._entered.append(child)
        return True

    def run(self, lease: Lease, until: Callable[[Lease], float] | None = None) -> Attempt:
        """Run the task of *lease* in the process that belongs to this thread.

        Raises `LeaseEnded` if it would start later than *until* returns, by `clock`, and `NotRunnable`
        if no process has started it. After any other exception it may have run.
        """
        try:
            # Nothing in a payload is used before its signature is verified, not even its timeout.
            timeout = timeout_in(self._guard.open(lease.queue_name, lease.task_id, lease.data))
            return self._run(lease, timeout, until)
        except (PayloadError, TaskTooLarge) as error:
            return bury(lease, error)
        finally:
            self._canceled.discard(lease)

    def kill(self) -> None:
        """Kill the processes, whatever they are doing; no others are started."""
        self.has_ended = True
        for child in list(self._children):
            with suppress(ForkServerEnded):
                child.kill()

    def cancel(self, leases: Sequence[Lease]) -> None:
        """Kill the processes that run the tasks of *leases*; any other thread may call this."""
        with self._lock:
            for lease in leases:
                child = self._asked.get(lease)
                if child is not None and lease not in self._canceled:
                    self._canceled.add(lease)
                    with suppress(ForkServerEnded):
                        child.kill()

    def close(self) -> None:
        """End the processes, and wait until they have ended."""
        self.has_ended = True
        for child in list(self._children):
            child.close()
        self._children.clear()
        self._server.close()

    def _run(
        self, lease: Lease, timeout: float | None, until: Callable[[Lease], float] | None
    ) -> Attempt:
        request: Message = {"lease": lease}
        limit = None if timeout is None else timeout + GRACE_SECONDS
        if limit is not None:
            request["dump"] = min(limit - GRACE_SECONDS / 4, TIMEOUT_MAX)
        start = monotonic()
        for _ in range(TRIES):
            try:
                return self._ask(lease, request, limit, until)
            except ForkServerEnded as error:
                raise self._end() from error
            except ProcessDied as died:
                if self.has_ended:
                    raise self._end() from died
                if self._was_killed(lease):
                    return Attempt(Outcome("release", lease), None, died, monotonic() - start)
                if died.has_started:
                    done = self._fail(lease, died, timeout)
                    return done._replace(seconds=monotonic() - start)
        raise NotRunnable(f"{TRIES} processes for tasks have died before they started one")

    def _ask(
        self,
        lease: Lease,
        request: Message,
        seconds: float | None,
        until: Callable[[Lease], float] | None = None,
    ) -> Attempt:
        """Return the answer of this thread's process; replace a process that has died."""
        try:
            child = self._child()
            if until is not None:  # now: to start the process may have taken long
                request["until"] = until(lease)
            with self._lock:
                self._asked[lease] = child
            try:
                answer = child.ask(request, seconds)
            finally:
                with self._lock:
                    del self._asked[lease]
        except (ForkServerEnded, ProcessDied):
            self._forget_child()
            raise
        if lease in self._canceled:  # it has answered before it was killed
            self._kill_child()
        if answer.get("ended"):
            raise LeaseEnded
        try:
            return self._attempt_of(lease, answer)
        except Exception:  # Alligator does not send such an answer: do not use the process again
            self._kill_child()
            raise

    def _was_killed(self, lease: Lease) -> bool:
        """Return whether the process of *lease* was killed because its task was canceled."""
        with self._lock:
            return lease in self._canceled

    def _end(self) -> NotRunnable:
        self.has_ended = True
        return NotRunnable("the processes for tasks have died and cannot be replaced")

    def _fail(self, lease: Lease, died: ProcessDied, timeout: float | None) -> Attempt:
        """Return the failed attempt of a task whose process has died; run its hook in a new process."""
        if died.is_garbled:
            # A process that an earlier task has left behind may have sent it. So this counts as a
            # lost delivery, not as an attempt of this task.
            raise RuntimeError(
                f"the process of task {lease.task_id} sent something that is not an answer and was "
                "killed; the task runs again when its lease expires"
            ) from died
        error: TaskFailed
        if died.is_overdue:
            error = TaskTimeout(f"the task took longer than {timeout:g} seconds, and was killed")
        else:
            error = TaskCrashed(str(died))
        if died.trace:
            error.add_note(died.trace)
        request: Message = {"lease": lease, "failed": [died.is_overdue, str(error), died.trace]}
        try:
            done = self._ask(lease, request, HOOK_SECONDS)
        except ForkServerEnded as ended:
            raise self._end() from ended
        except ProcessDied as again:
            if self.has_ended:
                raise self._end() from again
            return bury(lease, error)  # its import, or its hook, kills the process, too
        return done._replace(error=error)

    def _child(self) -> ChildProcess:
        """Return the process of this thread; start one if there is none, or if it has died."""
        child: ChildProcess | None = getattr(self._local, "child", None)
        if child is None and self._entered:
            with suppress(IndexError):  # another thread was faster
                child = self._local.child = self._entered.pop()
        if child is None or child.has_died():
            self._forget_child()
            try:
                child = self._local.child = ChildProcess(self._server)
            except OSError as error:
                raise NotRunnable(f"no process for tasks can be started: {error}") from error
            self._children.add(child)
        return child

    def _forget_child(self) -> None:
        child: ChildProcess | None = getattr(self._local, "child", None)
        if child is not None:
            self._local.child = None
            self._children.discard(child)
            child.close()

    def _kill_child(self) -> None:
        child: ChildProcess | None = getattr(self._local, "child", None)
        if child is not None:
            with suppress(ForkServerEnded):
                child.kill()
        self._forget_child()

    def _attempt_of(self, lease: Lease, answer: Message) -> Attempt:
        verdict, *more = answer["outcome"]
        outcome = Outcome(verdict, lease, *more)
        error: Exception | None = Snooze(outcome.delay) if answer["snoozes"] else None
        if error is None:
            error = _error_of(answer["reason"], answer["error"], outcome.traceback)
        if answer["out_of_memory"]:
            self._forget_child()
        return Attempt(
            outcome,
            IsolatedTask(lease, answer),
            error,
            answer["seconds"],
            answer["number"],
            answer["reason"],
        )


class IsolatedTask(Task):
    """What a worker knows of a task that ran in another process."""

    def __init__(self, lease: Lease, answer: Message) -> None:
        super().__init__(lease.task_id)
        self.attempt: int = answer["number"]
        self.result: Any = answer["result"]
        self._name = name_in(lease.data)
        self.headers: dict[str, str] = answer["headers"]

    @property
    def name(self) -> str:
        """The name of its function."""
        return self._name


def _error_of(reason: str, packed: Message | None, traceback: str) -> Exception | None:
    """Return the error of a task that ran in another process, for the log and error trackers."""
    if not reason:
        return None
    if packed is not None:
        with suppress(ValueError, TypeError, SyntaxError):  # an invalid name of a class or a file
            return unpack(packed, TaskFailed)
    error = TaskFailed(reason)
    if traceback:
        error.add_note(traceback)
    return error
