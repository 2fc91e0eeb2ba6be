"""When the tasks of a web request go out: what the adapters of all protocols share.

An adapter begins one transaction for each gator when a request comes in, and settles them when the
application has declared the status of its response, before the first byte of it leaves. So whoever
sees a success knows that the tasks of the request are queued, and whoever sees a failure that none is.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from logging import Logger, getLogger
from math import ceil
from typing import Any, Generic, Literal, TypeVar, get_args

from .constants import FAILED
from .exceptions import BackendError, ConfigurationError
from .gator import Gator
from .http import PROBLEM_JSON, Response, answer_json
from .tasks import Task
from .transaction import Transaction, veto_errors

log: Logger = getLogger("alligator")

T = TypeVar("T")

App = TypeVar("App")
"""An application of the adapter's protocol."""

CommitAt = Literal["start", "end"]
CommitVeto = Callable[[int, Sequence[tuple[str, str]]], bool]
RequestOptions = Mapping[str, Any] | Callable[[Any], Mapping[str, Any] | None]

MAX_IDS = 20
"""How many task ids one line of the log names."""


class Middleware(Generic[App]):
    """Hold the tasks that *app* starts during a request until its response is known to be good.

    *gator* is one, or several of which each has a transaction of its own: all commit or none does.
    *options* are given to the tasks of the request: a mapping, or a function of the request that
    returns one. *commit_veto* is asked with the status and the headers (names in lower case); what it
    vetoes is not queued. With *is_async* False the tasks run in this process once the response is
    known to be good.

    *commit_at* ``"start"`` queues them before the response begins, and answers 503 if that fails.
    ``"end"`` waits until the application has done all of its work, for a database that commits only
    then; the client has its answer by that time, so a failure can only be logged.
    """

    def __init__(
        self,
        app: App,
        gator: Gator | Sequence[Gator],
        *,
        options: RequestOptions | None = None,
        commit_veto: CommitVeto | None = veto_errors,
        commit_at: CommitAt = "start",
        is_async: bool | str | None = None,
    ) -> None:
        if commit_at not in get_args(CommitAt):
            raise ConfigurationError(f"commit_at is 'start' or 'end', not {commit_at!r}.")
        if inspect.iscoroutinefunction(options):
            raise ConfigurationError("options is a mapping or a plain function, not an async one.")
        self.app = app
        self.gators: tuple[Gator, ...] = as_gators(gator)
        self.commit_veto = commit_veto
        self.commit_at = commit_at
        self._switch = {} if is_async is None else {"is_async": is_async}
        self._ask = options if callable(options) else None
        fixed = {} if options is None or callable(options) else options
        # The innermost is the first gator's, so that it leads to all the others.
        self._begins = [
            (gator, gator.check_options({**self._switch, **fixed}))
            for gator in reversed(self.gators)
        ]

    def begin(self, raw: Any, known: object = None) -> list[Transaction]:
        """Begin the transactions of a request, the first gator's first; to be left by `leave`.

        *raw* is the request in the words of its protocol. *known* is the transaction that an
        adapter around this one has begun, if there is one: its gators need no other.
        """
        begins = self._begins
        if known is not None or self._ask is not None:
            begins = self._begins_of(raw, known)
        transactions: list[Transaction] = []
        for gator, options in begins:
            transactions.append(Transaction(gator, options, raw).__enter__())
        if len(transactions) > 1:
            transactions.reverse()
        return transactions

    def _begins_of(self, raw: Any, known: object) -> list[tuple[Gator, dict[str, Any]]]:
        begins = self._begins
        if isinstance(known, Transaction):
            begins = [(gator, options) for gator, options in begins if known.of(gator) is None]
        if self._ask is not None and begins:
            given = {**self._switch, **(self._ask(self.to_request(raw)) or {})}
            begins = [(gator, gator.check_options(given)) for gator, _ in begins]
        return begins

    def to_request(self, raw: Any) -> Any:
        """Turn *raw* into what a function given as *options* is called with."""
        return raw

    def leave(self, transactions: Sequence[Transaction]) -> None:
        """Let tasks that are started from here on go their own way."""
        for transaction in transactions:
            transaction.leave()

    def has_work(self, transactions: Sequence[Transaction]) -> bool:
        """End those that hold nothing, and tell whether others are left to settle."""
        for transaction in transactions:  # noqa: SIM110 - any() costs more, on every request
            if not transaction.end_if_empty():
                return True
        return False

    def settle(
        self, transactions: Sequence[Transaction], status: int, headers: Iterable[tuple[str, str]]
    ) -> Response | None:
        """End the transactions as the response says; return the answer that has to replace it.

        None when it may go out as it is. Raises what a task raised that ran in this process.
        """
        tasks = [task for transaction in transactions for task in transaction.tasks]
        try:
            if self._is_vetoed(status, headers):
                self.discard(transactions)
            else:
                self._commit(transactions)
        except BackendError as error:
            if any(task.status == FAILED for task in tasks):
                raise  # a task that ran here raised it: the queue has nothing to do with it
            return _unqueued(tasks, error)
        except BaseException as error:
            self.discard(transactions, error)
            raise
        return None

    async def asettle(
        self, transactions: Sequence[Transaction], status: int, headers: Iterable[tuple[str, str]]
    ) -> Response | None:
        """Be `settle`, while the event loop goes on."""
        if len(transactions) > 1 or not transactions[0].is_one_push:
            return await away(transactions, partial(self.settle, transactions, status, headers))
        [transaction] = transactions
        tasks = transaction.tasks
        try:
            if self._is_vetoed(status, headers):
                await away(transactions, partial(self.discard, transactions))
            else:
                await transaction.apush()
        except BackendError as error:
            return _unqueued(tasks, error)
        except BaseException as error:
            await away(transactions, partial(self.discard, transactions, error))
            raise
        return None

    def settle_late(
        self, transactions: Sequence[Transaction], status: int, headers: Iterable[tuple[str, str]]
    ) -> None:
        """End the transactions when the client has its answer, and a failure is for the log only."""
        if self.settle(transactions, status, headers) is not None:
            log.error("its client was answered %d all the same: commit_at is 'end'", status)

    def discard(
        self, transactions: Sequence[Transaction], cause: BaseException | None = None
    ) -> None:
        """Roll all of them back.

        Raises `BackendError` when tasks with ``always=True`` could not be queued and no *cause* is
        on its way up.
        """
        failure: BackendError | None = None
        for transaction in transactions:
            try:
                transaction.rollback(cause)
            except BackendError as error:
                failure = error
        if failure is not None:
            raise failure

    def _is_vetoed(self, status: int, headers: Iterable[tuple[str, str]]) -> bool:
        if self.commit_veto is veto_errors:  # which needs no headers
            return veto_errors(status)
        if self.commit_veto is None:
            return False
        return self.commit_veto(status, [(name.lower(), value) for name, value in headers])

    def _commit(self, transactions: Sequence[Transaction]) -> None:
        """Commit all of them or none."""
        for number, transaction in enumerate(transactions):
            try:
                transaction.commit()
            except BaseException as error:
                for committed in transactions[:number]:
                    try:
                        committed.undo()
                    except BackendError as trouble:
                        log.error("what was queued of a request is not taken back: %s", trouble)
                self.discard(transactions[number + 1 :], error)
                raise


