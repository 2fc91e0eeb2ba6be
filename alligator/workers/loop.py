"""The loop in which the threads of a worker take and run tasks."""

from contextvars import copy_context
from importlib.util import find_spec
from threading import RLock, Thread, current_thread, main_thread
from time import monotonic, sleep
from types import FunctionType
from typing import TYPE_CHECKING, Protocol

from .._runtime.coroutines import COROUTINE
from .._runtime.failures import describe
from .._runtime.home_loop import LazyLoop, home
from ..backends.base import Lease
from ..exceptions import ConfigurationError, MissingExtra, NotRunnable
from ..execution.attempt import MAX_RELEASE_PAUSE
from ..tasks import Task
from .failure_log import FailureLog
from .idle_barrier import IdleBarrier
from .reservations import DispatchingWorker, can_run_on_loop
from .supervisor import (
    EXIT_UNFINISHED,
    HANG_SECONDS,
    IDLE_TICK,
    TICK,
    Supervisor,
)
from .task_limit import TaskLimit
from .threads import BURST_WAIT, MAX_WAIT, WorkerThread

if TYPE_CHECKING:
    from .dispatcher import Dispatcher
    from .event_loop import WorkerEventLoop
    from .isolation.parent import Isolation


class LoopingWorker(DispatchingWorker, Protocol):
    """The attributes and methods of a worker that its loop uses."""

    loop_kind: str
    isolation: "Isolation | None"
    dispatcher: "Dispatcher | None"

    @property
    def can_run_tasks(self) -> bool: ...

    @property
    def reserves_itself(self) -> bool: ...

    def this_thread(self) -> WorkerThread:
        """Return the state of the current thread."""
        ...


