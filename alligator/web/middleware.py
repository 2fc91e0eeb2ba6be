"""Transactions around web requests: the part that the adapters of all protocols share.

An adapter begins one transaction per gator when a request arrives. It ends them when the application
has declared the status of its response, before the first byte is sent. So a client that sees a
success knows that the tasks of the request are queued; a client that sees a failure knows that none
of them is.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import isawaitable
from logging import Logger, getLogger
from math import ceil
from typing import Any, Generic, Literal, TypeVar, get_args

from .._runtime.coroutines import complete
from .._runtime.predicates import Predicate, is_coroutine_function
from ..constants import CANCELED, FAILED
from ..exceptions import BackendError, ConfigurationError
from ..gator import Gator
from ..tasks import Task
from ..transaction import Transaction, veto_errors
from ..transaction.scope import innermost
from .http import PROBLEM_JSON, Response, make_json_response
from .idempotency import ClientOf, IdempotencyKeys, RequestLine, make_keys

log: Logger = getLogger("alligator")

T = TypeVar("T")

App = TypeVar("App")
"""An application of the adapter's protocol."""

CommitAt = Literal["start", "end"]
CommitVeto = Callable[[int, Sequence[tuple[str, str]]], bool | Awaitable[bool]]
RequestOptions = Mapping[str, Any] | Callable[[Any], Mapping[str, Any] | None]

MAX_IDS = 20
"""How many task ids one log line lists."""


