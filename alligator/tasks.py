"""One call to make later: how it is written as JSON, read back, and run."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import date
from functools import lru_cache
from logging import Logger, getLogger
from time import time, time_ns
from typing import Any, Self, TypeVar

from .constants import CANCELED, DEFERRED, FAILED, RETRYING, SUCCESS, WAITING
from .coroutines import finished
from .exceptions import (
    InvalidOption,
    MultipleDelayError,
    NotSerializable,
    PayloadError,
    UnknownCallableError,
)
from .importing import load, locate
from .options import (
    Hook,
    check_headers,
    check_hook,
    check_name,
    check_pauses,
    check_seconds,
    check_timeout,
    check_whole,
    to_bool,
    to_timestamp,
)

log: Logger = getLogger("alligator")

T = TypeVar("T")

MAX_BACKOFF = 3600.0
"""The longest pause between two attempts, in seconds, before jitter."""

_running: ContextVar["Task | None"] = ContextVar("alligator_running", default=None)
# What contains itself is found all the same: it is nested too deep.
_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)
_quote = json.encoder.encode_basestring_ascii
_decoder = json.JSONDecoder()

ENCODING_ERRORS = (TypeError, ValueError, RecursionError)
"""What the encoder raises for what is not JSON."""


def current_task() -> "Task | None":
    """Return the task that is running here, or None outside of one."""
    return _running.get()


class Task:
    """One call to make later, and how it is to be made.

    *retries* more attempts are made after a failed one, each after a pause. The pause is *backoff*
    seconds and doubles each time, up to an hour, give or take half of it so that tasks which failed
    together do not come back together; a sequence is taken as the pauses themselves (its last one
    repeats), 0 is no pause; None is a second.

    *delay_by* counts seconds from now; *delay_until* is a Unix timestamp or a datetime (UTC when
    naive) or a date (its first moment in UTC). *timeout* bounds one attempt, in seconds.

    The hooks are functions like the task's own, found by name in the worker: ``on_start(task)``,
    ``on_success(task, result)``, ``on_error(task, error)``. `on_error` fires at each failure and may
    change ``task.retries``. An `on_start` that raises fails the attempt; the others are only logged.

    *headers* is a small mapping of strings that travels with the task. *depends_on* travels too, as
    it did in Alligator 1.0, for the task to read: nothing waits for it.
    """

    def __init__(
        self,
        task_id: str | None = None,
        retries: int = 0,
        is_async: bool | str = True,
        on_start: Hook | None = None,
        on_success: Hook | None = None,
        on_error: Hook | None = None,
        depends_on: Sequence[str] | None = None,
        delay_by: float | None = None,
        delay_until: float | date | None = None,
        *,
        queue_name: str | None = None,
        backoff: float | Sequence[float] | None = None,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.task_id: str = new_id() if task_id is None else check_name("task_id", task_id)
        self.retries: int = check_whole("retries", retries) if retries else 0
        self.is_async: bool = is_async if is_async is True else to_bool("is_async", is_async)
        self.status: int = WAITING
        self.on_start: Hook | None = None if on_start is None else check_hook("on_start", on_start)
        self.on_success: Hook | None = (
            None if on_success is None else check_hook("on_success", on_success)
        )
        self.on_error: Hook | None = None if on_error is None else check_hook("on_error", on_error)
        self.depends_on = depends_on
        self.delay_until: float | None = None
        self.queue_name: str | None = queue_name and check_name("queue_name", queue_name)
        self.backoff: float | Sequence[float] = (
            1.0 if backoff is None else check_pauses("backoff", backoff)
        )
        self.timeout: float | None = None if timeout is None else check_timeout("timeout", timeout)
        self.headers: dict[str, str] = check_headers("headers", headers) if headers else {}
        self.attempt: int = 1
        """Which attempt this is, from 1; attempts that were lost with their worker count."""
        self.result: Any = None
        self.func: Callable[..., Any] | None = None
        self.func_args: Sequence[Any] = ()
        self.func_kwargs: Mapping[str, Any] = {}

        if delay_by is not None:
            if delay_until is not None:
                raise MultipleDelayError("Give delay_by or delay_until, not both.")
            self.delay_until = time() + check_seconds("delay_by", delay_by)
        elif delay_until is not None:
            self.delay_until = to_timestamp("delay_until", delay_until)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.task_id} {self.name}>"

    @property
    def name(self) -> str:
        """The function it calls, as ``package.module.name``."""
        if self.func is None:
            return "nothing"
        module = getattr(self.func, "__module__", "?")
        return f"{module}.{getattr(self.func, '__qualname__', type(self.func).__name__)}"

    def to_call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Say which function is to be called, and with what."""
        if not callable(func):
            raise InvalidOption(f"A task calls a function, not {func!r}.")
        self.func = func
        self.func_args = args
        self.func_kwargs = kwargs

    # Statuses, as hooks see them.

    def to_waiting(self) -> None:
        """Note that it is on the queue."""
        self.status = WAITING

    def to_deferred(self) -> None:
        """Note that it is held until its transaction commits."""
        self.status = DEFERRED

    def to_success(self) -> None:
        """Note that it is done."""
        self.status = SUCCESS

    def to_failed(self) -> None:
        """Note that its last attempt failed."""
        self.status = FAILED

    def to_canceled(self) -> None:
        """Note that it will not run."""
        self.status = CANCELED

    def to_retrying(self) -> None:
        """Note that it failed and will be tried again."""
        self.status = RETRYING

    # JSON. The keys are those of Alligator 1.0; further ones are there only when they say something.

    def serialize(self) -> str:
        """Write the task as JSON.

        Raises `NotImportable` when no worker could find the function or a hook, `NotSerializable`
        when an argument is not JSON.
        """
        called = _address(*locate(self._called()))
        options = self._options()
        try:
            # Put together here, for most of it is known: an encoder takes twice as long for all.
            data = (
                f'{{"task_id":{_quote(self.task_id)},"retries":{_encode_whole(self.retries)},'
                f'"is_async":{"true" if self.is_async else "false"},{called},'
                f'"args":{_encode(self.func_args) if self.func_args else "[]"},'
                f'"kwargs":{_encode(self.func_kwargs) if self.func_kwargs else "{}"},'
                f'"options":{_encode(options) if options else "{}"}'
            )
            if self.headers:
                data += f',"headers":{_encode(self.headers)}'
            if self.attempt > 1:
                data += f',"attempt":{_encode_whole(self.attempt)}'
            return f"{data}}}"
        except ENCODING_ERRORS as error:
            raise NotSerializable(self._culprit(error)) from error

    def _options(self) -> dict[str, Any]:
        """Collect what is not as usual."""
        options: dict[str, Any] = {}
        hooks = (self.on_start, self.on_success, self.on_error)
        if hooks != NO_HOOKS:
            for key, hook in zip(HOOKS, hooks, strict=True):
                if hook is not None:
                    module, name = locate(hook)
                    options[key] = {"module": module, "callable": name}
        if self.delay_until is not None:
            options["delay_until"] = self.delay_until
        if self.backoff != 1.0:
            options["backoff"] = self.backoff
        if self.timeout is not None:
            options["timeout"] = self.timeout
        if self.depends_on is not None:
            options["depends_on"] = list(self.depends_on)
        return options

    @classmethod
    def deserialize(cls, data: str) -> Self:
        """Read a task from JSON.

        Raises `PayloadError` when it is not a task, or one whose function cannot be found here.
        """
        try:
            fields = _decode(data)
            task = cls(
                task_id=fields["task_id"] or "",
                retries=fields["retries"],
                is_async=fields["is_async"],
            )
            task.func = _function(fields)
            task.func_args = _checked(fields.get("args", []), list)
            task.func_kwargs = _checked(fields.get("kwargs", {}), dict)
            if "attempt" in fields:
                task.attempt = max(1, check_whole("attempt", fields["attempt"]))
            if "headers" in fields:
                task.headers = check_headers("headers", fields["headers"])
            if fields.get("options"):
                task._read_options(fields["options"])
        except PayloadError:
            raise
        except Exception as error:  # garbage may be wrong in any way
            raise PayloadError(f"this is not a task: {type(error).__name__}: {error}") from error
        return task

    def _read_options(self, options: Mapping[str, Any]) -> None:
        self.depends_on = options.get("depends_on")
        self.backoff = check_pauses("backoff", options.get("backoff", 1.0))
        if options.get("timeout") is not None:
            self.timeout = check_timeout("timeout", options["timeout"])
        if options.get("delay_until") is not None:
            self.delay_until = to_timestamp("delay_until", options["delay_until"])
        for key in HOOKS:
            if options.get(key):
                setattr(self, key, _function(options[key]))

    def round_trip(self) -> None:
        """Give the arguments the form they would have in a worker, for a run in this process."""
        try:
            data = _encode([self.func_args, self.func_kwargs])
        except ENCODING_ERRORS as error:
            raise NotSerializable(self._culprit(error)) from error
        self.func_args, self.func_kwargs = _decode(data)

    def _called(self) -> Callable[..., Any]:
        if self.func is None:
            raise InvalidOption("The task has nothing to call yet: use task.to_call(func, ...).")
        return self.func

    def _culprit(self, error: Exception) -> str:
        """Name the argument that is not JSON."""
        from inspect import signature  # only who errs pays for it

        try:
            names = list(signature(self._called()).parameters)
        except (TypeError, ValueError):
            names = []
        names += [f"argument {number + 1}" for number in range(len(names), len(self.func_args))]
        for name, value in [*zip(names, self.func_args, strict=False), *self.func_kwargs.items()]:
            try:
                _encode(value)
            except ENCODING_ERRORS:
                return (
                    f"{name!r} of {self.name} cannot be written as JSON: {type(value).__name__}, "
                    f"{error}. Pass plain data, an id for instance, and look the rest up in the task."
                )
        return f"{self.name} cannot be written as JSON: {error}"

    # Running.

    def run(self) -> Self:
        """Make one attempt, hooks included, and return the task with its `result`.

        Raises what the function raised, after `on_error` has been told.
        """
        token = _running.set(self)
        try:
            try:
                if self.on_start is not None:
                    finished(self.on_start(self))
                self.result = self._call()
            except KeyboardInterrupt:
                raise  # meant for the program, not for the task
            except BaseException as error:  # a task that calls sys.exit() has failed, no more
                self.to_failed()
                self._tell(self.on_error, error)
                raise
            self.to_success()
            self._tell(self.on_success, self.result)
            return self
        finally:
            _running.reset(token)

    def fail(self, error: BaseException) -> None:
        """Note a failure that `run` has not seen, and tell `on_error`."""
        token = _running.set(self)
        try:
            self.to_failed()
            self._tell(self.on_error, error)
        finally:
            _running.reset(token)

    def _call(self) -> Any:
        if self.timeout is None:
            result = (self.func or self._called())(*self.func_args, **self.func_kwargs)
        else:
            from .timeouts import limit  # ctypes: only tasks with a timeout pay for it

            with limit(self.timeout):
                result = self._called()(*self.func_args, **self.func_kwargs)
        return finished(result, self.timeout)

    def next_pause(self) -> float:
        """Choose the seconds to wait before the next attempt."""
        if not isinstance(self.backoff, int | float):
            return self.backoff[min(self.attempt, len(self.backoff)) - 1] if self.backoff else 0.0
        from random import random  # a program that only starts tasks does not pay for it

        # 2.0 ** 64 is far beyond the cap: large attempt numbers must not overflow.
        pause = min(self.backoff * 2.0 ** min(self.attempt - 1, 64), MAX_BACKOFF)
        return pause * (0.5 + random())  # noqa: S311 - jitter, not a secret

    def _tell(self, hook: Hook | None, about: object) -> None:
        if hook is None:
            return
        try:
            finished(hook(self, about))
        except KeyboardInterrupt:
            raise
        except BaseException:
            # What became of the task is settled: a hook can neither undo nor repeat it.
            log.exception("a hook of %r failed", self)


