"""The one object that a project configures: it takes tasks in, and hands them to a store."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from logging import Logger, getLogger
from time import time
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self, Unpack

from .attempts import attempt
from .backends import open_client
from .backends.base import Client, DeadLetter, Lease, Message, QueueStats, redact
from .backends.five_methods import FiveMethodClient
from .breaker import Breaker, Pusher
from .constants import ALL, MAX_TASK_BYTES
from .exceptions import BackendError, ConfigurationError, TaskTooLarge
from .group_commit import GroupCommit
from .guard import Guard
from .heartbeat import keeping
from .in_process import run_in_turn
from .options import Options, TaskOptions, check_name, check_options, merge_options, to_bool
from .tally import Ending, Tally
from .tasks import Task
from .tracing import NOTHING, carry, running, sending
from .transaction import Held, Transaction, current

if TYPE_CHECKING:
    from .spool import Spool

P = ParamSpec("P")

log: Logger = getLogger("alligator")


class Gator:
    """A queue to put tasks on.

    Ex::

        gator = Gator("redis://localhost:6379/0")
        gator.task(send_mail, 42)

    Making one connects to nothing; the first use does. One may be shared by all threads of a
    process, and by the processes that are forked from it.

    *is_async* False is the switch for tests and development: tasks run in this process, those of a
    transaction when it commits. It is a bool, a word from an environment variable, or a function
    that is asked at each task. *defaults* are options for every task. *secret* (one, or the new and
    the old ones) signs what is put on the queue, and *allow* limits which functions a worker runs:
    see `alligator.guard`. *task_context* makes a context manager in which each task is run.

    While the store is away, a *breaker* lets pushes fail at once in place of waiting; see
    `alligator.breaker`. *spool* is the path of a file that keeps tasks meanwhile, so that they do not
    fail; see `alligator.spool`.

    With *tracing* the trace and the id of a request go along with the tasks that it starts; see
    `alligator.tracing`.
    """

    def __init__(
        self,
        conn_string: str,
        queue_name: str = ALL,
        task_class: type[Task] = Task,
        backend_class: Callable[[str], Any] | None = None,
        *,
        is_async: bool | str | Callable[[], bool] = True,
        defaults: TaskOptions | None = None,
        secret: str | Sequence[str] = (),
        allow: str | Sequence[str] = (),
        max_task_bytes: int = MAX_TASK_BYTES,
        task_context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        breaker: bool = True,
        spool: str | None = None,
        tracing: bool = True,
    ) -> None:
        self.conn_string = conn_string
        self.queue_name: str = check_name("queue_name", queue_name)
        self.task_class = task_class
        self.backend_class = backend_class
        self.max_task_bytes = max_task_bytes
        self.task_context = task_context
        self.is_async = is_async
        self.tracing = tracing
        self.defaults: dict[str, Any] = self.check_options(defaults or {})
        self.guard: Guard = Guard(_several(secret), _several(allow))
        self.backend: Any = self.build_backend(conn_string)
        """The store: a `Client`, or what *backend_class* made."""
        self.client: Client = (
            self.backend if isinstance(self.backend, Client) else FiveMethodClient(self.backend)
        )
        self.tally: Tally = Tally(self.client)
        group = GroupCommit(self.client)
        self.breaker: Breaker | None = Breaker(group) if breaker else None
        direct = self.breaker or group
        self.spool: Spool | None = self._open_spool(spool, direct) if spool else None
        self._apush = direct.apush_many if self.client.gathers and not spool else None
        self._pusher = self.spool or direct

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **settings: Any) -> Self:
        """Make a gator as the environment says; *settings* are further arguments.

        ``ALLIGATOR_CONN`` is the DSN. ``ALLIGATOR_PREFIX`` makes the queue ``PREFIX_all``;
        ``ALLIGATOR_ASYNC`` is the switch; ``ALLIGATOR_SECRET`` and ``ALLIGATOR_ALLOW`` are lists
        with commas; ``ALLIGATOR_SPOOL`` is the path of the spool.
        """
        conn_string = environ.get("ALLIGATOR_CONN")
        if not conn_string:
            raise ConfigurationError(
                "ALLIGATOR_CONN is not set: give it a DSN, such as sqlite:///var/lib/app/queue.db."
            )
        prefix = environ.get("ALLIGATOR_PREFIX")
        from_environ: dict[str, Any] = {
            "queue_name": f"{prefix}_{ALL}" if prefix else ALL,
            "is_async": environ.get("ALLIGATOR_ASYNC") or True,
            "secret": _words(environ.get("ALLIGATOR_SECRET")),
            "allow": _words(environ.get("ALLIGATOR_ALLOW")),
            "spool": environ.get("ALLIGATOR_SPOOL"),
        }
        return cls(conn_string, **{**from_environ, **settings})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.queue_name!r} on {redact(self.conn_string)}>"

    def build_backend(self, conn_string: str) -> Any:
        """Make the store that the DSN names, connecting to nothing."""
        return self.backend_class(conn_string) if self.backend_class else open_client(conn_string)

    def _open_spool(self, path: str, pusher: Pusher) -> "Spool":
        from .spool import Spool  # sqlite3: who keeps nothing does not pay for it

        return Spool(pusher, path, self.conn_string)

    @property
    def is_async(self) -> bool:
        """Whether tasks go to the queue, or run in this process."""
        if callable(self._is_async):
            return to_bool("is_async", self._is_async())
        return self._is_async

    @is_async.setter
    def is_async(self, value: bool | str | Callable[[], bool]) -> None:
        self._is_async = value if callable(value) else to_bool("is_async", value)

    @property
    def switch(self) -> bool | Callable[[], bool]:
        """What `is_async` was set to: a bool, or the function that is asked each time."""
        return self._is_async

    @property
    def current(self) -> Transaction | None:
        """The transaction that tasks started here and now belong to."""
        return current(self)

    # Tasks in.

    def task(self, func: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Task:
        """Call *func* later, with these arguments.

        The arguments are written down now: what changes afterwards changes nothing. Inside of a
        transaction the task is held until it commits. Raises a `TaskError` for what cannot become
        a task, and `BackendError` when it is not on the queue.
        """
        return self.enqueue({}, func, args, kwargs)

    def options(self, **options: Unpack[TaskOptions]) -> Options[Task]:
        """Make a context of options for the tasks started with its `task`.

        Besides those of `Task` there are ``immediate=True`` (goes out at once, whatever becomes of
        the transaction) and ``always=True`` (waits for its end, and goes out also when it fails).
        """
        return Options(self, **self.check_options(options))

    def transaction(self, **options: Unpack[TaskOptions]) -> Transaction:
        """Make a context that holds tasks until its end; *options* are for all of them."""
        return Transaction(self, self.check_options(options))

    def push(
        self, task: Task, func: Callable[P, object], *args: P.args, **kwargs: P.kwargs
    ) -> Task:
        """Call *func* later, as a *task* of one's own making says."""
        task.to_call(func, *args, **kwargs)
        if self.tracing:
            carry(task, self._queue_of(task))
        if not task.is_async:
            return self._run_now(task)
        transaction = current(self)
        options = merge_options(self.defaults, transaction.options if transaction else {})
        return self._send(task, transaction, options.get("is_async"))

    def enqueue(
        self,
        options: Mapping[str, Any],
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Task:
        """Call *func* later, as checked *options* say: `task`, with its arguments in the plain."""
        transaction = current(self)
        merged = merge_options(self.defaults, transaction.options if transaction else {}, options)
        is_async = merged.pop("is_async", None)
        immediate = merged.pop("immediate", False)
        always = merged.pop("always", False)
        task = self.task_class(**merged)
        task.to_call(func, *args, **kwargs)
        if self.tracing:
            carry(task, self._queue_of(task))
        if options.get("is_async") is False:
            return self._run_now(task)
        return self._send(task, transaction, is_async, immediate=immediate, always=always)

    def _run_now(self, task: Task) -> Task:
        """Run *task* as if its function were called: ``is_async=False`` was said at the call itself."""
        task.is_async = False
        task.round_trip()
        return self.execute(task)

    def _send(
        self,
        task: Task,
        transaction: Transaction | None,
        is_async: bool | None,
        *,
        immediate: bool = False,
        always: bool = False,
    ) -> Task:
        """Let *task* go its way: into the transaction, onto the queue, or through this process."""
        if _stand_in is not None:
            is_async = not _stand_in.in_process
        task.is_async = self.is_async if is_async is None else is_async
        message = ""
        queue_name = self._queue_of(task)
        if task.is_async:
            message = self.write(task, queue_name)
        else:
            task.round_trip()
        held = Held(task, message, not task.is_async, always, queue_name, task.delay_until)
        if immediate or transaction is None or not transaction.hold(held):
            self.deliver([held])
        return task

    def deliver(self, held: Sequence[Held], commit_id: str | None = None) -> None:
        """Put tasks on their queues, all or none in one round trip, and run those that run here."""
        if _stand_in is not None:
            _stand_in.deliver(self, held)
            return
        messages = self._messages(held)
        if messages:
            try:
                with self._sending(held):
                    self._pusher.push_many(messages, commit_id=commit_id)
            except BaseException:
                self.discard(held)
                raise
        for each in held:
            each.task.to_waiting()
        here = [each.task for each in held if each.in_process]
        if not here:
            return
        try:
            run_in_turn(self.execute, here)
        except BaseException:
            if messages and commit_id is not None:  # one of them failed, so all of it has
                self.withdraw(held, commit_id)
            raise

    async def adeliver(self, held: Sequence[Held], commit_id: str) -> None:
        """Be `deliver`, while the event loop goes on, for tasks of which none runs here."""
        assert self._apush is not None
        try:
            with self._sending(held):
                await self._apush(self._messages(held), commit_id=commit_id)
        except BaseException:
            self.discard(held)
            raise
        for each in held:
            each.task.to_waiting()

    def _sending(self, held: Sequence[Held]) -> AbstractContextManager[Any]:
        return sending(held) if self.tracing else NOTHING

    @property
    def gathers(self) -> bool:
        """Whether `adeliver` can be used: a commit needs no thread of its own."""
        return self._apush is not None and _stand_in is None

    def withdraw(self, held: Sequence[Held], commit_id: str) -> None:
        """Take back what was delivered under *commit_id*, as far as no worker has begun it."""
        messages = self._messages(held)
        if messages and _stand_in is None:
            try:
                self._pusher.abort(commit_id, messages)
            except BackendError as error:
                log.error(
                    "%d tasks that were queued cannot be taken back: %s", len(messages), error
                )
        self.discard([each for each in held if not each.in_process])

    def discard(self, held: Sequence[Held]) -> None:
        """Note that these tasks will not run."""
        for each in held:
            each.task.to_canceled()
        if _stand_in is not None:
            _stand_in.discard(self, held)

    def count(self, ending: Ending, held: Sequence[Held]) -> None:
        """Note what became of tasks that a transaction held; of those for the store, that is."""
        if _stand_in is None and (number := sum([not each.in_process for each in held])):
            self.tally.add(ending, number)

    @property
    def blocking(self) -> bool:
        """Whether delivering waits for a disk or a network."""
        return self.client.blocking

    def check_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return *options* as tasks of this gator take them; raise a `TaskError` for others."""
        return check_options(options, self.task_class)

    # Tasks out.

    def pop(self) -> Task | None:
        """Run the next task here and return it; None when none is ready.

        Raises what the task raised when it has used up its retries; before, it goes back to the
        queue, and the task that is returned says so in its status.
        """
        return self._run_leases(self.client.reserve(self.queue_name))

    def get(self, task_id: str, queue_name: str | None = None) -> Task | None:
        """Run that task here and now, also when its time has not come; None when it is not waiting."""
        lease = self.client.lease(queue_name or self.queue_name, task_id)
        return self._run_leases([lease] if lease else [])

    def cancel(self, task_id: str, queue_name: str | None = None) -> Task | None:
        """Keep a task from running, and return it; None when it is not waiting any more.

        A task that the current transaction still holds is dropped from it.
        """
        transaction = current(self)
        task = transaction.cancel(task_id) if transaction is not None else None
        if task is None:
            queue_name = queue_name or self.queue_name
            data = self.client.cancel(queue_name, task_id)
            if data is None:
                return None
            task = self.read(Lease(queue_name, task_id, data))
            task.to_canceled()
        return task

    def execute(self, task: Task) -> Task:
        """Run *task* in this process, its retries at once; raise what its last attempt raised."""
        while True:
            try:
                return self.run(task)
            except KeyboardInterrupt:
                raise
            except BaseException:
                if task.retries <= 0:
                    raise
                task.retries -= 1
                task.attempt += 1
                task.to_retrying()

    def run(self, task: Task) -> Task:
        """Make one attempt at *task*, in its context."""
        task.queue_name = self._queue_of(task)
        span = running(task) if self.tracing else NOTHING
        if span is NOTHING and self.task_context is nullcontext:
            return task.run()
        with self.task_context(), span:
            return task.run()

    def fail(self, task: Task, error: BaseException) -> None:
        """Let *task* know, in its context, of a failure that its run has not seen."""
        with self.task_context():
            task.fail(error)

    def read(self, lease: Lease) -> Task:
        """Turn what a store gave into a task; raise `PayloadError` when it may not run here."""
        task = self.guard.read(lease.queue_name, lease.task_id, lease.data, self.task_class)
        task.queue_name = lease.queue_name
        return task

    def write(self, task: Task, queue_name: str) -> str:
        """Turn *task* into what a store keeps of it; raise a `TaskError` when that is not possible."""
        data = task.serialize()
        # JSON is ASCII here, so its length is its size.
        if len(data) > self.max_task_bytes:
            raise TaskTooLarge(
                f"{task.name} takes {len(data):,} bytes with its arguments, {self.max_task_bytes:,} "
                "are allowed. Keep large data elsewhere and pass an id."
            )
        return self.guard.seal(queue_name, task.task_id, data)

    def _run_leases(self, leases: Sequence[Lease]) -> Task | None:
        for lease in leases:
            with keeping(self.client, lease):
                try:
                    result = attempt(self, lease)
                except BaseException:  # KeyboardInterrupt: not the task's doing
                    self.client.release(lease)
                    raise
            self.client.step((), 0, outcomes=[result.outcome])
            if result.error is not None and result.outcome.verdict == "dead":
                raise result.error
            return result.task
        return None

    def _messages(self, held: Sequence[Held]) -> list[Message]:
        now = time()
        return [
            Message(
                each.queue_name,
                each.task.task_id,
                each.message,
                0.0 if each.due is None else max(0.0, each.due - now),
            )
            for each in held
            if not each.in_process
        ]

    def _queue_of(self, task: Task) -> str:
        return task.queue_name or self.queue_name

    # How things are.

    def len(self, queue_name: str | None = None) -> int:
        """Count the tasks that wait to be run."""
        return self.client.len(queue_name or self.queue_name)

    def stats(self, queue_name: str | None = None) -> QueueStats:
        """Measure this gator's queue, or another of its store."""
        return self.client.stats(queue_name or self.queue_name)

    def dead_letters(self, limit: int = 100, queue_name: str | None = None) -> list[DeadLetter]:
        """List the tasks that will not run again by themselves, the latest first."""
        return self.client.dead_letters(queue_name or self.queue_name, limit)

    def retry_dead(self, task_id: str, queue_name: str | None = None) -> bool:
        """Put a dead task back on the queue; False when none goes by that id."""
        return self.client.retry_dead(queue_name or self.queue_name, task_id)

    def drop_dead(self, task_id: str, queue_name: str | None = None) -> bool:
        """Throw a dead task away; False when none goes by that id."""
        return self.client.drop_dead(queue_name or self.queue_name, task_id)


class StandIn(Protocol):
    """What `alligator.testing` puts between all gators and their stores."""

    in_process: bool
    """Whether tasks are to run here, whatever their gators and options say."""

    def deliver(self, gator: Gator, held: Sequence[Held]) -> None:
        """Take tasks in the store's place."""
        ...

    def discard(self, gator: Gator, held: Sequence[Held]) -> None:
        """Be told of tasks that were held and will not run."""
        ...


# One for the whole process: a server under test may run in another thread.
_stand_in: StandIn | None = None


def set_stand_in(stand_in: StandIn | None) -> None:
    """Put *stand_in* between all gators of this process and their stores; None takes it away."""
    global _stand_in
    if stand_in is not None and _stand_in is not None:
        raise ConfigurationError(
            "Another of alligator.testing's modes is on already: sync and capture do not nest."
        )
    _stand_in = stand_in


def _several(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value


def _words(value: str | None) -> list[str]:
    return [word.strip() for word in (value or "").split(",") if word.strip()]