class Middleware(Generic[App]):
    """Holds the tasks that *app* starts during a request until its response is a success.

    *gator* is one gator or several. Each has its own transaction; either all commit or none does.
    *options* are the options of the request's tasks: a mapping, or a function that takes the request
    and returns one. *commit_veto* is called with the status and the headers (names in lower case):
    True discards the tasks, False queues them; any other value is logged, and `veto_errors` decides.
    It may be a coroutine function if the protocol has an event loop. With *is_async* False the tasks
    run in this process when the transaction commits.

    With *idempotency_key* a request that is repeated under its key queues its tasks once. True means
    the header ``Idempotency-Key``, a string the name of another one. *idempotency_client* is a
    function that takes the request and returns what identifies its client; without it, the headers
    ``Authorization`` and ``Cookie`` do. See `alligator.web.idempotency`.

    *commit_at* ``"start"`` queues the tasks before the response begins, and responds with 503 if
    that fails. ``"end"`` waits until the application has finished, for a database that commits only
    then. The client already has its response at that time, so a failure is only logged.
    """

    awaits: bool = False
    """Whether the protocol has an event loop."""

    def __init__(
        self,
        app: App,
        gator: Gator | Sequence[Gator],
        *,
        options: RequestOptions | None = None,
        commit_veto: CommitVeto | None = veto_errors,
        commit_at: CommitAt = "start",
        is_async: bool | str | None = None,
        idempotency_key: bool | str | None = None,
        idempotency_client: ClientOf | None = None,
    ) -> None:
        if commit_at not in get_args(CommitAt):
            raise ConfigurationError(f"commit_at must be 'start' or 'end', not {commit_at!r}.")
        if is_coroutine_function(options):
            raise ConfigurationError(
                "options must be a mapping or a plain function, not a coroutine function."
            )
        if not (options is None or callable(options) or isinstance(options, Mapping)):
            raise ConfigurationError(
                f"options must be a mapping or a function that returns one, not {options!r:.80}."
            )
        self.app = app
        self.gators: tuple[Gator, ...] = as_gators(gator)
        self.commit_veto = commit_veto
        self._veto: Predicate | None = None
        if commit_veto is not None:
            self._veto = Predicate("commit_veto", commit_veto, awaits=self.awaits)
        self._vetoes_errors = commit_veto is veto_errors  # the default, for most requests
        self.commit_at = commit_at
        self._keys = make_keys(idempotency_key, idempotency_client)
        self._switch = {} if is_async is None else {"is_async": is_async}
        self._options_of = options if callable(options) else None
        fixed = {} if options is None or callable(options) else options
        # Reversed: the first gator's transaction is the innermost, which leads to all the others.
        self._openings = [
            (gator, gator.check_shared({**self._switch, **fixed}))
            for gator in reversed(self.gators)
        ]
        is_simple = len(self._openings) == 1 and self._options_of is None and self._keys is None
        self._only_opening = self._openings[0] if is_simple else None

    def begin(self, raw: Any, known: object = None) -> list[Transaction]:
        """Begin and return the transactions of a request, the first gator's first.

        The adapter leaves them with `leave`. *raw* is the request as the protocol represents it.
        *known* is the transaction of an adapter around this one, if there is one; its gators need no
        other. The transactions join no other transaction of the context, because that may belong to
        another request.
        """
        if known is None and self._only_opening is not None:
            gator, options = self._only_opening
            return [Transaction(gator, options, raw).begin(None)]
        openings = self._openings
        if known is not None or self._options_of is not None:
            openings = self._openings_for(raw, known)
        commit_id = None if self._keys is None else self._commit_id_of(self._keys, raw)
        transactions: list[Transaction] = []
        parent = _innermost_in(known) if isinstance(known, Transaction) else None
        for gator, options in openings:
            parent = Transaction(gator, options, raw).begin(parent)
            transactions.append(parent)
        if len(transactions) > 1:
            transactions.reverse()
        if commit_id is not None:
            for transaction in transactions:
                # Each has its own id, because several gators may share a store.
                transaction.commit_under(f"{commit_id}-{transaction.depth}")
        return transactions

    def _commit_id_of(self, keys: IdempotencyKeys, raw: Any) -> str | None:
        """Return the id under which the request commits, if it has an idempotency key."""
        return keys.commit_id(self.request_line(raw), partial(self.to_request, raw))

    def request_line(self, raw: Any) -> RequestLine:
        """Return what the key of a request is read from."""
        raise NotImplementedError(f"{type(self).__name__} cannot read idempotency keys.")

    def _openings_for(self, raw: Any, known: object) -> list[tuple[Gator, dict[str, Any]]]:
        openings = self._openings
        if isinstance(known, Transaction):
            openings = [(gator, options) for gator, options in openings if known.of(gator) is None]
        if self._options_of is not None and openings:
            given = {**self._switch, **(self._options_of(self.to_request(raw)) or {})}
            openings = [(gator, gator.check_shared(given)) for gator, _ in openings]
        return openings

    def to_request(self, raw: Any) -> Any:
        """Return the request object for a function given as *options*."""
        return raw

    def leave(self, transactions: Sequence[Transaction]) -> None:
        """Leave *transactions*: tasks that are started from now on do not join them."""
        for transaction in transactions:
            transaction.leave()

    def has_work(self, transactions: Sequence[Transaction]) -> bool:
        """End the transactions that hold nothing; return whether others remain."""
        for transaction in transactions:  # noqa: SIM110 - any() is slower, on every request
            if not transaction.end_if_empty():
                return True
        return False

    def end(
        self,
        transactions: Sequence[Transaction],
        status: int,
        headers: Sequence[tuple[str, str]],
        vetoed: bool | None = None,
    ) -> Response | None:
        """End the transactions; return a response to send instead, or None to send the original.

        Raises what an inline task raised. *vetoed* is the result of the veto; None calls it.
        """
        return complete(self.aend(transactions, status, headers, vetoed, awaits=False))

    async def aend(
        self,
        transactions: Sequence[Transaction],
        status: int,
        headers: Sequence[tuple[str, str]],
        vetoed: bool | None = None,
        *,
        awaits: bool = True,
    ) -> Response | None:
        """Asynchronous version of `end`. If it is cancelled, no task stays on the queue."""
        if vetoed is None:
            vetoed = (
                veto_errors(status)
                if self._vetoes_errors
                else await self._is_vetoed(transactions, status, headers, awaits=awaits)
            )
        if awaits and (len(transactions) > 1 or transactions[0].deferred.keeps_some):
            end = partial(self.end, transactions, status, headers, vetoed)
            return await call_without_blocking(transactions, end, partial(self.undo, transactions))
        held = [transaction.deferred.tasks for transaction in transactions]
        try:
            if vetoed:
                self.discard(transactions)
            elif awaits:
                await transactions[0].acommit()
            else:
                self._commit(transactions)
        except BackendError as error:
            tasks = [outgoing.task for some in held for outgoing in some]
            if any(task.status == FAILED for task in tasks):
                raise  # an inline task raised it, not the store
            return _make_unqueued_response(transactions, tasks, error)
        except BaseException as error:
            if not awaits:  # a commit that is cancelled undoes itself
                self.undo(transactions)
            self.discard(transactions, error)
            raise
        return None

    def end_late(
        self,
        transactions: Sequence[Transaction],
        status: int,
        headers: Sequence[tuple[str, str]],
        vetoed: bool | None = None,
    ) -> None:
        """End the transactions after the client has its response; a failure is only logged."""
        if self.end(transactions, status, headers, vetoed) is not None:
            log.error("the client already has the response %d, because commit_at is 'end'", status)

    async def aend_late(
        self, transactions: Sequence[Transaction], status: int, headers: Sequence[tuple[str, str]]
    ) -> None:
        """Asynchronous version of `end_late`. If it is cancelled, the commit continues."""
        vetoed = await self._is_vetoed(transactions, status, headers, awaits=True)
        end = partial(self.end_late, transactions, status, headers, vetoed)
        await call_without_blocking(transactions, end)

    def discard(
        self,
        transactions: Sequence[Transaction],
        cause: BaseException | None = None,
        *,
        answered: bool = True,
    ) -> None:
        """Roll back all *transactions*.

        Raises `BackendError` if tasks with ``always=True`` could not be queued and there is no
        *cause*, which is the exception that ended the request. With a *cause*, or if the request was
        not *answered*, the discarded tasks are logged, because no response status shows it.
        """
        tasks = [task for transaction in transactions for task in transaction.tasks]
        failure: BackendError | None = None
        for transaction in transactions:
            try:
                transaction.rollback(cause)
            except BackendError as error:
                failure = error
        lost = [task for task in tasks if task.status == CANCELED]
        if lost and (cause is not None or not answered):
            ending = "without a response" if cause is None else f"with {type(cause).__name__}"
            log.warning("discarded %s of a request that ended %s", _listed(lost), ending)
        if failure is not None:
            raise failure

    async def adiscard(
        self,
        transactions: Sequence[Transaction],
        cause: BaseException | None = None,
        *,
        answered: bool = True,
    ) -> None:
        """Asynchronous version of `discard`."""
        discard = partial(self.discard, transactions, cause, answered=answered)
        if any(transaction.deferred.keeps_some for transaction in transactions):
            await call_without_blocking(transactions, discard)
        else:
            discard()

    def undo(self, transactions: Sequence[Transaction]) -> None:
        """Remove committed tasks from the queue, because the client sees no success.

        Tasks that have started are not affected.
        """
        for committed in transactions:
            try:
                committed.undo()
            except BackendError as error:
                log.error("could not remove the queued tasks of a failed request: %s", error)

    async def aundo(self, transactions: Sequence[Transaction]) -> None:
        """Asynchronous version of `undo`."""
        # It imports asyncio, which a WSGI site does not need.
        from .._runtime.threads import run_in_thread

        await run_in_thread(partial(self.undo, transactions))

    async def _is_vetoed(
        self,
        transactions: Sequence[Transaction],
        status: int,
        headers: Sequence[tuple[str, str]],
        *,
        awaits: bool,
    ) -> bool:
        """Return the answer of the veto. If it raises, the transactions are discarded."""
        if self._veto is None:
            return False
        try:
            returned = self._veto.func(status, _lowered(headers))
            answer = self._veto.judge(
                await returned if awaits and isawaitable(returned) else returned
            )
        except BaseException as error:
            if awaits:
                await self.adiscard(transactions, error)
            else:
                self.discard(transactions, error)
            raise
        return veto_errors(status) if answer is None else answer

    def _commit(self, transactions: Sequence[Transaction]) -> None:
        """Commit all *transactions* or none, and then call the callbacks."""
        for number, transaction in enumerate(transactions):
            try:
                transaction.send()
            except BaseException as error:
                self.undo(transactions[:number])
                self.discard(transactions[number + 1 :], error)
                raise
        for transaction in transactions:
            transaction.finish()


