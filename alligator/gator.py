"""The object that a project configures: it puts tasks on the queue of a store."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ParamSpec, Self, Unpack

from ._runtime.coroutines import complete
from ._runtime.environment import gator_settings, read_list
from ._runtime.interrupts import checkpoint, due
from ._runtime.overrides import NOT_CALLED, check_overrides
from .backends import open_client, refuse_overrides
from .backends.base import Client, Lease, redact
from .backends.controls import QueueControls
from .backends.legacy import FiveMethodClient
from .commits import interception
from .commits.breaker import Breaker
from .commits.committer import Committer, Delivers
from .commits.counters import CommitCounters
from .commits.deferred import Enlists, OutgoingTask, hold
from .constants import ALL, MAX_TASK_BYTES
from .execution.inline import run_inline, run_leases, run_with_retries
from .execution.lifespan import Lifespan, check_lifespan
from .options import (
    SENDING,
    Options,
    TaskOptions,
    check_name,
    check_options,
    check_shared_options,
    check_whole,
    merge_options,
    to_bool,
)
from .payload.signing import Guard
from .schedules import Schedules
from .tasks import Task
from .tasks.stored_options import routing_of
from .telemetry.propagation import NOTHING, carry, has_spans, running, sending
from .transaction import Transaction, current
from .transaction.scope import innermost

if TYPE_CHECKING:
    from .commits.relay import Relay
    from .commits.same_server import SameServer
    from .commits.spool import Spool

P = ParamSpec("P")

NO_OPTIONS: Mapping[str, Any] = {}


class Gator(Schedules, QueueControls):
    """A queue to put tasks on.

    Ex::

        gator = Gator("redis://localhost:6379/0")
        gator.task(send_mail, 42)

    Constructing one opens no connection. Threads and forked processes may share one.

    This class pushes tasks and runs them in this process. It inherits the methods for schedules, and
    those that measure and pause queues.

    *is_async* False is the switch for tests and development: tasks run in this process, those of a
    transaction when it commits. It is a bool, a word such as "off", or a function that is called for
    each task. *defaults* are options for every task. *secret* (one, or the new and the old ones) signs
    the payloads, and *allow* limits which functions a worker runs: see `alligator.payload.signing`.
    *task_context* returns a context manager in which each task runs; for a coroutine, a worker enters
    it asynchronously if possible. *lifespan* returns one, asynchronous or not, for all of its tasks.

    While the store cannot be reached, the *breaker* makes pushes fail at once (see
    `alligator.commits.breaker`), unless *spool*, the path of a file, keeps the tasks meanwhile (see
    `alligator.commits.spool`). With *tracing*, tasks carry the trace and the id of the request that
    starts them (see `alligator.telemetry.propagation`).
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
        secret: str | Sequence[str] | None = None,
        allow: str | Sequence[str] | None = None,
        max_task_bytes: int = MAX_TASK_BYTES,
        task_context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        lifespan: Lifespan | None = None,
        breaker: bool = True,
        spool: str | None = None,
        tracing: bool = True,
    ) -> None:
        kinds = type(self).__mro__
        check_overrides(kinds[: kinds.index(Gator)], NOT_CALLED)
        self._has_own_push: bool = type(self).push is not Gator.push
        self.conn_string = conn_string
        self.queue_name: str = check_name("queue_name", queue_name)
        self.task_class = task_class
        self.backend_class = backend_class
        self.task_context = task_context
        self.lifespan: Lifespan | None = check_lifespan(lifespan)
        self.is_async = is_async
        self.tracing = tracing
        self.defaults: dict[str, Any] = self.check_shared(defaults or {})
        self.backend: Any = self.build_backend(conn_string)
        """The store: a `Client`, or what *backend_class* returned."""
        self.client: Client = (
            self.backend if isinstance(self.backend, Client) else FiveMethodClient(self.backend)
        )
        refuse_overrides(self.client)
        most = check_whole("max_task_bytes", max_task_bytes, least=1)
        self.guard: Guard = Guard(secret, allow, scope=self.client.scope, max_bytes=most)
        self.committer: Committer = Committer(
            self.client,
            breaker=breaker,
            spool=spool,
            trace=sending if tracing else nullcontext,
            run_inline=run_inline,
        )
        self.breaker: Breaker | None = self.committer.breaker
        self.spool: Spool | None = self.committer.spool
        self.counters: CommitCounters = self.committer.counters
        self.enlisters: list[Enlists] = []
        """They are asked first, and hold tasks that follow a transaction of the database."""
        self._same_server: SameServer | None = None
        self.relays: list[Relay] = []

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **settings: Any) -> Self:
        """Make a gator from environment variables; *settings* are further arguments.

        ``ALLIGATOR_CONN`` is the DSN, ``ALLIGATOR_PREFIX`` makes the queue ``PREFIX_all``. The others
        (``ASYNC``, ``SECRET``, ``ALLOW``, ``SPOOL``) are the arguments; lists have commas.
        """
        found = gator_settings(environ)
        for name in {"secret", "allow"} - settings.keys():
            found[name] = read_list(environ, f"ALLIGATOR_{name.upper()}")
        return cls(found.pop("conn_string"), **{**found, **settings})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.queue_name!r} on {self.store}>"

    @property
    def store(self) -> str:
        """The DSN of the store for display: without passwords, and with an absolute path."""
        known = isinstance(self.backend, Client)
        return self.client.address if known else redact(self.conn_string)

    def close(self) -> None:
        """Release connections, files and threads. The tasks of the spool stay in its file."""
        for relay in self.relays:
            relay.close()
        if self._same_server is not None:
            self._same_server.close()
        self.committer.close()
        self.client.close()

    @property
    def same_server(self) -> "SameServer":
        """What writes tasks in transactions of the database of the store, unless a relay does."""
        if self._same_server is None:
            from .commits.same_server import SameServer

            self._same_server = SameServer(self.client)
        return self._same_server

    def relay_from(self, connect: Callable[[], Any], *, table: str = "alligator_outbox") -> None:
        """Relay the outbox of a database; *connect* opens a connection of the DB-API to it."""
        from .commits.outbox import Outbox
        from .commits.relay import Relay

        self.relays.append(Relay(self.client, Outbox(connect, table=table)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def build_backend(self, conn_string: str) -> Any:
        """Make the store of the DSN, without connecting to it."""
        return self.backend_class(conn_string) if self.backend_class else open_client(conn_string)

    @property
    def is_async(self) -> bool:
        """Whether tasks go to the queue, or run in this process."""
        switch = self._is_async
        return to_bool("is_async", switch()) if callable(switch) else switch

    @is_async.setter
    def is_async(self, value: bool | str | Callable[[], bool]) -> None:
        self._is_async = value if callable(value) else to_bool("is_async", value)

    @property
    def switch(self) -> bool | Callable[[], bool]:
        """What `is_async` was set to: a bool, or the function that is called for each task."""
        return self._is_async

    @property
    def current(self) -> Transaction | None:
        """The transaction that a task started now would belong to."""
        return current(self)

    @property
    def delivery(self) -> Delivers:
        """What delivers its tasks: to its store, unless `alligator.testing` intercepts them."""
        interceptor = interception.active
        return self.committer if interceptor is None else interceptor.delivery_of(self)

    # Push tasks.

    def task(self, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Task:
        """Push a task that calls *func* with these arguments.

        The arguments are serialized now: later changes to them have no effect. A transaction holds the
        task until its commit. Raises a `TaskError`, such as `WrongArguments`, if the call cannot become
        a task, and `BackendError` if the task is not on the queue.
        """
        return self.enqueue(NO_OPTIONS, func, args, kwargs)

    def options(self, **options: Unpack[TaskOptions]) -> Options[Task]:
        """Return a context whose `task` method starts tasks with these options.

        Besides those of `Task`: ``immediate=True`` to push at once, ``always=True`` to push even if the
        transaction is rolled back.
        """
        return Options(self, **self.check_options(options))

    def transaction(self, *, on: Any = None, **options: Unpack[TaskOptions]) -> Transaction:
        """Return a context that holds tasks until its end; *options* apply to all of them.

        *on* is a connection of the application's database, whose own transaction decides on the tasks.
        """
        if due:
            checkpoint()
        checked = self.check_shared(options) if options else {}
        if on is not None:
            from .transaction.connection import ConnectionTransaction

            return ConnectionTransaction(self, checked, on)
        return Transaction(self, checked)

    def push(
        self, task: Task, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task:
        """Push a *task* that you built yourself, to call *func* with these arguments.

        If a subclass overrides it, `task` and the contexts of options call it as well.
        """
        if due:
            checkpoint()
        transaction = current(self)
        sending: Mapping[str, Any] | None = task.__dict__.pop("_sending", None)
        if sending is None:
            options = merge_options(self.defaults, transaction.options if transaction else {})
            sending = {"is_async": options.get("is_async")}
        return self._start(task, transaction, sending, func, args, kwargs)

    def enqueue(
        self,
        options: Mapping[str, Any],
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Task:
        """Push a task with *options* that `check_options` has checked; see `task`."""
        if due:
            checkpoint()
        transaction = innermost()
        if transaction is not None:
            transaction = transaction.of(self)
        shared = transaction.options if transaction is not None else NO_OPTIONS
        sending: Mapping[str, Any] = NO_OPTIONS
        if options or shared or self.defaults:
            merged = merge_options(self.defaults, shared, options)
            sending = {name: merged.pop(name) for name in SENDING if name in merged}
            task = self.task_class(**merged)
            if options.get("is_async") is False:
                task.is_async = False
            elif sending.get("is_async") is not None:
                task.is_async = True  # overrides a default of the task's class
        else:
            task = self.task_class()
        if self._has_own_push:
            task.__dict__["_sending"] = sending
            return self.push(task, func, *args, **kwargs)
        return self._start(task, transaction, sending, func, args, kwargs)

    def _start(
        self,
        task: Task,
        transaction: Transaction | None,
        sending: Mapping[str, Any],
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Task:
        """Hold *task* in its transaction, push it, or run it in this process."""
        task.to_call(func, *args, **kwargs)
        queue_name = task.queue_name or self.queue_name
        if self.tracing:
            carry(task, queue_name)
        if not task.is_async:  # is_async=False at the call itself: run it like a function
            task.is_async = False
            task.round_trip()
            return self.execute(task)
        is_async = sending.get("is_async")
        if interception.active is not None:
            is_async = not interception.active.inline
        if is_async is None:
            is_async = self._is_async if isinstance(self._is_async, bool) else self.is_async
        data = self.guard.write(task, queue_name) if is_async else ""
        routing = routing_of(task, self.client, follows=sending.get("follows", False))
        outgoing = OutgoingTask(queue_name, task.task_id, data, 0.0, *routing)
        outgoing.task, outgoing.due = task, task.delay_until
        if not is_async:
            task.is_async = False
            task.round_trip()
            outgoing.run = self.execute
        immediate, outgoing.always = sending.get("immediate"), sending.get("always", False)
        if self.enlisters and not immediate and hold(self.enlisters, outgoing, transaction):
            return task
        if immediate or transaction is None or not transaction.deferred.add(outgoing):
            complete(self.delivery.deliver([outgoing]))
        return task

    def check_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return *options* in the form that tasks of this gator take; raises a `TaskError`."""
        return check_options(options, self.task_class)

    def check_shared(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return *options* that several tasks share, checked as by `check_options`."""
        return check_shared_options(options, self.task_class)

    # Run tasks in this process.

    def pop(self) -> Task | None:
        """Run the next ready task in this process and return it; None if none is ready.

        A task that fails and has retries left goes back to the queue, with status `RETRYING`; without
        retries left, raises what the task raised. A task that cannot run here is released, and the
        reason is raised, such as `UnknownModuleError`.
        """
        return run_leases(self, self.client, self.client.reserve(self.queue_name))

    def get(self, task_id: str, queue_name: str | None = None) -> Task | None:
        """Run the waiting task of that id in this process and return it; None if none is waiting.

        This is not a look-up: it calls the function, even if the task is scheduled for later.
        """
        lease = self.client.lease(queue_name or self.queue_name, task_id)
        return run_leases(self, self.client, [lease] if lease else [])

    def cancel(self, task_id: str, queue_name: str | None = None) -> Task | None:
        """Cancel a task that waits or runs, and return it; None if there is none with that id.

        Its `was_running` says which. A task that the current transaction holds is dropped from it.
        """
        transaction = current(self)
        task = transaction.cancel(task_id) if transaction is not None else None
        for enlister in self.enlisters:
            task = task or enlister.cancel(task_id)
        if task is None:
            queue_name = queue_name or self.queue_name
            if (found := self.client.cancel(queue_name, task_id)) is None:
                return None
            task = self.read(Lease(queue_name, task_id, found.data))
            task.to_canceled()
            task.was_running = found.was_leased
        return task

    def execute(self, task: Task) -> Task:
        """Run *task* in this process, with its retries at once; raises what its last attempt raised."""
        return run_with_retries(self.run, task)

    def run(self, task: Task) -> Task:
        """Make one attempt at *task*, inside its `task_context`."""
        task.queue_name = task.queue_name or self.queue_name
        has_span = self.tracing and has_spans()
        if self.task_context is nullcontext and not has_span:
            return task.run()
        with self.task_context(), running(task) if has_span else NOTHING:
            return task.run()

    def fail(self, task: Task, error: BaseException) -> None:
        """Record, inside its `task_context`, a failure of *task* that its run did not see."""
        with self.task_context():
            task.fail(error)

    def read(self, lease: Lease) -> Task:
        """Return the task of *lease*; raises `PayloadError` if it may not run here."""
        return self.guard.read(lease.queue_name, lease.task_id, lease.data, self.task_class)
