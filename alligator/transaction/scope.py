"""The block of a transaction, and the context variable by which tasks find it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from functools import wraps
from typing import Any, ParamSpec, Protocol, Self, TypeVar

from ..commits.committer import Delivers
from ..commits.deferred import DeferredTasks
from ..exceptions import AlligatorException
from ..options import Enqueues, merge_options
from ..tasks import Task

P = ParamSpec("P")
R = TypeVar("R")


class Owner(Enqueues[Task], Protocol):
    """What a transaction needs of its gator."""

    @property
    def delivery(self) -> Delivers: ...

    def check_shared(self, options: Mapping[str, Any]) -> dict[str, Any]: ...


class _Tasks:
    """Creates the tasks of a transaction when they are first asked for."""

    def __get__(self, transaction: "Scope", owner: object = None) -> DeferredTasks:
        # Atomic: two threads may start their first tasks at the same moment.
        transaction._first.append(DeferredTasks())
        tasks = transaction.__dict__["deferred"] = transaction._first[0]
        return tasks


class Scope:
    """The block in which tasks belong to a transaction, with its options.

    A transaction is its own scope: `Transaction` is the only subclass.
    """

    # Class attributes and `_Tasks` make a transaction that stays empty cheap: each request has one.
    deferred: _Tasks = _Tasks()
    """The tasks that it holds until its end."""
    _around: Any = None
    """The transaction, of any gator, whose block contains this one's block."""
    _outer: Any = None
    """The transaction that it joins: the nearest of the same gator."""
    _is_used = False
    _token: Token[Any] | None = None
    _callbacks: Sequence[Callable[[], object]] = ()

    def __init__(self, gator: Owner, options: Mapping[str, Any], request: Any = None) -> None:
        self.gator = gator
        self.request: Any = request
        """WSGI's environ, ASGI's scope or Django's request; see `telemetry.propagation`."""
        self.options: dict[str, Any] = {**options}
        self._first: list[DeferredTasks] = []
        """Its tasks, once they are asked for; only the first one counts."""

    def begin(self, around: Any) -> Self:
        """Begin it inside the transaction *around*, whatever the context contains; None for none.

        The context of a web request may be that of another one, which is still being served.
        """
        if self._is_used:
            raise AlligatorException(
                "This transaction was used already. A transaction is used once: call "
                "gator.transaction() again for another one."
            )
        self._is_used = True
        if around is not None:
            self._nest(around)
        self._token = _innermost.set(self)
        return self

    def _nest(self, around: Any) -> None:
        """Begin inside the transaction *around*: join the nearest one of the same gator."""
        if self.request is None:
            self.request = around.request
        while around is not None and around.deferred.closed:
            around = around._around  # keeps no reference to those that have ended
        if around is not None:
            self._around = around
            self._outer = around.of(self.gator)
        if self._outer is not None:
            self.deferred.outer = self._outer.deferred
            self.options = merge_options(self._outer.options, self.options)

    def leave(self) -> None:
        """End its block: tasks started from here on do not belong to it.

        Called before `commit` and `rollback`, so that it does not hold tasks that start meanwhile.
        """
        self.request = None  # may refer to this transaction: a cycle would need the collector
        if self._token is not None:
            try:  # noqa: SIM105 - suppress() costs more, on every request
                _innermost.reset(self._token)
            except ValueError:  # left in another context, whose variable stays as it is
                pass
            self._token = None

    @contextmanager
    def active(self) -> Iterator[Self]:
        """Make it the current transaction in the block, without beginning or ending it."""
        token = _innermost.set(self)
        try:
            yield self
        finally:
            _innermost.reset(token)

    def bind(self, func: Callable[P, R]) -> Callable[P, R]:
        """Wrap *func* so that tasks it starts belong to this transaction, in any thread."""

        @wraps(func)
        def bound(*args: P.args, **kwargs: P.kwargs) -> R:
            with self.active():
                return func(*args, **kwargs)

        return bound

    def of(self, gator: object) -> Self | None:
        """Return the nearest transaction of *gator*, from this one outwards, that has not ended."""
        transaction: Self | None = self
        while transaction is not None:
            if transaction.gator is gator and not transaction.deferred.closed:
                return transaction
            transaction = transaction._around
        return None

    def outermost(self) -> Self:
        """Return the outermost transaction around it, of any gator: that of the request."""
        transaction = self
        while transaction._around is not None:
            transaction = transaction._around
        return transaction

    @property
    def depth(self) -> int:
        """How many transactions, of any gators, are around it."""
        return 0 if self._around is None else int(self._around.depth) + 1

    def is_inside(self, other: "Scope") -> bool:
        """Return whether its block is inside that of *other*, or is the same."""
        transaction: Scope | None = self
        while transaction is not None and transaction is not other:
            transaction = transaction._around
        return transaction is not None


# Set once when a transaction begins. Later changes are made to the transaction, never to the
# variable, so that threads and coroutines with a copy of the context use the same transaction.
_innermost: ContextVar[Any] = ContextVar("alligator_transaction", default=None)

innermost: Callable[[], Any] = _innermost.get
"""Return the transaction, of any gator, that was begun last in this context; it may have ended."""


@contextmanager
def no_transaction() -> Iterator[None]:
    """Push tasks started in the block at once, even if the context contains a transaction."""
    token = _innermost.set(None)
    try:
        yield
    finally:
        with suppress(ValueError):  # left in another context, as when an event loop ends
            _innermost.reset(token)
