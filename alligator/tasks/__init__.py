"""A task: a call to make later, its payload as JSON, and its run."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from copy import copy
from datetime import date
from typing import Any, Literal, Self

from .._runtime import forks
from .._runtime.coroutines import await_result
from .._runtime.exits import exit_if_forked
from .._runtime.ids import new_id as new_id
from .._runtime.interrupts import boundaries
from .._runtime.log import log
from ..backends.unique import Unique
from ..constants import CANCELED, DEFERRED, DELAYED, DUPLICATE, FAILED, RETRYING, SUCCESS, WAITING
from ..exceptions import InvalidOption, NotRunnable, PayloadError
from ..options import (
    CHECKS,
    ErrorTypes,
    Hook,
    Priority,
    ResultHook,
    Seconds,
    StartHook,
    check_headers,
    check_name,
    check_whole,
    to_bool,
)
from ..payload import envelope
from ..payload.arguments import check_call, encoding_error, lower, restore
from ..payload.batch import Batch
from ..payload.encoding import ENCODING_ERRORS, encode
from ..payload.envelope import NO_OPTIONS, Envelope
from ..payload.functions import callee_of, find_function
from .decisions import is_retried, pause_before_retry, snooze_in
from .stored_options import (
    due_at,
    expiry_after,
    prepare_options_of_retry,
    read_options,
    to_limit_key,
    to_unique,
    write_options,
)

running_in_context: ContextVar["Task | None"] = ContextVar("alligator_running", default=None)
lifespan_state: ContextVar[Any] = ContextVar("alligator_lifespan_state", default=None)

CHECKED = (
    *("retries", "on_start", "on_success", "on_error", "queue_name"),
    *("backoff", "timeout", "retry_on", "give_up_on", "priority"),
)
"""The options of a task that `CHECKS` checks."""
NOT_GIVEN = (None,) * len(CHECKED)


def current_task() -> "Task | None":
    """Return the task that runs in this context; None outside a task."""
    return running_in_context.get()


class Task:
    """A call to make later, and its options.

    *retries* is how often a failed task is tried again. Each attempt follows after a pause: *backoff*
    seconds at first, doubled each time, at most an hour, with 50% jitter. A sequence as *backoff* gives
    the pauses themselves, and its last one repeats. 0 means no pause, and None means one second.

    *delay_by* is a number of seconds from now. *delay_until* is a Unix timestamp, a datetime (local
    time if naive) or a date (its midnight in local time). *timeout* limits one attempt, in seconds.
    A timedelta is accepted wherever seconds are. *expires*, seconds from the call, a datetime or a
    date, is when the task becomes a dead letter if it has not begun. *priority*, "high", "normal" or
    "low", decides which of the ready tasks of a queue run first.

    *unique* is a key: while another task of the queue holds it, this one is not queued, but gets the
    status `DUPLICATE` and the id of the other. The key is free when its task starts, or with
    *unique_until* ``"done"`` when it has succeeded, but not before *unique_for* seconds have passed. A
    task that is dead or was canceled holds no key. With *replace*, it replaces a task that waits.

    Tasks of one queue that have different keys as *limit_key*, such as a tenant, take turns, one task
    each. `Gator.limit` may limit how many tasks of a key run at one time, or begin.

    *retry_on* are the exceptions after which the task is retried, and *give_up_on* those after which
    it is not: classes, or their names, as in ``(OSError, "shop.errors.Busy")``. Subclasses count. The
    task itself may raise `Snooze` or `GiveUp`.

    The worker imports the hooks by name, like the function: ``on_start(task)``, ``on_success(task,
    result)``, ``on_error(task, error)``. `on_error` follows each failed attempt and may change
    ``task.retries``. If `on_start` raises, the attempt fails; exceptions of the others are only logged.

    *headers* is a small mapping of strings that is stored with the task. So is *depends_on*, as in
    Alligator 1.0, for the task to read; the task does not wait for those ids.
    """

    unique: Unique | None = None  # a worker does not know it
    limit_key: str | None = None  # nor this
    batch: Batch | None = None  # what a follow-up has waited for, see `Transaction.then`
    canceled: bool = False  # whether it was canceled while it ran; its function may ask
    was_running: bool = False  # whether a worker had it when `Gator.cancel` canceled it

    def __init__(
        self,
        task_id: str | None = None,
        retries: int | None = None,
        is_async: bool | str = True,
        on_start: StartHook | None = None,
        on_success: ResultHook | None = None,
        on_error: ResultHook | None = None,
        depends_on: Sequence[str] | None = None,
        delay_by: Seconds | None = None,
        delay_until: float | date | None = None,
        *,
        queue_name: str | None = None,
        backoff: Seconds | Sequence[Seconds] | None = None,
        timeout: Seconds | None = None,
        headers: Mapping[str, str] | None = None,
        retry_on: ErrorTypes | None = None,
        give_up_on: ErrorTypes | None = None,
        expires: Seconds | date | None = None,
        priority: Priority | None = None,
        unique: str | None = None,
        unique_until: Literal["start", "done"] | None = None,
        unique_for: Seconds | None = None,
        replace: bool = False,
        limit_key: str | None = None,
    ) -> None:
        self.task_id: str = new_id() if task_id is None else check_name("task_id", task_id)
        self.retries: int = 0
        self.is_async: bool = is_async if is_async is True else to_bool("is_async", is_async)
        self.status: int = WAITING
        self.on_start: Hook | None = None
        self.on_success: Hook | None = None
        self.on_error: Hook | None = None
        self.depends_on: Sequence[str] | None = depends_on
        self.delay_until: float | None = None
        self.expires: float | None = None
        self.queue_name: str | None = None
        self.backoff: float | Sequence[float] = 1.0
        self.timeout: float | None = None
        self.headers: dict[str, str] = check_headers("headers", headers) if headers else {}
        self.retry_on: list[str] | None = None
        self.give_up_on: list[str] | None = None
        self.priority: Priority = "normal"
        self.attempt: int = 1
        """The number of this attempt, from 1; attempts that were lost with their worker count."""
        self.last_error: str = ""
        """The error of the previous attempt, shortened; empty at the first."""
        self.result: Any = None
        self.func: Callable[..., Any] | None = None
        self.func_args: Sequence[Any] = []  # a tuple after `to_call`
        self.func_kwargs: Mapping[str, Any] = {}
        self._original: tuple[Callable[..., Any] | None, str] | None = None
        """The function and the payload that the call was read from; a retry is built from it."""
        self._is_retry: bool = False
        self._found: tuple[str, str] | None = None  # the module and the name in its payload

        given = (
            *(retries, on_start, on_success, on_error, queue_name or None),
            *(backoff, timeout, retry_on, give_up_on, priority),
        )
        if given != NOT_GIVEN:
            for name, value in zip(CHECKED, given, strict=True):
                if value is not None:
                    setattr(self, name, CHECKS[name](name, value))
        if delay_by is not None or delay_until is not None:
            self.delay_until = due_at(delay_by, delay_until)
        if expires is not None:
            self.expires = expiry_after(expires, self.delay_until)
        if unique is not None or unique_until is not None or unique_for is not None or replace:
            self.unique = to_unique(unique, unique_until, unique_for, replace)
        if limit_key is not None:
            self.limit_key = to_limit_key(limit_key)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.task_id} {self.name}>"

    @property
    def state(self) -> Any:
        """What the `lifespan` of its gator has yielded in this worker; None outside of workers."""
        return lifespan_state.get()

    @property
    def name(self) -> str:
        """The name of its function, as ``package.module.name``; a payload may have an alias."""
        if self._found or self.func is None:
            return ".".join(self._found or ["nothing"])
        module = getattr(self.func, "__module__", "?")
        return f"{module}.{getattr(self.func, '__qualname__', type(self.func).__name__)}"

    def to_call(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Set the function to call, and its arguments.

        Raises `WrongArguments` if the function does not take these arguments, and `InvalidOption` if
        *func* is not a function, or is a generator function, whose call would run nothing.
        """
        callee = callee_of(func)
        callee.check(args, kwargs)
        self.func = callee.func
        self.func_args = args
        self.func_kwargs = kwargs
        self._original = self._found = None
        self._is_retry = False

    def to_waiting(self) -> None:
        """Set its status: it is on the queue."""
        self.status = WAITING

    def to_duplicate(self) -> None:
        """Set its status: it was not queued; its id is that of a task that is there already."""
        self.status = DUPLICATE

    def to_deferred(self) -> None:
        """Set its status: it is held until its transaction commits."""
        self.status = DEFERRED

    def to_success(self) -> None:
        """Set its status: it succeeded."""
        self.status = SUCCESS

    def to_failed(self) -> None:
        """Set its status: its last attempt failed."""
        self.status = FAILED

    def to_delayed(self) -> None:
        """Set its status: it has asked to run again later."""
        self.status = DELAYED

    def to_canceled(self) -> None:
        """Set its status: it will not run."""
        self.status = CANCELED

    def to_retrying(self) -> None:
        """Set its status: it failed and will be retried."""
        self.status = RETRYING

    # Its payload.

    def serialize(self) -> str:
        """Return the task as JSON.

        Raises `NotImportable` if a worker could not import the function or a hook, and
        `NotSerializable` if an argument would not arrive as it was passed.
        """
        func = self.func or self._called()
        before = self._original[1] if self._is_retry and self._original else None
        module, name = (before and self._found) or callee_of(func).location
        args, kwargs, typed = (
            lower(func, self.func_args, self.func_kwargs) if before is None else ([], {}, None)
        )
        written = Envelope(
            *(self.task_id, self.retries, bool(self.is_async), module, name, args, kwargs),
            *(write_options(self), self.headers, self.attempt, self.last_error, None, typed),
        )
        try:
            if before is None:
                return encode(written)
            return envelope.rewrite(written, before)
        except ENCODING_ERRORS as error:
            raise encoding_error(func, args, kwargs, error) from error

    @classmethod
    def deserialize(cls, data: str) -> Self:
        """Return the task that *data* describes as JSON.

        Raises `PayloadError` if it is not a task, if its function cannot be imported, or if the
        annotations of the function do not restore the arguments.
        """
        found = envelope.read(data)
        try:
            task = cls(task_id=found.task_id, retries=found.retries, is_async=found.is_async)
            task.func = find_function(found.module, found.callable)
            task.func_args, task.func_kwargs = restore(task.func, found)
            task._original, task._found = (task.func, data), found.location
            if found.attempt != 1:
                task.attempt = max(1, check_whole("attempt", found.attempt))
            task.last_error = found.error
            task.headers = found.headers
            if found.options is not None and found.options != NO_OPTIONS:
                read_options(task, found.options)
        except PayloadError:
            raise
        except Exception as error:  # invalid data may raise anything
            raise PayloadError(f"this is not a task: {type(error).__name__}: {error}") from error
        return task

    def round_trip(self) -> None:
        """Convert the arguments to JSON and back, as for a worker, for a run in this process."""
        func = self._called()
        args, kwargs, typed = lower(func, self.func_args, self.func_kwargs)
        try:
            self._original = func, envelope.write_call(args, kwargs, typed)
        except ENCODING_ERRORS as error:
            raise encoding_error(func, args, kwargs, error) from error
        self.restore_call()

    def check_call(self) -> None:
        """Raise `IncompatibleArguments` if the function does not take the arguments."""
        if self.func is not None:
            check_call(self.func, self.func_args, self.func_kwargs)

    def restore_call(self) -> None:
        """Restore the call as it was serialized: the task may have changed it while it ran."""
        if self._original is not None:
            self.func, data = self._original
            self.func_args, self.func_kwargs = restore(self._called(), envelope.read(data))

    def for_retry(self, attempt: int) -> Self:
        """Return the task to write for its next attempt, with one retry less.

        Its call is the one that was read. Its options are the current ones, because a hook may have
        changed them; raises `InvalidOption` if they are invalid now.
        """
        again = copy(self)
        again.retries = check_whole("retries", self.retries) - 1
        again.attempt = attempt
        prepare_options_of_retry(again)
        again.restore_call()
        again._is_retry = True
        return again

    def _called(self) -> Callable[..., Any]:
        if self.func is None:
            raise InvalidOption("The task has no function yet: use task.to_call(func, ...).")
        return self.func

    # Its run.

    def run(self) -> Self:
        """Make one attempt, hooks included, and return the task with its `result`.

        Raises what the function raised, after the call of `on_error`.
        """
        token = running_in_context.set(self)
        try:
            try:
                if self.on_start is not None:
                    await_result(self.on_start(self))
                pid = forks.pid
                try:
                    self.result = self._call()
                finally:
                    if forks.pid != pid:
                        exit_if_forked(pid)
            except (KeyboardInterrupt, NotRunnable):
                raise  # the program ends, or the function was not called; the task has not failed
            except BaseException as error:  # also SystemExit: a task that calls it has failed
                if snooze_in(error) is not None:
                    self.to_delayed()
                    raise
                self.to_failed()
                self._call_hook(self.on_error, error)
                raise
            self.to_success()
            if self.on_success is not None:
                self._call_hook(self.on_success, self.result)
            return self
        finally:
            running_in_context.reset(token)

    def fail(self, error: BaseException) -> None:
        """Record a failure that `run` did not see, and call `on_error`."""
        token = running_in_context.set(self)
        try:
            self.to_failed()
            self._call_hook(self.on_error, error)
        finally:
            running_in_context.reset(token)

    def _call(self) -> Any:
        if self.timeout is None:
            result = (self.func or self._called())(*self.func_args, **self.func_kwargs)
        else:
            from .._runtime.timeouts import call  # loads ctypes

            result = call(self.timeout, self._called(), self.func_args, self.func_kwargs)
        return None if result is None else await_result(result, self.timeout)

    def is_retried(self, error: BaseException) -> bool:
        """Return whether it has an attempt left after *error*, and its options allow that."""
        return self.retries > 0 and is_retried(error, self.retry_on, self.give_up_on)

    def next_pause(self) -> float:
        """Return the pause before the next attempt, in seconds, with jitter."""
        return pause_before_retry(self.attempt, self.backoff)

    def _call_hook(self, hook: Hook | None, argument: object) -> None:
        if hook is None:
            return
        try:
            await_result(hook(self, argument))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # The outcome of the task is final: a hook cannot change it.
            log.error("a hook of %r failed; the task keeps its outcome", self, exc_info=error)


boundaries.add(Task._call.__code__)
