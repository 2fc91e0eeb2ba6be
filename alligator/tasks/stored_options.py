"""The options of a task as a store keeps them: in its payload, and in its message."""

from collections.abc import Sequence
from datetime import date
from time import time
from typing import Any, Protocol

from ..backends.base import Client
from ..backends.limits import EACH
from ..backends.unique import Unique
from ..constants import LEVELS
from ..exceptions import InvalidOption, MultipleDelayError, NotImportable
from ..options import (
    Priority,
    Seconds,
    check_errors,
    check_headers,
    check_name,
    check_pauses,
    check_priority,
    check_seconds,
    check_shortest,
    check_timeout,
    check_until,
    to_bool,
    to_expiry,
    to_timestamp,
)
from ..payload.arguments import check_plain
from ..payload.envelope import HOOKS, NO_OPTIONS, EnvelopeOptions, FunctionName
from ..payload.functions import callee_of, find_function

NOTHING = (None,) * 11

Routing = tuple[int, Unique | None, bool, str | None]
"""The fields of a message after its delay: priority, unique key, whether it follows, limit key."""

NO_ROUTING: Routing = (0, None, False, None)


class HasOptions(Protocol):
    """A task, as far as this module is concerned."""

    on_start: Any
    on_success: Any
    on_error: Any
    delay_until: float | None
    backoff: float | Sequence[float]
    timeout: float | None
    depends_on: Sequence[str] | None
    retry_on: list[str] | None
    give_up_on: list[str] | None
    expires: float | None
    priority: Priority
    unique: Unique | None
    limit_key: str | None
    headers: dict[str, str]


# From a call.


def due_at(delay_by: Seconds | None, delay_until: float | date | None) -> float | None:
    """Return when a task with these options is due, as a Unix timestamp; None for at once."""
    if delay_by is None:
        return None if delay_until is None else to_timestamp("delay_until", delay_until)
    if delay_until is not None:
        raise MultipleDelayError("Give delay_by or delay_until, not both.")
    return time() + check_seconds("delay_by", delay_by)


def expiry_after(expires: Seconds | date, delay_until: float | None) -> float:
    """Return when a task expires; raise `InvalidOption` if it is due only later."""
    moment = to_expiry("expires", expires)
    if delay_until is not None and moment <= delay_until:
        raise InvalidOption(
            f"expires is {expires!r:.80}, but the task is due only later, so it would never run."
        )
    return moment


def to_unique(
    unique: str | None,
    unique_until: str | None,
    unique_for: Seconds | None,
    replace: object = False,
) -> Unique | None:
    """Return the unique key that these options describe; None for none.

    >>> to_unique("invoice-7", "done", 60)
    Unique(key='invoice-7', until_start=False, seconds=60.0)
    """
    if unique is None:
        if unique_until is None and unique_for is None and not replace:
            return None
        raise InvalidOption("unique_until, unique_for and replace need a key: give unique=, too.")
    if to_bool("replace", replace):
        if unique_until is not None or unique_for is not None:
            raise InvalidOption(
                "replace=True excludes unique_until and unique_for: a task that runs cannot be "
                "replaced, so a key that it holds would discard the call."
            )
        return Unique(check_name("unique", unique), replace=True)
    until = "start" if unique_until is None else check_until("unique_until", unique_until)
    seconds = 0.0 if unique_for is None else check_shortest("unique_for", unique_for)
    return Unique(check_name("unique", unique), until == "start", seconds)


def to_limit_key(limit_key: str) -> str:
    """Return a limit key: a name that is not `EACH`."""
    if limit_key == EACH:
        raise InvalidOption(
            f'limit_key of a task cannot be "{EACH}": in gator.limit() this means each key. Name one '
            "key."
        )
    return check_name("limit_key", limit_key)


# In its payload.


