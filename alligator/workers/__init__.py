"""Workers take tasks from queues and run them."""

import logging
import os
from collections.abc import Sequence
from contextvars import copy_context
from threading import local
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from .._runtime import exits, forks
from ..backends.base import Lease
from ..constants import ALL, LEASE_SECONDS, MAX_LOST, MAX_TIMEOUT, UNRUNNABLE_SECONDS
from ..exceptions import InvalidOption, NotRunnable
from ..execution.attempt import Attempt, attempt, bury_overdue, postpone
from ..execution.heartbeat import Heartbeat
from ..execution.lease_ends import LeaseEnds
from ..gator import Gator
from ..options import check_seconds, check_whole
from ..payload.envelope import name_in
from ..tasks import Task
from ..telemetry.logs import get_log
from .announcements import Announcements
from .cancellations import Cancellations, Ends
from .loop import WorkLoop, check_loop_kind
from .old_tasks import warn_of_old_tasks
from .outcome_log import LEVELS, log_canceled, log_outcome, log_unfinished, log_unrunnable
from .places import Places
from .reservations import Reservations
from .supervisor import EXIT_UNFINISHED, Supervisor
from .task_limit import TaskLimit
from .threads import WorkerThread
from .timetable import timetable_kept

if TYPE_CHECKING:
    from .dispatcher import Dispatcher
    from .isolation.parent import Isolation
    from .liveness import WorkerHealth

MAX_UNRUNNABLE = 100
"""How many functions that it cannot run a worker announces at most."""
MAX_BATCH = 100
"""How many tasks one thread reserves at once at most."""