def _innermost_in(known: Transaction) -> Transaction:
    """Return the innermost transaction if it is inside *known*; otherwise *known*."""
    here = innermost()
    return here if here is not None and here.is_inside(known) else known


async def call_without_blocking(
    transactions: Sequence[Transaction],
    call: Callable[[], T],
    undo: Callable[[], object] | None = None,
) -> T:
    """Return the result of *call*, which ends *transactions*; in a thread if it could block.

    *undo* is called after *call* if this coroutine is cancelled meanwhile.
    """
    if any(transaction.waits for transaction in transactions):
        # It imports asyncio, which a WSGI site does not need.
        from .._runtime.threads import run_in_thread

        apart = any(transaction.runs_code for transaction in transactions)
        return await run_in_thread(call, undo, own_thread=apart)
    return call()


def as_gators(gator: Gator | Sequence[Gator]) -> tuple[Gator, ...]:
    """Return one gator or several as a tuple; raise `ConfigurationError` for anything else."""
    given = gator if isinstance(gator, Iterable) else [gator]
    gators = tuple(dict.fromkeys(given))
    if not gators or not all(isinstance(each, Gator) for each in gators):
        raise ConfigurationError(f"gator must be a Gator or several of them, not {gator!r:.80}.")
    return gators


def _lowered(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in headers]


def _listed(tasks: Sequence[Task]) -> str:
    """Return the number and the ids of tasks for the log, without their arguments."""
    ids = ", ".join(task.task_id for task in tasks[:MAX_IDS])
    more = f" and {len(tasks) - MAX_IDS} more" if len(tasks) > MAX_IDS else ""
    return f"{len(tasks)} task{'s' if len(tasks) != 1 else ''} ({ids}{more})"


def _make_unqueued_response(
    transactions: Sequence[Transaction], tasks: Sequence[Task], error: BackendError
) -> Response:
    """Return the 503 that replaces a response whose tasks could not be queued, and log it."""
    log.error("could not queue %s of a request: %s", _listed(tasks), error)
    outcome = "so none of them will run. Please try again later."
    if any(transaction.is_settled_by_repeating for transaction in transactions):
        outcome = "or not with certainty. Please repeat the request with the same idempotency key."
    problem = {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": f"The background tasks of this request could not be queued, {outcome}",
    }
    response = make_json_response(503, PROBLEM_JSON, problem)
    response.headers.append(("Retry-After", str(max(1, ceil(error.retry_after)))))
    return response