def write_options(task: HasOptions) -> EnvelopeOptions:
    """Return the options that differ from their defaults; raise `NotImportable` for a hook or error."""
    backoff = None if task.backoff == 1.0 else task.backoff
    priority = None if task.priority == "normal" else check_priority("priority", task.priority)
    values = (
        task.on_start,
        task.on_success,
        task.on_error,
        task.delay_until,
        backoff,
        task.timeout,
        task.depends_on,
        task.retry_on,
        task.give_up_on,
        task.expires,
        priority,
    )
    if values == NOTHING:
        return NO_OPTIONS
    options = EnvelopeOptions(*values)
    for name in HOOKS:
        if (hook := getattr(task, name)) is not None:
            setattr(options, name, FunctionName(*callee_of(hook).location))
    if task.depends_on is not None:
        options.depends_on = list(task.depends_on)
        check_plain("depends_on", options.depends_on)
    for name in (*(task.retry_on or ()), *(task.give_up_on or ())):
        _check_importable(name)
    return options


def read_options(task: HasOptions, options: EnvelopeOptions) -> None:
    """Set the options of *task* to those of its payload."""
    task.depends_on = options.depends_on
    if options.backoff is not None:
        task.backoff = check_pauses("backoff", options.backoff)
    if options.timeout is not None:
        task.timeout = check_timeout("timeout", options.timeout)
    if options.delay_until is not None:
        task.delay_until = to_timestamp("delay_until", options.delay_until)
    if options.retry_on is not None:
        task.retry_on = check_errors("retry_on", options.retry_on)
    if options.give_up_on is not None:
        task.give_up_on = check_errors("give_up_on", options.give_up_on)
    if options.expires is not None:
        task.expires = check_seconds("expires", options.expires)
    if options.priority is not None:
        task.priority = check_priority("priority", options.priority)
    for key, hook in options.hooks.items():
        setattr(task, key, find_function(hook.module, hook.callable))


def prepare_options_of_retry(task: HasOptions) -> None:
    """Check the options of *task*, which it or a hook may have changed; it has begun by now."""
    task.backoff = check_pauses("backoff", task.backoff)
    task.timeout = None if task.timeout is None else check_timeout("timeout", task.timeout)
    task.headers = check_headers("headers", task.headers)
    if task.retry_on is not None:
        task.retry_on = check_errors("retry_on", task.retry_on)
    if task.give_up_on is not None:
        task.give_up_on = check_errors("give_up_on", task.give_up_on)
    task.expires = None


def _check_importable(name: str) -> None:
    module, _, rest = name.partition(".")
    if module == "__main__":
        raise NotImportable(
            f"{rest} was defined in the program that was started (__main__), which has another name "
            "in a worker. Move it to a module of its own and import it from there."
        )


# In its message.


def routing_of(task: HasOptions, client: Client, *, follows: bool = False) -> Routing:
    """Return the routing of *task*; raise `InvalidOption` if the store of *client* has no such thing."""
    priority, unique, limit_key = task.priority, task.unique, task.limit_key
    if priority == "normal" and unique is None and limit_key is None and not follows:
        return NO_ROUTING
    level = LEVELS[check_priority("priority", priority)]
    store = client.address
    if level and not client.has_priorities:
        raise InvalidOption(
            f"priority is {priority}, but {store} has no priorities. Use several queues: a worker "
            "with --queue urgent,all takes tasks from the first that has some."
        )
    if unique is not None and not client.keeps_keys:
        raise InvalidOption(
            f"unique is not possible here: {store} cannot tell whether a task with the key waits or "
            "runs. Use another store, or let the task check whether its work is done."
        )
    if follows and not client.keeps_follow_ups:
        raise InvalidOption(
            f"then() is not possible here: {store} cannot tell when all tasks of a commit are done. "
            "Use another store, or let the tasks count in the database of the application."
        )
    if limit_key is not None and not client.keeps_limit_keys:
        raise InvalidOption(
            f"limit_key is not possible here: {store} has no turns and limits for keys. Use another "
            "store, or a queue for each key."
        )
    return level, unique, follows, limit_key
