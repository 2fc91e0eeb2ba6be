"""Reserve tasks for a worker that runs coroutines: those for its event loop, and the others."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import Condition, Event, Thread
from time import monotonic, perf_counter

from .._runtime.failures import describe
from ..backends.base import Lease, Outcome, Running
from ..exceptions import NotRunnable
from ..execution.attempt import Attempt, bury_overdue, refuse
from ..payload.envelope import timeout_in
from ..tasks import Task
from . import threads as worker_threads
from .backlog import Backlog, Reserved
from .coroutines import CoroutineRunner
from .demand import Demand
from .event_loop import WorkerEventLoop
from .failure_log import FIRST_PAUSE, FailureLog
from .loop_watch import LoopWatch
from .outcome_log import log_unfinished
from .reservations import BATCH_SECONDS, DispatchingWorker, Reservations, can_run_on_loop
from .task_limit import TaskLimit
from .threads import BURST_WAIT, MAX_WAIT, WorkerThread, taken_from


class Dispatcher(Reservations):
    """Makes the steps of a worker that has met a coroutine task, in a thread of its own.

    Coroutines go to the event loop, other tasks to the threads of the worker, which call `take`. As
    many tasks are reserved as there are free places, and more of short ones.
    """

    def __init__(
        self,
        worker: DispatchingWorker,
        limit: TaskLimit,
        failure_log: FailureLog,
        loop: WorkerEventLoop,
        start_threads: Callable[[int], None],
    ) -> None:
        super().__init__(
            worker.gator, worker.queue_names, worker.lease_for, worker.max_lost, worker.lease_ends
        )
        self._worker = worker
        self._limits = limit
        self._failure_log = failure_log
        self._start_threads = start_threads
        self._places = worker.places
        self._plain = Backlog()
        self._plain_changed = Condition()
        self.runner: CoroutineRunner = CoroutineRunner(
            *(
                worker.gator,
                loop.start(),
                loop.context(),
                worker.places,
                worker.lease_ends,
                self._skip,
            ),
            *(self._end_coroutine, self._wake_up, lambda: bool(self._plain.tasks)),
        )
        self.watch: LoopWatch = LoopWatch(
            loop.start(),
            lambda: loop.thread.ident if loop.thread is not None else None,
            CoroutineRunner.run.__code__,
            worker.log,
            worker.blocking_after,
        )
        self._handed_over: deque[tuple[Lease, float]] = deque()
        self._wake = Event()
        self._is_at_store = False
        self._demand = Demand(worker.places)
        self._pause = 0.0
        self._checked: set[Lease] = set()
        self.has_ended: bool = False
        """Whether it reserves no more tasks, and has none left."""
        self.has_stopped_some: bool = False
        """Whether coroutines were cancelled because the worker ends."""
        self.thread: Thread = Thread(target=self._work, name="alligator-dispatcher", daemon=True)

    def start(self) -> None:
        """Start its thread; raise `NotRunnable` if that is not possible."""
        try:
            self.thread.start()
        except RuntimeError as error:
            raise NotRunnable(f"no thread can be started: {error}") from error

    # For the threads of the worker: see `Feed`.

    def feed(self, thread: WorkerThread, *, is_running: bool) -> None:
        """Reserve the tasks of *thread* from now on; with *is_running* it may be running one."""
        if is_running and thread.running_task is not None:
            self._places.take_for_plain(always=True)
            thread.has_place = True
        thread.feed = self

    def accept(self, leases: Iterable[Lease], until: float, outcomes: Iterable[Outcome]) -> None:
        self._handed_over.extend((lease, until) for lease in leases)
        self._outcomes.extend(outcomes)
        self._wake_up()

    def take_over(self, lease: Lease, task: Task, until: float) -> None:
        """Run the coroutine task of a thread; its lease ends at *until*."""
        self.runner.submit([Reserved(lease, task, perf_counter(), until)])

    def take(self, thread: WorkerThread) -> Reserved | None:
        places = self._places
        if thread.has_place:
            thread.has_place = False
            places.give_back_plain()
            if self.runner.waiting and places.total:
                self.runner.fill_soon()
            self._demand.plain.note_end(thread.seconds())
            if not self._plain:
                self._wake_up()
        if not self._plain or not places.take_for_plain():
            return None
        reserved = self._plain.take()
        if reserved is None:  # the supervisor has released it
            places.give_back_plain()
            return None
        thread.has_place = True
        if self._worker.max_tasks:
            with self._limits.lock:
                self.granted: int = self.granted - 1
                thread.granted = 1
        return reserved

    def leave(self, thread: WorkerThread) -> None:
        if thread.has_place:
            thread.has_place = False
            self._places.give_back_plain()
        self._wake_up()

    def wait_for_plain(self, seconds: float) -> bool:
        with self._plain_changed:
            self._plain_changed.wait_for(
                lambda: self._plain or self.has_ended or not self._worker.keep_running, seconds
            )
        return not self.has_ended

    def wake(self) -> None:
        """Make it, and the threads that wait for it, look at the worker again."""
        self._wake.set()
        with self._plain_changed:
            self._plain_changed.notify_all()

    # For the supervisor.

    def running_tasks(self) -> list[Running]:
        """Return the coroutines that have run for the longest."""
        return self.runner.shown()

    @property
    def reserved(self) -> int:
        """How many tasks it has reserved that have not started."""
        return len(self._plain) + len(self.runner.waiting) + len(self._handed_over)

    @property
    def is_occupied(self) -> bool:
        """Whether it has tasks."""
        return True

    def leases(self) -> list[Lease]:
        """Return the leases of the running coroutines, and of the tasks that were not started."""
        waiting = [*self._plain.leases(), *self.runner.waiting.leases()]
        handed_over = [lease for lease, _ in self._handed_over.copy()]
        return [*self.runner.leases(), *waiting, *handed_over]

    def is_busy_for(self, seconds: float) -> bool:
        """Return whether tasks wait although none has ended for *seconds*."""
        return self._plain.stands_for(seconds) or self.runner.waiting.stands_for(seconds)

    def running_for(self, seconds: float) -> Lease | None:
        """Return the coroutine that has run for the longest, if it has run for *seconds*."""
        for lease, ran in self.runner.oldest()[:1]:
            if ran > seconds:
                return lease
        return None

    @property
    def is_stuck(self) -> bool:
        """Whether it can run no more tasks."""
        return self.has_ended

    def overrun(self) -> Lease | None:
        """Return a coroutine that has exceeded its timeout by far; each only once."""
        late = worker_threads.OVERRUN_SECONDS
        oldest = self.runner.oldest()
        self._checked.intersection_update(lease for lease, _ in oldest)
        for lease, ran in oldest:
            if ran > late and lease not in self._checked:
                timeout = timeout_in(lease.data)
                if timeout is None:
                    self._checked.add(lease)
                elif ran > timeout + late:
                    self._checked.add(lease)
                    return lease
        return None

    def cancel(self, leases: Sequence[Lease]) -> None:
        self.runner.cancel(leases)

    def release_reserved(self) -> None:
        """Release the tasks that were not started, so that other workers can run them."""
        demand = self._demand
        released = [0, 0]
        kinds = ((self._plain, demand.plain), (self.runner.waiting, demand.coroutines))
        for number, (waiting, kind) in enumerate(kinds):
            if not self._worker.keep_running or waiting.stands_for(BATCH_SECONDS):
                outcomes = waiting.release()
                self._outcomes.extend(outcomes)
                released[number] = len(outcomes)
                kind.forget()
        demand.note_overflow(*released)
        self._wake_up()

    def release_all(self) -> None:
        """Release the running coroutines, too."""
        self._outcomes.extend(Outcome("release", lease) for lease in self.leases())
        self.report_outcomes()

    # The thread.

    def _work(self) -> None:
        failures = 0
        try:
            while True:
                try:
                    if not self._work_once():
                        break
                except Exception as error:
                    failures += 1
                    self._sleep(self._failure_log.add(error, failures))
                else:
                    if failures:
                        self._failure_log.recovered()
                    failures = 0
        finally:
            self.has_ended = True
            self.idle = True
            self.wake()

    def _work_once(self) -> bool:
        """Make a step, or wait for something to change; return False if there is nothing left to do."""
        worker = self._worker
        self._wake.clear()
        was_busy = self._is_busy()
        if not worker.keep_running:
            self._release_waiting()
        self._dispatch(taken_from(self._handed_over))
        limit = self._room()
        if limit or self._outcomes:
            step = self._step(limit)
            self._dispatch((lease, self.until) for lease in step.leases)
            if limit:
                self.idle = not step.leases
                self._pause = step.pause
                if step.leases:
                    return True
            elif self._outcomes or worker.keep_running:
                return True
            if worker.burst and limit and not self._is_busy():
                return was_busy  # once more: what ended just now may have started tasks
            if limit and worker.keep_running:
                self._wait_at_store()
            return True
        is_over = not worker.keep_running or 0 < worker.max_tasks <= worker.tasks_complete
        if is_over and not self._is_busy():
            return False
        self._wake.wait(self._demand.pause_left() or MAX_WAIT)
        return True

    def _room(self) -> int:
        """Return how many tasks to reserve."""
        worker = self._worker
        waiting = self.reserved
        room = 0
        if worker.keep_running:
            room = self._demand.room(len(self._plain), len(self.runner.waiting))
        if room and worker.max_tasks:
            outstanding = waiting + len(self.runner.leases())
            room = max(0, self._limits.grant(self, outstanding + room) - outstanding)
        return room

    def _dispatch(self, leases: Iterable[tuple[Lease, float]]) -> None:
        """Read tasks; give the coroutines to the event loop and the others to the threads."""
        coroutines: list[Reserved] = []
        plain: list[Reserved] = []
        now = perf_counter()
        for lease, until in leases:
            try:
                task = self.gator.read(lease)
                task.check_call()
            except BaseException as error:
                self._refuse(lease, error)
                continue
            kind = coroutines if can_run_on_loop(self.gator, task) else plain
            kind.append(Reserved(lease, task, now, until))
        if coroutines:
            self.runner.submit(coroutines)
        if plain:
            self._plain.add(plain)
            self._start_threads(len(self._plain))
            with self._plain_changed:
                self._plain_changed.notify_all()
        self._demand.note_found(len(plain), len(coroutines))
        if coroutines or plain:
            self._release_overflow()

    def _refuse(self, lease: Lease, error: BaseException) -> None:
        """Report the outcome of a task that cannot be read, or cannot run here."""
        done = bury_overdue(refuse(self.gator, lease, error), self._worker.unrunnable_after)
        self._outcomes.append(done.outcome)
        self._worker.note(done, lease, self)

    def _release_overflow(self) -> None:
        """Release the tasks for which no place will be free soon."""
        keep_plain, keep_coroutines = self._demand.keep()
        plain = self._plain.release(keep_plain)
        coroutines = self.runner.waiting.release(keep_coroutines)
        self._outcomes.extend([*plain, *coroutines])
        self._demand.note_overflow(len(plain), len(coroutines))

    def _release_waiting(self) -> None:
        self._outcomes.extend(self._plain.release())
        self._outcomes.extend(self.runner.waiting.release())
        handed_over = taken_from(self._handed_over)
        self._outcomes.extend(Outcome("release", lease) for lease, _ in handed_over)

    def _wait_at_store(self) -> None:
        """Sleep until there may be a task, or an outcome to report."""
        client = self.gator.client
        worker = self._worker
        longest = BURST_WAIT if worker.burst else MAX_WAIT
        pause = min(self._pause, longest if client.wakes else worker.nap_time, self.lease_for / 2)
        if pause <= 0:
            return
        self._is_at_store = True
        try:
            if self._wake.is_set():
                return
            if worker.max_tasks:
                client.wait(self.queue_names, pause)
                return
            step = self._wait_then_step(pause)
        finally:
            self._is_at_store = False
        self.idle: bool = not step.leases
        self._dispatch((lease, self.until) for lease in step.leases)

    def _is_busy(self) -> bool:
        """Return whether a task waits or runs, or whether a thread still reserves tasks itself."""
        threads = [thread for thread in list(self._worker.threads) if thread is not self]
        return bool(
            self.reserved
            or self.runner.is_filling  # read after `waiting` and before the running ones
            or self.runner.leases()
            or self._outcomes
            or any(thread.is_occupied for thread in threads)
        )

    def _wake_up(self) -> None:
        self._wake.set()
        if self._is_at_store:
            self.gator.client.interrupt()

    def _end_coroutine(self, lease: Lease, waited: float, done: Attempt | None) -> None:
        """Note the end of a coroutine; called by the thread of the event loop."""
        if done is None:
            return
        self._demand.coroutines.note_end(done.seconds)
        worker = self._worker
        if done.outcome.verdict == "release":
            done = bury_overdue(done, worker.unrunnable_after)
        self._outcomes.append(done.outcome)
        is_stopped = self.runner.is_stopping and not done.has_run
        if is_stopped and lease not in worker.lease_ends.canceled:
            self.has_stopped_some = True
            log_unfinished(worker.log, lease)
            return
        self._note_times(lease, waited, done)
        worker.note(done, lease, self)
        if done.error is None and done.task is not None:
            try:
                worker.result(done.task.result)
            except Exception as error:
                worker.log.error("Worker.result failed: %s", describe(error), exc_info=error)

    def _sleep(self, seconds: float) -> None:
        end = monotonic() + seconds
        while self._worker.keep_running and (rest := end - monotonic()) > 0:
            self._wake.wait(min(rest, FIRST_PAUSE))
            self._wake.clear()