async def away(transactions: Sequence[Transaction], call: Callable[[], T]) -> T:
    """Make a *call* that ends *transactions*: in a thread, if an event loop would have to wait."""
    if any(transaction.waits for transaction in transactions):
        # asyncio: a site without coroutines does not pay for it
        from .offload import offload

        return await offload(call)
    return call()


def as_gators(gator: Gator | Sequence[Gator]) -> tuple[Gator, ...]:
    """Take one gator or several; raise `ConfigurationError` for what is neither."""
    given = gator if isinstance(gator, Iterable) else [gator]
    gators = tuple(dict.fromkeys(given))
    if not gators or not all(isinstance(each, Gator) for each in gators):
        raise ConfigurationError(f"gator is a Gator or several of them, not {gator!r:.80}.")
    return gators


def _listed(tasks: Sequence[Task]) -> str:
    """Count and name tasks, for the log; what they are given is nobody's business there."""
    ids = ", ".join(task.task_id for task in tasks[:MAX_IDS])
    more = f" and {len(tasks) - MAX_IDS} more" if len(tasks) > MAX_IDS else ""
    return f"{len(tasks)} task{'s' if len(tasks) != 1 else ''} ({ids}{more})"


def _unqueued(tasks: Sequence[Task], error: BackendError) -> Response:
    """Make what a client gets in place of a response whose tasks could not be queued."""
    log.error("%s of a request could not be queued: %s", _listed(tasks), error)
    problem = {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "The background tasks of this request could not be queued, so none of them will "
        "run. Please try again later.",
    }
    response = answer_json(503, PROBLEM_JSON, problem)
    response.headers.append(("Retry-After", str(max(1, ceil(error.retry_after)))))
    return response