class Worker:
    """A process that runs tasks.

    Ex::

        Worker(Gator("redis://localhost:6379/0")).run_forever()

    It takes tasks from *to_consume*: one queue, or several in order of priority; `ALL` is the queue of
    the gator. It ends after *max_tasks* (0: never); with *burst*, when no task is ready.
    *concurrency* tasks run at the same time; by default one plain function and up to a hundred
    coroutines. Plain functions run in threads, coroutine functions on one event loop, of the kind
    *loop*, which lives as long as the worker. The `lifespan` of the gator is entered on it. If a
    coroutine blocks the loop for *blocking_after* seconds, a warning says where.

    SIGTERM, SIGINT and SIGHUP stop it gracefully: it takes no more tasks, lets the running tasks finish
    within *shutdown_timeout* seconds, and releases the others to their queues. A second signal releases
    them at once. If the worker runs in a thread of a program, it cannot end its tasks: a task that was
    released may still run there while another worker runs it, too. If the store cannot wake its
    workers, it is asked every *nap_time* seconds.

    A task runs at least once. It is leased for *lease_for* seconds, which a heartbeat extends, and is
    acknowledged after it ran. If its worker dies, another one runs it after the lease has expired; after
    *max_lost* lost deliveries it is dead. A task that this worker cannot run, for instance because its
    function cannot be imported here, is released for other workers, and no attempt is counted. After
    *unrunnable_after* seconds it is dead. The worker also queues the ticks of the gator's schedules:
    see `alligator.workers.timetable`.

    With *isolate*, each thread runs its tasks in a process of its own, which may crash, hang or use
    more than *memory* MiB without harm to the worker: see `alligator.workers.isolation.parent`.
    """

    def __init__(
        self,
        gator: Gator,
        max_tasks: int = 0,
        to_consume: str | Sequence[str] = ALL,
        nap_time: float = 0.1,
        log_level: int | str = logging.INFO,
        *,
        concurrency: int | None = None,
        burst: bool = False,
        shutdown_timeout: float = 25.0,
        lease_for: float = LEASE_SECONDS,
        max_lost: int = MAX_LOST,
        isolate: bool = False,
        memory: int | None = None,
        unrunnable_after: float = UNRUNNABLE_SECONDS,
        loop: str = "asyncio",
        blocking_after: float = 1.0,
        keep_schedules: bool | None = None,
    ) -> None:
        if memory is not None and not isolate:
            raise InvalidOption("memory limits the processes of isolated tasks: pass isolate=True")
        self.gator = gator
        self.max_tasks: int = check_whole("max_tasks", max_tasks)
        self.to_consume = to_consume
        self.nap_time: float = check_seconds("nap_time", nap_time, most=MAX_TIMEOUT)
        if concurrency is not None:
            check_whole("concurrency", concurrency, least=1)
        self.places: Places = Places(concurrency)
        """How many tasks run at once."""
        self.concurrency: int = 1 if concurrency is None else concurrency
        self.burst = burst
        self.shutdown_timeout: float = check_seconds(
            "shutdown_timeout", shutdown_timeout, most=MAX_TIMEOUT
        )
        self.lease_for: float = check_seconds("lease_for", lease_for, least=0.001, most=MAX_TIMEOUT)
        self.max_lost: int = check_whole("max_lost", max_lost)
        self.isolate = isolate
        self.memory: int | None = None if memory is None else check_whole("memory", memory, least=1)
        self.unrunnable_after: float = check_seconds("unrunnable_after", unrunnable_after)
        self.blocking_after: float = check_seconds("blocking_after", blocking_after)
        self.keep_schedules = keep_schedules
        self.unrunnable: dict[str, str] = {}
        """The functions that it cannot run, by name, with the reason."""
        self.tasks_complete: int = 0
        """How many tasks it has completed: succeeded, failed, or put back to be retried."""
        self.keep_running: bool = False
        self.started_at: float = time()
        host = os.uname().nodename
        self.name: str = f"{host}:{os.getpid()}:{os.urandom(3).hex()}"
        self.log_level = log_level
        self.log: logging.Logger = self.get_log(log_level)
        self.lease_ends: LeaseEnds = LeaseEnds(self.lease_for)
        self.threads: list[Reservations] = []
        """The tasks and outcomes of each of its threads, and of its event loop."""
        self._local = local()
        self.loop_kind: str = check_loop_kind(loop)
        self._work_loop: WorkLoop | None = None
        self.dispatcher: Dispatcher | None = None  # from its first coroutine on, to the end
        self._limit = TaskLimit(self)
        self._announcements = Announcements(self, host)
        self.isolation: Isolation | None = None
        self._is_running = False
        self._supervisor: Supervisor | None = None
        self.stops: int = 0
        """How often `stop` was called: once means gracefully, twice means at once."""

    @property
    def can_run_tasks(self) -> bool:
        """Whether it can run tasks: False if no process can be started for isolated tasks any more."""
        return self.isolation is None or not self.isolation.has_ended

    @property
    def reserves_itself(self) -> bool:
        """Whether a subclass takes its tasks in its own way."""
        return type(self).check_and_run_task is not Worker.check_and_run_task

    @property
    def queue_names(self) -> list[str]:
        """The queues that it takes tasks from, the most important first."""
        names = [self.to_consume] if isinstance(self.to_consume, str) else self.to_consume
        return [self.gator.queue_name if name == ALL else name for name in names]

    # Methods of Alligator 1.0 that subclasses override.

    def get_log(self, log_level: int | str = logging.INFO) -> logging.Logger:
        """Return the logger that it writes to."""
        return get_log(log_level)

    def ident(self) -> str:
        """Return the name of the worker in log lines."""
        return f"Alligator Worker (#{os.getpid()})"

    def starting(self) -> None:
        """Log the start: the store, the queues, and when the worker will end."""
        names = self.queue_names
        queues = f"{'queue' if len(names) == 1 else 'queues'} {', '.join(names)}"
        until = "until nothing is ready" if self.burst else "until it is stopped"
        if self.max_tasks:
            until = f"for {self.max_tasks} {'task' if self.max_tasks == 1 else 'tasks'}"
        signed = "tasks must be signed" if self.gator.guard.signs else "tasks are not signed"
        self.log.info(
            "%s starts on %s, %s, %s; %s", self.ident(), self.gator.store, queues, until, signed
        )

    def interrupt(self) -> None:
        """Take no more tasks, and stop after the running tasks."""
        self.keep_running = False
        self.log.info("%s is stopping; it finishes the running tasks first", self.ident())

    def stopping(self) -> None:
        """Log the end."""
        self.keep_running = False
        self.log.info("%s has stopped after %d tasks", self.ident(), self.tasks_complete)

    def result(self, result: Any) -> None:
        """Handle what a task returned: log it for debugging."""
        if result is not None:
            self.log.debug("result: %r", result)

    def check_and_run_task(self) -> bool:
        """Run the next task, if there is one; return whether a task was run and succeeded.

        Raises `BackendError` if the store fails. Outside of `run_forever` the outcome is reported to
        the store at once.
        """
        thread = self.this_thread()
        limit = MAX_BATCH if self.keep_running else 1
        lease = thread.next(limit, self._limit.grant if self.max_tasks else None)
        if lease is None:
            return False
        try:
            done = thread.run(lease)
            if done is not None:  # otherwise it runs on the event loop, or its lease has ended
                self.note(done, lease, thread)
        finally:
            if not self.keep_running:
                thread.report_outcomes()
        if done is None or done.error is not None:
            return False
        self.result(done.task.result if done.task is not None else None)
        return True

    # Start and stop.

    def prepare(self) -> None:
        """Start the process that forks the processes of isolated tasks.

        It must be called while this process has no other threads. `run_forever` calls it; a program
        that starts threads before must call it earlier.
        """
        if self.isolate and self.isolation is None:
            from .isolation.parent import Isolation  # only workers with isolate=True need it

            self.isolation = Isolation(self.gator, self.memory, self.loop_kind)

    def run_forever(self) -> int:
        """Run tasks until stopped; return the exit status: 0 unless the worker could not go on."""
        self.prepare()
        self.keep_running = True
        self._announcements.made_at = monotonic()
        heartbeat = Heartbeat(
            *(self.gator.client, self._leases, self.lease_for, self._announce, self.lease_ends),
            Cancellations(self).end,
        )
        for relay in self.gator.relays:
            relay.watch()
        supervisor = self._supervisor = Supervisor(self, heartbeat)
        loop = self._work_loop = WorkLoop(self, self._limit, supervisor)
        status = 0
        with supervisor.signals(), timetable_kept(self):
            self._is_running = True
            exits.worker_pid = forks.pid
            self.starting()
            heartbeat.start()
            supervisor.start()
            try:
                warn_of_old_tasks(self.log, self.gator, self.queue_names)
                status = loop.run()
            finally:
                supervisor.stop()
                heartbeat.stop()
                loop.close(self.time_left())
                self._work_loop = self.dispatcher = None
                for relay in self.gator.relays:
                    relay.close()
                if self.isolation is not None:
                    status = self._end_isolation(self.isolation, loop) or status
                self._is_running = False
                exits.worker_pid = 0
                self.stops = 0  # not at the start: `stop` may have been called before
        self.stopping()
        return status

    def time_left(self) -> float:
        """Return how many seconds it may still take to end, after a stop or if it is stopped now."""
        return self.shutdown_timeout if self._supervisor is None else self._supervisor.time_left()

    def stop(self) -> None:
        """Stop it from another thread: gracefully; at once if called a second time."""
        self.stops += 1
        if self._supervisor is not None:
            self._supervisor.wake()

    def health(self) -> "WorkerHealth":
        """Return whether it is alive and whether its store answers.

        It is alive if it sends heartbeats and at least one of its threads is not stuck in a task.
        """
        from .liveness import WorkerHealth  # only workers need it

        beats = monotonic() - self._announcements.made_at < self.lease_for
        stuck = [thread.is_stuck for thread in list(self.threads)]
        return WorkerHealth(beats and not (stuck and all(stuck)), self._announcements.store_answers)

    def release_all(self) -> None:
        """Release all tasks that are not finished, so that other workers can run them."""
        if self.isolation is not None:  # before other workers can take these tasks
            self.isolation.kill()
        for thread in list(self.threads):
            for lease in thread.leases():
                if lease not in self.lease_ends.canceled:
                    log_unfinished(self.log, lease)
            thread.release_all()
        self._announce(alive=False)

    def attempt(self, lease: Lease, task: Task | None, holder: WorkerThread) -> Attempt:
        """Run the task of *lease*, which *holder* has reserved; *task* is the same, if already read."""
        if self.isolate:
            self.prepare()
        isolation = self.isolation
        try:
            if isolation is not None:
                if self._work_loop is not None:
                    self._work_loop.start_thread_if_needed()
                done = isolation.run(lease, holder.lease_end)
            else:
                # `run_forever` handles Ctrl-C itself, so a KeyboardInterrupt comes from the task.
                # A copy of the context: no variable that a task sets is visible to the next task.
                work_loop = self._work_loop
                context = holder.context = copy_context()
                done = context.run(
                    attempt,
                    self.gator,
                    lease,
                    interruptible=not self._is_running,
                    task=task,
                    hand_over=None if work_loop is None else work_loop.hand_over,
                    holds=holder.holds,
                )
        except NotRunnable as error:
            if isolation is not None and isolation.has_ended:
                raise
            done = postpone(self.gator, lease, error)
        return done if done.error is None else bury_overdue(done, self.unrunnable_after)

    def note(self, done: Attempt, lease: Lease, holder: Reservations) -> None:
        """Count and log the outcome of a task that *holder* had reserved."""
        is_canceled = bool(self.lease_ends.canceled) and lease in self.lease_ends.canceled
        if done.error is not None and not done.has_run and not is_canceled:
            self._note_unrunnable(done, lease)
            return
        with self._limit.lock:
            self.tasks_complete += 1
            if self.max_tasks:
                holder.granted -= 1
        if self.unrunnable and done.task is not None:
            self.unrunnable.pop(name_in(lease.data), None)
        if is_canceled:
            log_canceled(self.log, lease, done.seconds)
        elif self.log.isEnabledFor(LEVELS[done.outcome.verdict]):
            log_outcome(self.log, done, lease)

    def _note_unrunnable(self, done: Attempt, lease: Lease) -> None:
        name = name_in(lease.data)
        is_new = name not in self.unrunnable and len(self.unrunnable) < MAX_UNRUNNABLE
        if is_new:
            self.unrunnable[name] = done.reason
        log_unrunnable(self.log, done, lease, is_new=is_new)

    def _end_isolation(self, isolation: "Isolation", loop: WorkLoop) -> int:
        """End the processes of isolated tasks; return the exit status of the worker."""
        status = 0 if self.can_run_tasks else EXIT_UNFINISHED
        if not self.can_run_tasks:
            loop.join_threads()
        isolation.close()
        self.isolation = None
        return status

    # What the other threads and the store see.

    def this_thread(self) -> WorkerThread:
        """Return the `WorkerThread` of the current thread; create it for its first task."""
        thread: WorkerThread | None = getattr(self._local, "thread", None)
        if thread is None:
            thread = self._local.thread = WorkerThread(
                *(self.gator, self.queue_names, self.lease_for, self.max_lost),
                *(self.attempt, self.lease_ends),
            )
            if self._work_loop is None:
                self.threads.append(thread)
            else:
                self._work_loop.add(thread)
        return thread

    def runners(self) -> "list[Ends]":
        """Return what runs its tasks, and can end them."""
        return [*self.threads, *([] if self.isolation is None else [self.isolation])]

    def _leases(self) -> list[Lease]:
        return [lease for thread in list(self.threads) for lease in thread.leases()]

    def _announce(self, alive: bool) -> None:
        self._announcements.make(alive=alive)