class WorkLoop:
    """Runs tasks in the threads of a worker, and on its event loop, until it stops."""

    def __init__(
        self,
        worker: LoopingWorker,
        limit: TaskLimit,
        supervisor: Supervisor,
    ) -> None:
        self._worker = worker
        self._limit = limit
        self._supervisor = supervisor
        self._failure_log = FailureLog(worker.log, worker.gator.store)
        self._threads: list[Thread] = []
        self._barrier = IdleBarrier(0)
        self._errors: list[BaseException] = []
        self._lock = RLock()
        self._has_warned = False
        self._progress = 0, monotonic()
        """How many tasks the worker had completed when it was looked at last, and since when."""
        self._may_grow = worker.places.most_plain > 1
        self._event_loop: WorkerEventLoop | None = None

    def run(self) -> int:
        """Run tasks until the worker stops, one plain task at once in the current thread.

        Returns the exit status: 1 if the lifespan of the gator could not be entered, or has ended.
        """
        worker = self._worker
        if worker.gator.lifespan is not None:
            enterer = worker.isolation or self.event_loop()
            if not enterer.enter(lambda: worker.keep_running):
                return EXIT_UNFINISHED
        if worker.places.most_plain == 1:
            self._barrier.enter()
            copy_context().run(self._work)
        else:
            self._work_in_threads()
        status = self._join_dispatcher()
        loop = self._event_loop
        return EXIT_UNFINISHED if loop is not None and loop.has_lost_lifespan else status

    def join_threads(self) -> None:
        """Wait for the threads, at most `HANG_SECONDS` for each."""
        for thread in self._threads:
            thread.join(HANG_SECONDS)

    def close(self, seconds: float) -> None:
        """Leave the lifespan, which may take *seconds*, and end the event loop."""
        if self._event_loop is not None:
            self._event_loop.leave(seconds)

    # For other threads.

    def hand_over(self, lease: Lease, task: Task) -> bool:
        """Run *task* on the event loop if it is a coroutine; return whether it is.

        Raises `NotRunnable` if no event loop can be started.
        """
        func = task.func
        if type(func) is FunctionType and not (
            func.__code__.co_flags & COROUTINE or self._may_grow
        ):
            return False  # the usual case, which must be quick
        if not can_run_on_loop(self._worker.gator, task):
            if self._may_grow:
                self.start_thread_if_needed()
            return False
        if self._worker.dispatcher is None:
            self._start_dispatcher(lease)
        else:
            self._worker.dispatcher.take_over(lease, task, self._worker.this_thread().until)
        return True

    def add(self, thread: WorkerThread) -> None:
        """Add a thread that begins to work."""
        with self._lock:
            self._worker.threads.append(thread)
            if self._worker.dispatcher is not None:
                self._worker.dispatcher.feed(thread, is_running=False)

    def start_thread_if_needed(self, tasks: int = 1) -> None:
        """Start another thread if fewer than *tasks* are idle, and there are places for more."""
        if not self._may_grow:
            return
        with self._lock:
            most = self._worker.places.most_plain
            known = [each for each in list(self._worker.threads) if isinstance(each, WorkerThread)]
            starting = len(self._threads) - len(known)
            idle = sum(each.idle for each in known) + max(0, starting)
            for _ in range(min(tasks - idle, most - len(self._threads))):
                if not self._start_thread():
                    break
            self._may_grow = len(self._threads) < most

    # Threads.

    def _work_in_threads(self) -> None:
        with self._lock:
            worker = self._worker
            first = worker.places.most_plain if worker.reserves_itself else 1
            while len(self._threads) < first and self._start_thread():
                pass
        while any(thread.is_alive() for thread in list(self._threads)):
            if self._supervisor.is_overdue():
                break
            for thread in list(self._threads):
                if thread.is_alive():
                    thread.join(IDLE_TICK)
                    break
        if self._errors:
            raise self._errors[0]

    def _start_thread(self) -> bool:
        thread = Thread(
            target=self._work_in_thread,
            name=f"alligator-worker-{len(self._threads)}",
            daemon=True,
        )
        self._barrier.enter()
        try:
            thread.start()
        except RuntimeError as error:
            self._barrier.leave()
            if not self._threads:
                raise NotRunnable(f"no thread can be started: {error}") from error
            if not self._has_warned:
                self._has_warned = True
                self._worker.log.warning(
                    "no more threads can be started; tasks run in %d threads: %s",
                    len(self._threads),
                    describe(error),
                )
            return False
        self._threads.append(thread)
        return True

    def _work_in_thread(self) -> None:
        try:
            self._work()
        except BaseException as error:  # KeyboardInterrupt is for the program
            self._errors.append(error)
            self._worker.keep_running = False

    # The event loop.

    def event_loop(self) -> "WorkerEventLoop":
        """Return the event loop of the worker, which has a thread once it is used."""
        with self._lock:
            if self._event_loop is None:
                from .event_loop import WorkerEventLoop

                worker = self._worker
                self._event_loop = WorkerEventLoop(
                    worker.gator, worker.log, worker.loop_kind, self._take_no_more
                )
            return self._event_loop

    def _take_no_more(self) -> None:
        self._worker.keep_running = False

    def _start_dispatcher(self, lease: Lease) -> None:
        """Start the dispatcher, which reserves tasks from now on, and give it the task of *lease*."""
        from .dispatcher import Dispatcher

        worker = self._worker
        with self._lock:
            this = worker.this_thread()
            if worker.dispatcher is not None:
                worker.dispatcher.accept([lease], this.until, ())
                return
            dispatcher = Dispatcher(
                worker,
                self._limit,
                self._failure_log,
                self.event_loop(),
                self.start_thread_if_needed,
            )
            dispatcher.accept([lease], this.until, ())
            dispatcher.start()
            worker.dispatcher = dispatcher
            for thread in list(worker.threads):
                if isinstance(thread, WorkerThread):
                    dispatcher.feed(thread, is_running=thread is not this)
            worker.threads.append(dispatcher)
        worker.gator.client.interrupt()

    def _join_dispatcher(self) -> int:
        """Wait until the coroutines have ended, or were released; return the exit status."""
        dispatcher = self._worker.dispatcher
        if dispatcher is None:
            return 0
        while dispatcher.thread.is_alive() and not self._supervisor.has_released:
            dispatcher.thread.join(IDLE_TICK)
        return EXIT_UNFINISHED if dispatcher.has_stopped_some else 0

    def _work(self) -> None:
        """Run tasks in this thread until the worker stops, and then release what it has reserved."""
        thread = self._worker.this_thread()
        home.set(LazyLoop(self.event_loop))
        if self._event_loop is not None:
            self._event_loop.bind()
        try:
            self._work_on(thread)
        finally:
            thread.granted, thread.idle = 0, True
            self._release_reserved(thread)
            thread.leave()
            self._barrier.leave()

    def _work_on(self, thread: WorkerThread) -> None:
        """Run tasks until the worker stops; after a failure, pause and try again."""
        worker = self._worker
        supervisor = self._supervisor if current_thread() is main_thread() else None
        failures = 0
        limit = self._limit if worker.max_tasks else None
        while worker.keep_running and (not limit or thread.feed or limit.has_grant(thread)):
            try:
                if not self._work_once(thread, supervisor):
                    return
            except Exception as error:
                if not worker.can_run_tasks:
                    self._stop(error)
                    return
                failures += 1
                self._sleep(self._failure_log.add(error, failures))
            else:
                if failures:
                    self._failure_log.recovered()
                failures = 0

    def _work_once(self, thread: WorkerThread, supervisor: Supervisor | None) -> bool:
        """Run the next task, or wait for one; return False if a burst has nothing left to do."""
        worker = self._worker
        before = worker.tasks_complete
        try:
            ran = worker.check_and_run_task()
        finally:
            if worker.max_tasks:
                thread.granted = thread.reserved
            if supervisor is not None:
                supervisor.check_signals()
        if ran:
            if worker.tasks_complete == before:  # a subclass runs tasks in its own way
                worker.tasks_complete += 1
            return True
        if worker.burst and self._makes_no_progress():
            return False
        if thread.idle:
            if thread.feed is not None:
                return thread.feed.wait_for_plain(MAX_WAIT)
            if worker.burst and self._is_every_thread_idle():
                return not self._barrier.wait(BURST_WAIT)
            thread.wait(worker.nap_time, BURST_WAIT if worker.burst else MAX_WAIT)
        return True

    def _is_every_thread_idle(self) -> bool:
        """Return whether the other threads look idle, too; then interrupt their waits."""
        if not all(thread.idle for thread in list(self._worker.threads)):
            return False
        if self._worker.places.most_plain > 1:
            self._worker.gator.client.interrupt()
        return True

    def _makes_no_progress(self) -> bool:
        """Return whether the worker has only released tasks that it cannot run, for some time."""
        completed = self._worker.tasks_complete
        if self._progress[0] != completed:
            self._progress = completed, monotonic()
        return monotonic() - self._progress[1] > 2 * MAX_RELEASE_PAUSE

    def _stop(self, error: Exception) -> None:
        """Stop the worker because it cannot run tasks any more; other workers can."""
        if self._worker.keep_running:
            self._worker.log.error("this worker stops: %s", describe(error))
        self._worker.keep_running = False

    def _release_reserved(self, thread: WorkerThread) -> None:
        try:
            thread.release_reserved()
        except Exception as error:
            self._worker.log.error(
                "could not release reserved tasks; other workers run them when their leases expire: %s",
                describe(error),
            )

    def _sleep(self, seconds: float) -> None:
        # In slices: a signal handler may set a flag, but must not touch the lock of an Event.
        end = monotonic() + seconds
        while self._worker.keep_running and (rest := end - monotonic()) > 0:
            sleep(min(rest, TICK))


def check_loop_kind(kind: str) -> str:
    """Return *kind* of event loop; raise `ConfigurationError` if there is none of that kind."""
    if kind not in ("asyncio", "uvloop"):
        raise ConfigurationError(f"loop must be 'asyncio' or 'uvloop', not {kind!r:.80}.")
    if kind == "uvloop" and find_spec("uvloop") is None:
        raise MissingExtra("loop='uvloop' needs: pip install uvloop")
    return kind