HOOKS = ("on_start", "on_success", "on_error")
NO_HOOKS = (None, None, None)


def name_in(data: str) -> str:
    """Read the name of the function out of a payload, signed or not, importing nothing.

    >>> name_in('{"module": "shop.mail", "callable": "send"}'), name_in("garbage")
    ('shop.mail.send', '?')
    """
    try:
        fields = json.loads(data[data.index("{") :])
        return f"{fields['module']}.{fields['callable']}"
    except (ValueError, LookupError, TypeError, RecursionError):
        return "?"


def timeout_in(data: str) -> float | None:
    """Read the timeout out of a payload, signed or not, importing nothing.

    >>> timeout_in('{"options": {"timeout": 2.5}}'), timeout_in("{}"), timeout_in("garbage")
    (2.5, None, None)
    """
    try:
        fields = json.loads(data[data.index("{") :])
        return check_timeout("timeout", fields["options"]["timeout"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def new_id() -> str:
    """Make the id of a task: 32 hexadecimal digits, of which the last 16 are random.

    The first are the time, so that ids of tasks which come together are near each other: an index of
    them then has a few pages to write for many tasks, not one for each.
    """
    return f"{time_ns():x}{os.urandom(8).hex()}"


def make_encode() -> Callable[[Any], str]:
    """Make what writes JSON: the encoder of `json` with its parts put together once, not each time."""
    try:
        make = json.encoder.c_make_encoder  # type: ignore[attr-defined]
        chunks = make(None, _encoder.default, _quote, None, ":", ",", False, False, False)
    except (AttributeError, TypeError):  # its inside may change, and is not CPython's everywhere
        return _encoder.encode
    return lambda value: "".join(chunks(value, 0))


_encode = make_encode()


def _decode(data: str) -> Any:
    found, end = _decoder.raw_decode(data)
    # What the decoder does besides is look for blanks around it, and there are none around ours.
    return found if end == len(data) else _decoder.decode(data)


def _encode_whole(number: int) -> str:
    return str(number) if type(number) is int else _encode(number)  # a hook may set anything


@lru_cache(maxsize=4096)
def _address(module: str, name: str) -> str:
    """Write down where a function is found."""
    return _encode({"module": module, "callable": name})[1:-1]


def _checked(value: T, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{kind.__name__} expected, not {value!r:.80}")
    return value


def _function(fields: Mapping[str, str]) -> Callable[..., Any]:
    found = load(fields["module"], fields["callable"])
    if not callable(found):
        raise UnknownCallableError(f"{fields['module']}.{fields['callable']} is not a function")
    func: Callable[..., Any] = found
    return func
