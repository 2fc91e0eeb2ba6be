"""Take tasks off the queue and run them, until told to stop."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from threading import Lock, Thread, local
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Any

from .attempts import Attempt, attempt, describe
from .backends.base import Lease, WorkerInfo
from .constants import ALL, LEASE_SECONDS, MAX_LOST
from .exceptions import BackendError, InvalidOption
from .gator import Gator
from .heartbeat import Heartbeat
from .lanes import Lane
from .logs import get_log
from .signs import Sign
from .tasks import name_in
from .tracing import trace_id
from .watch import EXIT_UNFINISHED, HANG_SECONDS, IDLE_TICK, TICK, Watch, pause_after

if TYPE_CHECKING:
    from .isolation import Isolation

LEVELS = {"ack": logging.INFO, "retry": logging.WARNING, "dead": logging.ERROR}

MAX_BATCH = 100
"""How many tasks one thread reserves at once, at most."""


class Worker:
    """A process that runs tasks.

    Ex::

        Worker(Gator("redis://localhost:6379/0")).run_forever()

    It consumes *to_consume*: one queue, or several in order of priority; `ALL` stands for the queue
    of the gator. It ends after *max_tasks* (0: never), or with *burst* when nothing is ready.
    *concurrency* threads run tasks side by side. SIGTERM and SIGINT end it gracefully: nothing more
    is taken, what runs is finished within *shutdown_timeout* seconds, the rest is given back; a
    second signal gives it back at once. A store that cannot wake anybody is looked at every *nap_time*
    seconds; others wake the worker.

    A task is run at least once: it is leased for *lease_for* seconds, which a heartbeat extends, and
    acknowledged after it ran. When its worker dies another runs it once the lease has ended; a task
    that took *max_lost* workers with it is dead.

    With *isolate* each thread runs its tasks in a process of its own, which may crash, hang in native
    code or eat more than *memory* MiB without harm to the worker: see `alligator.isolation`.
    """

    def __init__(
        self,
        gator: Gator,
        max_tasks: int = 0,
        to_consume: str | Sequence[str] = ALL,
        nap_time: float = 0.1,
        log_level: int | str = logging.INFO,
        *,
        concurrency: int = 1,
        burst: bool = False,
        shutdown_timeout: float = 25.0,
        lease_for: float = LEASE_SECONDS,
        max_lost: int = MAX_LOST,
        isolate: bool = False,
        memory: int | None = None,
    ) -> None:
        if concurrency < 1:
            raise InvalidOption(f"concurrency is a whole number from 1, not {concurrency!r}.")
        if memory is not None and not isolate:
            raise InvalidOption(
                "memory is for tasks with a process of their own: say isolate, too."
            )
        self.gator = gator
        self.max_tasks: int = int(max_tasks)
        self.to_consume = to_consume
        self.nap_time = nap_time
        self.concurrency = concurrency
        self.burst = burst
        self.shutdown_timeout = shutdown_timeout
        self.lease_for = lease_for
        self.max_lost = max_lost
        self.isolate = isolate
        self.memory = memory
        self.tasks_complete: int = 0
        """How many tasks this worker has brought to an end, good or bad, or put back to be retried."""
        self.keep_running: bool = False
        self.started_at: float = time()
        from socket import gethostname  # a program that only starts tasks does not pay for it

        self._host = gethostname()
        self.name: str = f"{self._host}:{os.getpid()}:{os.urandom(3).hex()}"
        self.log_level = log_level
        self.log: logging.Logger = self.get_log(log_level)
        self.lanes: list[Lane] = []
        """What each of its threads has in hand."""
        self._own = local()
        self._counting = Lock()
        self._beaten_at = monotonic()
        self._store_answers = False
        self._noting = Lock()
        self._noted: dict[str, Counter[str]] = {}
        """What the store has been told of the times of tasks."""
        self._claims = 0
        self._in_trouble = 0
        self._threads: list[Thread] = []
        self._isolation: Isolation | None = None
        self._is_running = False
        self._watch: Watch | None = None
        self.stops: int = 0
        """How often it was asked to stop: once is gracefully, twice is at once."""

    @property
    def queue_names(self) -> list[str]:
        """The queues it consumes, first things first."""
        names = [self.to_consume] if isinstance(self.to_consume, str) else self.to_consume
        return [self.gator.queue_name if name == ALL else name for name in names]

    # What a subclass may say or do in its own way.

    def get_log(self, log_level: int | str = logging.INFO) -> logging.Logger:
        """Return the log it writes to."""
        return get_log(log_level)

    def ident(self) -> str:
        """Name the worker for people."""
        return f"Alligator Worker (#{os.getpid()})"

    def starting(self) -> None:
        """Say that it begins."""
        queues = ", ".join(self.queue_names)
        until = "until nothing is ready" if self.burst else "until it is stopped"
        if self.max_tasks:
            until = f"for {self.max_tasks} tasks"
        self.log.info("%s starts on %s, %s", self.ident(), queues, until)

    def interrupt(self) -> None:
        """Take no more tasks, and stop when those in progress are finished."""
        self.keep_running = False
        self.log.info("%s is stopping: it finishes what it has begun", self.ident())

    def stopping(self) -> None:
        """Say that it ends."""
        self.keep_running = False
        self.log.info("%s has stopped after %d tasks", self.ident(), self.tasks_complete)

    def result(self, result: Any) -> None:
        """Be told what a task returned."""
        if result is not None:
            self.log.debug("result: %r", result)

    def check_and_run_task(self) -> bool:
        """Run the next task, if there is one.

        Returns whether a task was run and succeeded. Raises `BackendError` when the store cannot be
        asked. Outside of `run_forever` the store is told at once what became of the task.
        """
        lane = self._lane()
        lease = lane.next(1 if self.max_tasks or not self.keep_running else MAX_BATCH)
        if lease is None:
            return False
        try:
            done = lane.run(lease)
        except BaseException:
            if not self.keep_running:
                lane.settle()
            raise
        self._report(done, lease)
        if not self.keep_running:
            lane.settle()
        if done.error is not None:
            return False
        self.result(done.task.result if done.task is not None else None)
        return True

    # Its life.

    def prepare(self) -> None:
        """Make the processes of isolated tasks possible, while this one has no other threads.

        `run_forever` does it, too; a program that starts threads before should do it earlier.
        """
        if self.isolate and self._isolation is None:
            from .isolation import Isolation  # who isolates nothing does not pay for it

            self._isolation = Isolation(self.gator, self.memory)

    def run_forever(self) -> int:
        """Run tasks until told to stop; return the exit status, which is 0 unless it cannot go on."""
        self.prepare()
        self.keep_running = True
        self._in_trouble = 0
        self._beaten_at = monotonic()
        heartbeat = Heartbeat(self.gator.client, self._held, self.lease_for, self._announce)
        watch = self._watch = Watch(self, heartbeat)
        status = 0
        with watch.signals():
            self._is_running = True
            self.starting()
            heartbeat.start()
            watch.start()
            try:
                if self.concurrency == 1:
                    self._work()
                else:
                    self._work_side_by_side(watch)
            finally:
                watch.stop()
                heartbeat.stop()
                if self._isolation is not None:
                    status = self._end_isolation(self._isolation)
                self._is_running = False
                self.stops = 0  # not at the beginning: a stop may come before it
        self.stopping()
        return status

    def stop(self) -> None:
        """Ask it to end, from another thread; a second time: at once."""
        self.stops += 1
        if self._watch is not None:
            self._watch.wake()

    def sign(self) -> Sign:
        """Tell whether it lives: it beats, and not all of its threads are stuck in their tasks."""
        beats = monotonic() - self._beaten_at < self.lease_for
        stuck = [lane.is_stuck for lane in list(self.lanes)]
        return Sign(beats and not (stuck and all(stuck)), self._store_answers)

    def give_up(self) -> None:
        """Let other workers have what is not finished."""
        if self._isolation is not None:  # before others can have what it runs
            self._isolation.kill()
        for lane in list(self.lanes):
            for lease in lane.held():
                fields = {"task_id": lease.task_id, "task": name_in(lease.data)}
                self.log.error("not finished in time, goes back", extra=fields)
            lane.give_up()
        self._announce(alive=False)

    def _work(self) -> None:
        lane = self._lane()
        failures = 0
        try:
            while self.keep_running and self._claim():
                before = self.tasks_complete
                try:
                    try:
                        ran = self.check_and_run_task()
                    finally:
                        self._unclaim()
                    if ran and self.tasks_complete == before:
                        self.tasks_complete += 1  # a subclass that takes tasks in its own way
                    if not ran and lane.idle:
                        if self.burst:
                            break
                        lane.wait(self.nap_time)
                except Exception as error:
                    if self._isolation is not None and self._isolation.gone:
                        self._cannot_go_on(error)
                        break
                    failures += 1
                    away = isinstance(error, BackendError)
                    if failures == 1 and self._is_news(away=away):
                        said = "the store is away" if away else "this worker has failed"
                        self.log.error(
                            "%s, and tries again: %s", said, describe(error), exc_info=not away
                        )
                    self._sleep(pause_after(failures))
                else:
                    if failures and self._is_over():
                        self.log.info("all is well again")
                    failures = 0
        finally:
            try:
                lane.give_back()
            except Exception as error:
                self.log.error("what was reserved waits for its leases to end: %s", describe(error))

    def _work_side_by_side(self, watch: Watch) -> None:
        errors: list[BaseException] = []

        def work() -> None:
            try:
                self._work()
            except BaseException as error:  # KeyboardInterrupt: for the program, from wherever
                errors.append(error)
                self.keep_running = False

        self._threads = [
            Thread(target=work, name=f"alligator-lane-{number}", daemon=True)
            for number in range(self.concurrency)
        ]
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            while thread.is_alive() and not watch.is_overdue():
                thread.join(IDLE_TICK)
        if errors:
            raise errors[0]

    def _sleep(self, seconds: float) -> None:
        # In slices: a signal handler may set a flag, but must not touch an Event's lock.
        end = monotonic() + seconds
        while self.keep_running and (rest := end - monotonic()) > 0:
            sleep(min(rest, TICK))

    def _is_news(self, *, away: bool) -> bool:
        """Note that a thread is in trouble, and tell whether to say so: of an absent store, one does."""
        with self._counting:
            self._in_trouble += 1
            return self._in_trouble == 1 or not away

    def _is_over(self) -> bool:
        """Note that a thread is out of trouble, and tell whether it was the last."""
        with self._counting:
            self._in_trouble -= 1
            return self._in_trouble == 0

    def _claim(self) -> bool:
        """Take one of the *max_tasks* in hand, if some are left that no other thread has."""
        if not self.max_tasks:
            return True
        with self._counting:
            if self.tasks_complete + self._claims >= self.max_tasks:
                return False
            self._claims += 1
            return True

    def _unclaim(self) -> None:
        if self.max_tasks:
            with self._counting:
                self._claims -= 1

    def _attempt(self, lease: Lease) -> Attempt:
        if self.isolate:
            self.prepare()
        if self._isolation is not None:
            return self._isolation.run(lease)
        # While it runs, ^C comes as a signal: a KeyboardInterrupt is then the task's own doing.
        return attempt(self.gator, lease, interruptible=not self._is_running)

    def _cannot_go_on(self, error: Exception) -> None:
        """End, for there are no processes to run tasks in; another worker can have them."""
        if self.keep_running:
            self.log.error("this worker ends: %s", describe(error))
        self.keep_running = False

    def _end_isolation(self, isolation: "Isolation") -> int:
        """Let the processes of tasks end, and return the exit status that comes of it."""
        status = EXIT_UNFINISHED if isolation.gone else 0
        if isolation.gone:
            for thread in self._threads:
                thread.join(HANG_SECONDS)
        isolation.close()
        self._isolation = None
        return status

    def _lane(self) -> Lane:
        """Find what this thread has in hand."""
        lane: Lane | None = getattr(self._own, "lane", None)
        if lane is None:
            lane = self._own.lane = Lane(
                self.gator, self.queue_names, self.lease_for, self.max_lost, self._attempt
            )
            self.lanes.append(lane)
        return lane

    def _held(self) -> list[Lease]:
        return [lease for lane in list(self.lanes) for lease in lane.held()]

    def _announce(self, alive: bool) -> None:
        """Tell the store that this worker lives, or has ended."""
        running = [doing for lane in list(self.lanes) if (doing := lane.doing)]
        info = WorkerInfo(
            name=self.name,
            queues=self.queue_names,
            started_at=self.started_at,
            running=running,
            host=self._host,
            pid=os.getpid(),
            concurrency=self.concurrency,
            memory=memory_used(),
        )
        answers = False  # till now it is as it was: somebody may ask meanwhile
        try:
            self.gator.client.beat(info, self.lease_for if alive else 0)
            answers = True
        finally:
            self._store_answers = answers
            self._beaten_at = monotonic()
        self._note_timings()

    def _note_timings(self) -> None:
        """Tell the store how long tasks took since it was last told."""
        if not self._noting.acquire(blocking=False):
            return  # another thread is telling it
        try:
            sums: dict[str, Counter[str]] = {}
            for lane in list(self.lanes):
                for name, timings in list(lane.timings.items()):
                    sums.setdefault(name, Counter()).update(timings.figures())
            news = {name: sums[name] - self._noted.get(name, Counter()) for name in sums}
            new = {name: figures for name, figures in news.items() if figures}
            self.gator.client.note(new, self.queue_names)
            self._noted = sums
        finally:
            self._noting.release()

    def _report(self, done: Attempt, lease: Lease) -> None:
        with self._counting:
            self.tasks_complete += 1
        if not self.log.isEnabledFor(LEVELS[done.outcome.verdict]):
            return
        fields: dict[str, object] = {"task_id": lease.task_id, "queue": lease.queue_name}
        if done.task is not None:
            fields["task"] = done.task.name
            fields["attempt"] = done.number
            fields["seconds"] = done.seconds
            fields["request_id"] = done.task.headers.get("request_id")
            fields["trace_id"] = trace_id(done.task)
        if done.error is None:
            self.log.info("done", extra=fields)
            return
        fields["reason"] = done.reason
        if done.outcome.verdict == "retry":
            self.log.warning("failed, to be retried", extra={**fields, "pause": done.outcome.delay})
        else:
            self.log.error("dead", extra=fields, exc_info=done.error)


def memory_used() -> int | None:
    """Tell how many bytes of memory this process takes; None where that cannot be found out."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
