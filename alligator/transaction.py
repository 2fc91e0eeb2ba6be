"""Hold tasks back until the work that asked for them has succeeded."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from functools import wraps
from logging import Logger, getLogger
from threading import Lock
from types import TracebackType
from typing import Any, NamedTuple, ParamSpec, Protocol, Self, TypeVar

from .constants import MAX_TASKS
from .exceptions import AlligatorException, TooManyTasks
from .options import merge_options
from .tally import Ending
from .tasks import Task

log: Logger = getLogger("alligator")

P = ParamSpec("P")
R = TypeVar("R")

# Bound once where a transaction begins. What changes is the transaction, never the binding, so that
# threads and coroutines that were given a copy of the context add to the same one.
_innermost: ContextVar["Transaction | None"] = ContextVar("alligator_transaction", default=None)


class Held(NamedTuple):
    """A task on its way, and what its maker said of the way."""

    task: Task
    message: str
    """Its payload; empty for a task that is to run in this process."""
    in_process: bool = False
    always: bool = False
    queue_name: str = ""
    due: float | None = None
    """Where it goes and when, as was said at the call: its task may be changed since."""


class Delivers(Protocol):
    """What a transaction needs of a gator."""

    def deliver(self, held: Sequence[Held], commit_id: str | None = None) -> None: ...

    async def adeliver(self, held: Sequence[Held], commit_id: str) -> None: ...

    def withdraw(self, held: Sequence[Held], commit_id: str) -> None: ...

    def discard(self, held: Sequence[Held]) -> None: ...

    def count(self, ending: Ending, held: Sequence[Held]) -> None: ...

    def check_options(self, options: Mapping[str, Any]) -> dict[str, Any]: ...

    @property
    def blocking(self) -> bool: ...

    @property
    def gathers(self) -> bool: ...


class Transaction:
    """Tasks that leave together when their work has succeeded, or not at all.

    Ex::

        with gator.transaction(retries=3) as tx:
            order = save_order()
            gator.task(send_receipt, order.id)
            tx.on_commit(lambda: print("queued"))

    At a clean end of the block the tasks go to the queue in one round trip, or, when asynchronous
    tasks are switched off, run in this process one after the other. On an exception none does.
    Until then nothing is sent anywhere. If the queue cannot be reached the end raises
    `BackendError`, and nothing is queued.

    A transaction inside another of the same gator joins it: what it holds goes to the outer one when
    its block ends well, and is dropped when it does not. After its end a transaction takes nothing
    more: a task that comes late goes on its way at once.
    """

    def __init__(self, gator: Delivers, options: Mapping[str, Any], request: Any = None) -> None:
        self.gator = gator
        self.request: Any = request
        """The request that it was begun for, in the words of its protocol: see `tracing`."""
        self.options: dict[str, Any] = dict(options)
        self._held: list[Held] = []
        self._callbacks: list[Callable[[], object]] = []
        self._lock = Lock()

    # Defaults stand here: one of these is made for each request, and most hold nothing.
    doomed: bool = False
    _runs_some = False
    """Whether some of its tasks are to run in this process."""
    _commit_id = ""
    _ended = False
    _committed = False
    _around: "Transaction | None" = None
    """The one that its block stands in, of whichever gator."""
    _outer: "Transaction | None" = None
    """The one that it joins: the nearest of the same gator."""
    _token: "Token[Transaction | None] | None" = None
    _sent: Sequence[Held] = ()

    @property
    def commit_id(self) -> str:
        """What its tasks are delivered under, so that a store knows a repeated delivery."""
        if not self._commit_id:
            self._commit_id = os.urandom(12).hex()
        return self._commit_id

    # What a view may do with it.

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that it holds."""
        return tuple([held.task for held in self._held])

    def update(self, **options: Any) -> None:
        """Give these options to the tasks that are started in it from now on."""
        self.options = merge_options(self.options, self.gator.check_options(options))

    def doom(self) -> None:
        """Go on, and discard the tasks at the end."""
        self.doomed = True

    def on_commit(self, callback: Callable[[], object]) -> None:
        """Call *callback* once the tasks are on the queue; what it raises is logged.

        When nothing commits it is not called. After the commit it is called at once.
        """
        with self._lock:
            if not self._ended:
                self._callbacks.append(callback)
                return
        if self._committed and self._outer is not None:
            self._outer.on_commit(callback)
        elif self._committed:
            _call(callback)

    def bind(self, func: Callable[P, R]) -> Callable[P, R]:
        """Wrap *func* so that tasks it starts belong here, in whichever thread it is called."""

        @wraps(func)
        def bound(*args: P.args, **kwargs: P.kwargs) -> R:
            with self.active():
                return func(*args, **kwargs)

        return bound

    def hold(self, held: Held) -> bool:
        """Keep a task until the end; False when the end has been, and the task must go by itself."""
        with self._lock:
            if self._ended:
                return False
            if self._outer is not None or len(self._held) >= MAX_TASKS:
                self._check_room(1)
            self._held.append(held)
            if held.in_process:
                self._runs_some = True
        held.task.to_deferred()
        return True

    def cancel(self, task_id: str) -> Task | None:
        """Drop a task that it, or the one it joins, holds; None when neither holds it."""
        with self._lock:
            for held in self._held:
                if held.task.task_id == task_id:
                    self._held.remove(held)
                    break
            else:
                return self._outer.cancel(task_id) if self._outer is not None else None
        self.gator.discard([held])
        return held.task

    # Its beginning and end.

    def __enter__(self) -> Self:
        around = _innermost.get()
        if around is not None and self.request is None:
            self.request = around.request
        while around is not None and around._ended:
            around = around._around  # not kept alive by those that begin after its end
        if around is not None:
            self._around = around
            self._outer = around.of(self.gator)
        if self._outer is not None:
            self.options = merge_options(self._outer.options, self.options)
        self._token = _innermost.set(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()
        if exc is not None:
            self.rollback(exc)
        else:
            self.commit()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()
        if exc is None:
            await self.acommit()
        elif self.waits:
            # asyncio: a program without coroutines does not pay for it
            from .offload import offload

            await offload(lambda: self.rollback(exc))
        else:
            self.rollback(exc)

    def leave(self) -> None:
        """Let tasks started from here on go their own way; those it holds wait for its end."""
        # Left before it ends, so that a task that is started while it does is not held by it.
        self.request = None  # which may know this transaction: no circle is left to be collected
        if self._token is not None:
            try:  # noqa: SIM105 - suppress() costs more, on every request
                _innermost.reset(self._token)
            except ValueError:  # left in another context: what was bound there stays there
                pass
            self._token = None

    @contextmanager
    def active(self) -> Iterator[Self]:
        """Let tasks started in the block belong here, without beginning or ending anything."""
        token = _innermost.set(self)
        try:
            yield self
        finally:
            _innermost.reset(token)

    def of(self, gator: object) -> "Transaction | None":
        """Find the transaction of *gator* among this one and those around it that have not ended."""
        transaction: Transaction | None = self
        while transaction is not None:
            if transaction.gator is gator and not transaction._ended:
                return transaction
            transaction = transaction._around
        return None

    def end_if_empty(self) -> bool:
        """End it when there is nothing to commit, and tell whether that was so."""
        with self._lock:
            if self._held or self._callbacks:
                return False
            if not self._ended:
                self._ended = True
                self._committed = not self.doomed
            return True

    @property
    def waits(self) -> bool:
        """Whether its end will wait for a store or run tasks: not for an event loop to do itself."""
        if not self._held and not self._callbacks:
            return False
        if self._outer is not None and not self._outer._ended:
            return False
        return self.gator.blocking or self._runs_some

    def commit(self) -> None:
        """End it, and send the tasks on their way; when it is doomed, discard them.

        Raises `BackendError` when the queue did not take them; then none is on it.
        """
        if self.doomed:
            self.rollback()
            return
        self._send(*self._end())
        self._committed = True

    async def acommit(self) -> None:
        """Be `commit`, while the event loop goes on."""
        if self.is_one_push:
            await self.apush()
        elif self.waits:
            from .offload import offload

            await offload(self.commit)
        else:
            self.commit()

    async def apush(self) -> None:
        """Commit one that `is_one_push`, while the event loop goes on."""
        held, _ = self._end()
        self._sent = held
        ending: Ending = "failed"
        try:
            await self.gator.adeliver(held, self.commit_id)
            ending = "committed"
        finally:
            self.gator.count(ending, held)
        self._committed = True

    @property
    def is_one_push(self) -> bool:
        """Whether to commit it is to push its tasks, and nothing else: no thread is needed for it."""
        return (
            bool(self._held)
            and not (self.doomed or self._callbacks)
            and (self._outer is None or self._outer._ended)
            and self.gator.gathers
            and not self._runs_some
        )

    def rollback(self, cause: BaseException | None = None) -> None:
        """End it, and discard the tasks but for those that were started with ``always=True``.

        Raises `BackendError` when the queue did not take these, unless *cause* is on its way up.
        """
        held, _ = self._end()
        kept = [each for each in held if each.always]
        if held:
            gone = [each for each in held if not each.always]
            self.gator.discard(gone)
            cause_of_it: Ending = "doomed" if self.doomed else "exception" if cause else "veto"
            self.gator.count(cause_of_it, gone)
        try:
            self._send(kept)
        except AlligatorException as error:
            if cause is None:
                raise
            cause.add_note(f"Alligator could not queue {len(kept)} tasks in spite of it: {error}")
            log.exception("%d tasks with always=True were lost", len(kept))

    def undo(self) -> None:
        """Take back what a commit has put on the queue, but for tasks that have begun already."""
        self.gator.withdraw(self._sent, self.commit_id)

    def _send(self, held: Sequence[Held], callbacks: Sequence[Callable[[], object]] = ()) -> None:
        """Hand over to the outer transaction if there is one, else to the gator."""
        if self._outer is not None:
            try:
                if self._outer._join(held, callbacks):
                    return
            except TooManyTasks:
                self.gator.discard(held)
                raise
            self._outer = None  # it has ended before this one, which goes its own way
        if held:
            self._sent = held
            ending: Ending = "failed"
            try:
                self.gator.deliver(held, self.commit_id)
                ending = "committed"
            finally:
                self.gator.count(ending, held)
        for callback in callbacks:
            _call(callback)

    def _end(self) -> tuple[list[Held], list[Callable[[], object]]]:
        with self._lock:
            self._ended = True
            held, self._held = self._held, []
            callbacks, self._callbacks = self._callbacks, []
        return held, callbacks

    def _check_room(self, more: int) -> None:
        if self._count() + more > MAX_TASKS:
            raise TooManyTasks(
                f"A transaction takes {MAX_TASKS} tasks. Start one task that starts the others, "
                "or use several transactions."
            )

    def _count(self) -> int:
        return len(self._held) + (self._outer._count() if self._outer is not None else 0)

    def _join(self, held: Sequence[Held], callbacks: Sequence[Callable[[], object]]) -> bool:
        """Take over what an inner transaction held; False when this one has ended as well."""
        with self._lock:
            if self._ended:
                return False
            self._check_room(len(held))
            self._held += held
            self._runs_some = self._runs_some or any(each.in_process for each in held)
            self._callbacks += callbacks
            return True


def innermost() -> Transaction | None:
    """Return the transaction, of whichever gator, that was begun last here; it may have ended."""
    return _innermost.get()


def current(gator: object) -> Transaction | None:
    """Find the transaction of *gator* that tasks started here belong to."""
    innermost = _innermost.get()
    return innermost.of(gator) if innermost is not None else None


def veto_errors(status: int, headers: Sequence[tuple[str, str]] = ()) -> bool:
    """Veto every response that reports a failure: true means do not commit.

    >>> veto_errors(201), veto_errors(302), veto_errors(404), veto_errors(500)
    (False, False, True, True)
    """
    return status >= 400


def _call(callback: Callable[[], object]) -> None:
    try:
        callback()
    except Exception:
        # The tasks are on the queue: an exception now would tell the client that they are not.
        log.exception("an on_commit callback failed")
