"""Hold tasks until the work that started them has succeeded."""

from collections.abc import Callable, Sequence
from logging import Logger, getLogger
from time import monotonic
from typing import Any, Self

from .._runtime.coroutines import check_is_plain, complete
from .._runtime.ids import new_id
from ..backends.base import Commit
from ..commits.counters import Ending
from ..commits.deferred import ENDED, OutgoingTask
from ..constants import COMMIT_MEMORY
from ..exceptions import AlligatorException, TooManyTasks
from ..options import FOLLOW_UP, merge_options
from ..tasks import Task
from .scope import P, Scope, innermost

log: Logger = getLogger("alligator")


class Transaction(Scope):
    """Tasks that are pushed together when their work has succeeded, or not at all.

    Ex::

        with gator.transaction(retries=3) as tx:
            order = save_order()
            gator.task(send_receipt, order.id)
            tx.on_commit(lambda: print("queued"))

    When the block ends without an exception, the tasks are pushed in one round trip, or run in this
    process if asynchronous tasks are switched off. When an exception leaves the block, the tasks are
    discarded. If the store cannot be reached, the end raises `BackendError` and no task is queued.

    A transaction inside another of the same gator joins it. Its tasks go to the outer transaction
    when its own block succeeds. They are discarded when its block fails, or when the outer
    transaction was rolled back meanwhile. A transaction that has ended holds no more tasks: a task
    that is started later is pushed at once. A transaction is used once.
    """

    _outer: "Transaction | None"
    names_connection: bool = False
    """Whether it follows a connection of the application's database that was named."""
    doomed: bool = False
    _sent: Sequence[OutgoingTask] = ()
    """The tasks that were pushed, which `undo` removes from the queue."""
    _sent_at = 0.0
    """When their push began, on the monotonic clock."""
    _commit_id = ""
    _is_chosen = False
    _ending: Ending | None = None
    """How it ended; None until that is known."""

    @property
    def commit_id(self) -> str:
        """The id of its commit, by which a store recognises a repeated push."""
        self._commit_id = self._commit_id or new_id()
        return self._commit_id

    @property
    def is_settled_by_repeating(self) -> bool:
        """Whether its commit has an id that the application chose; see `commit_under`."""
        return self._is_chosen

    def commit_under(self, commit_id: str) -> None:
        """Commit under an id that the application chose, such as that of an idempotency key.

        Transactions with one id queue the tasks of the first that commits, and all of them succeed.
        Their commit is never undone, because it may be that of another: one that fails with
        `BackendUnavailable` may be queued, and is settled by a commit of another transaction under
        the id. An id that begins with ``day-`` is remembered for a day, any other for five minutes.
        """
        self._commit_id, self._is_chosen = commit_id, True

    # For the code in its block.

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that it holds."""
        return tuple([outgoing.task for outgoing in self.deferred.tasks])

    def update(self, **options: Any) -> None:
        """Set options for the tasks that are started in it from now on."""
        checked = self.gator.check_shared(options)
        with self.deferred.lock:
            self.options: dict[str, Any] = merge_options(self.options, checked)

    def doom(self) -> None:
        """Mark it so that its end discards the tasks; the block itself continues."""
        self.doomed = True

    def on_commit(self, callback: Callable[[], object]) -> None:
        """Call *callback* once the tasks are on the queue; an exception of it is logged.

        It is called at once after a commit; in a request of several gators, after the commits of all.
        """
        check_is_plain("callback", callback)
        deferred = self.deferred
        with deferred.lock:
            if self._ending is None and deferred is not ENDED:
                self._callbacks = [*self._callbacks, callback]
                return
        if self._ending == "committed" or (self._ending is None and not self.doomed):
            self._call(callback)

    def then(self, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Task:
        """Push a follow-up, which is queued when all other tasks of the commit are done or dead.

        It has the options of the transaction, without a delay; ``current_task().batch`` tells it how
        many tasks there were. Raises what `Gator.task` does, also if the store cannot count them.
        """
        if self.deferred.closed:
            raise AlligatorException("The transaction has ended: call then() before its end.")
        with self.active():
            return self.gator.enqueue(FOLLOW_UP, func, args, kwargs)

    def take_over(self, outgoing: OutgoingTask) -> bool:
        """Hold a task that a database transaction has not decided on; return False to push it now.

        If this transaction ended without a commit meanwhile, the task is discarded.
        """
        transaction: Transaction | None = self
        while transaction is not None:
            if transaction.deferred.add(outgoing):
                return True
            if transaction._ending not in (None, "committed"):
                self.gator.delivery.discard([outgoing])
                self.gator.delivery.count(transaction._ending, [outgoing])
                log.warning("discarded %r: its transaction has failed meanwhile", outgoing.task)
                return True
            transaction = transaction._outer
        return False

    def cancel(self, task_id: str) -> Task | None:
        """Drop a task that this or an outer transaction holds; None if neither holds it."""
        outgoing = self.deferred.remove(task_id)
        if outgoing is None:
            return self._outer.cancel(task_id) if self._outer is not None else None
        self.gator.delivery.discard([outgoing])
        return outgoing.task

    # Its block.

    def __enter__(self) -> Self:
        return self.begin(innermost())

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        self.leave()
        if exc is not None:
            self.rollback(exc)
        else:
            self.commit()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: object, exc: BaseException | None, traceback: object
    ) -> None:
        self.leave()
        if exc is None:
            await self.acommit()
        elif self.deferred.keeps_some and self.waits:
            from .._runtime.threads import run_in_thread  # loads asyncio

            await run_in_thread(lambda: self.rollback(exc))
        else:
            self.rollback(exc)

    # Its end.

    def end_if_empty(self) -> bool:
        """End it if there is nothing to commit; return whether there was nothing."""
        # Atomic: another thread may start the first task at this moment.
        self._first.append(ENDED)
        deferred = self._first[0]
        if deferred is ENDED:  # without callbacks, because the first one creates the tasks
            self._ending = self._ending or ("doomed" if self.doomed else "committed")
            return True
        with deferred.lock:
            if deferred.tasks or self._callbacks:
                return False
            if self._ending is None and not deferred.closed:
                deferred.closed = True
                self._ending = "doomed" if self.doomed else "committed"
            return True

    @property
    def waits(self) -> bool:
        """Whether its end waits for a store or runs tasks, and must not block an event loop."""
        deferred, outer = self.deferred, self._outer
        if not (deferred.tasks or self._callbacks) or (outer and not outer.deferred.closed):
            return False
        return self.gator.delivery.blocking or deferred.runs_some

    @property
    def runs_code(self) -> bool:
        """Whether its commit runs tasks or callbacks, which may commit transactions of their own."""
        return self.deferred.runs_some or bool(self._callbacks)

    def commit(self) -> None:
        """End it and push its tasks; discard them if it is doomed.

        Raises `BackendError` if the store did not accept them; then none of them is queued.
        """
        if not self.end_if_empty():
            self.send()
            self.finish()

    def send(self) -> None:
        """Commit without calling the callbacks: `finish` or `undo` follows."""
        complete(self._send(awaits=False))

    async def _send(self, *, awaits: bool) -> None:
        if self.doomed:
            await self._drop(self.deferred.close(), "doomed", awaits=awaits)
            return
        deferred = self.deferred.close()
        try:
            if self._outer is not None and self._hand_over(deferred):
                return
        except TooManyTasks:
            self.gator.delivery.discard(deferred)
            self._fail("failed")
            raise
        if self._outer is not None:
            if deferred:
                log.warning("discarded %d tasks: the outer transaction failed", len(deferred))
            await self._drop(deferred, self._outer._ending or "exception", awaits=awaits)
        elif deferred:
            await self._deliver(deferred, self.deferred, awaits=awaits)

    def finish(self) -> None:
        """Call the callbacks after `send`, including those that are registered meanwhile."""
        while True:
            with self.deferred.lock:
                callbacks, self._callbacks = self._callbacks, ()
                if self._ending is not None:
                    return
                if not callbacks:
                    self._ending = "committed"
                    return
            for callback in callbacks:
                self._call(callback)

    async def acommit(self) -> None:
        """Asynchronous version of `commit`. When it is cancelled, nothing stays on the queue."""
        if self.end_if_empty():
            return
        rest, deferred = self.commit, self.deferred
        more = deferred.runs_some or deferred.keeps_some or self._callbacks or self.doomed
        if not (more or self.gator.delivery.runs_inline):  # it only pushes, which needs no thread
            await self._send(awaits=True)
            rest = self.finish
        if not (deferred.tasks or self._callbacks) or not self.waits:
            rest()
            return
        from .._runtime.threads import run_in_thread

        await run_in_thread(rest, self.undo, own_thread=self.runs_code)

    def rollback(self, cause: BaseException | None = None) -> None:
        """End it and discard its tasks, except those with ``always=True``, which are pushed.

        Raises `BackendError` if the store did not accept these, unless *cause* is given, which the
        caller raises.
        """
        ending: Ending = "doomed" if self.doomed else "exception" if cause else "veto"
        complete(self._drop(self.deferred.close(), ending, cause, awaits=False))

    def undo(self) -> None:
        """Remove the tasks of the commit from the queue, except those that a worker has begun.

        Tasks with ``always=True`` are pushed again. It does nothing after `commit_under`; nor more
        than `COMMIT_MEMORY` seconds after the commit, because then no store knows its tasks.
        """
        with self.deferred.lock:
            if self._sent and monotonic() - self._sent_at > COMMIT_MEMORY:
                log.error(
                    "cannot remove %d tasks of a commit, they will run: "
                    "they were queued more than %.0f s ago",
                    *(len(self._sent), COMMIT_MEMORY),
                )
                return
            sent, self._sent = self._sent, ()
            self._ending = "undone"
            self._callbacks = ()
        if sent:
            self.gator.delivery.withdraw(sent, self.commit_id)
            self.gator.delivery.count("undone", [each for each in sent if not each.always])

    async def _deliver(
        self, tasks: Sequence[OutgoingTask], commit: Commit, *, awaits: bool
    ) -> None:
        self._sent_at = monotonic()
        self._commit_id = commit.commit_id = self._commit_id or new_id()
        commit.undo = not self._is_chosen
        delivery = self.gator.delivery
        try:
            await delivery.deliver(tasks, commit, awaits=awaits)
        except BaseException as error:
            is_cancelled = awaits and not isinstance(error, Exception)
            self._fail("exception" if is_cancelled else "failed", tasks)
            raise
        if commit.undo:
            self._sent = tasks
        delivery.count("committed", tasks)

    async def _drop(
        self,
        tasks: Sequence[OutgoingTask],
        ending: Ending,
        cause: BaseException | None = None,
        *,
        awaits: bool,
    ) -> None:
        """Discard *tasks*; push those with ``always=True``, or hand them over."""
        kept = [each for each in tasks if each.always]
        dropped = [each for each in tasks if not each.always]
        if dropped:
            self.gator.delivery.discard(dropped)
        self._fail(ending, dropped)
        try:
            if kept and not self._hand_over(kept):
                if self._is_chosen:  # the id is for a transaction that succeeds
                    self._commit_id = f"{self._commit_id}-always"
                await self._deliver(kept, Commit(kept), awaits=awaits)
                self._sent = ()  # `undo` must not remove them
        except Exception as error:
            if cause is None:
                raise
            cause.add_note(f"Alligator could not queue {len(kept)} tasks with always=True: {error}")
            log.exception(
                "%d tasks with always=True were lost: the store did not accept them", len(kept)
            )

    def _fail(self, ending: Ending, tasks: Sequence[OutgoingTask] = ()) -> None:
        """Record an end without a commit, and count *tasks*, which are not on the queue."""
        with self.deferred.lock:
            self._ending = self._ending or ending
            self._callbacks = ()
        if tasks:
            self.gator.delivery.count(ending, tasks)

    def _hand_over(self, tasks: Sequence[OutgoingTask]) -> bool:
        """Give *tasks* to the nearest outer transaction that has not ended; return whether it took them.

        If all of them have ended, `_outer` is then one that was rolled back, or None.
        """
        while self._outer is not None:
            if self._outer.deferred.join(tasks):
                return True
            if self._outer._ending not in (None, "committed"):
                return False
            self._outer = self._outer._outer
        return False

    def _call(self, callback: Callable[[], object]) -> None:
        if self._outer is not None:
            self._outer.on_commit(callback)
            return
        try:
            callback()
        except Exception:
            # Not raised: the tasks are queued, and an exception would report the opposite.
            log.exception("an on_commit callback failed; the tasks are queued")


def current(gator: object) -> Transaction | None:
    """Return the transaction of *gator* that tasks started in this context belong to."""
    transaction: Transaction | None = innermost()
    return transaction.of(gator) if transaction is not None else None


def veto_errors(status: int, headers: Sequence[tuple[str, str]] = ()) -> bool:
    """Veto the commit of a response that reports an error; true means do not commit.

    >>> veto_errors(201), veto_errors(302), veto_errors(404), veto_errors(500)
    (False, False, True, True)
    """
    return status >= 400
