"""The options of a task as its payload holds them."""

from collections.abc import Sequence
from typing import Any, Protocol

from ..backends.base import Client
from ..constants import LEVELS
from ..exceptions import InvalidOption, NotImportable
from ..options import (
    Priority,
    check_errors,
    check_headers,
    check_pauses,
    check_priority,
    check_seconds,
    check_timeout,
    to_timestamp,
)
from ..payload.arguments import check_plain
from ..payload.envelope import HOOKS, NO_OPTIONS, EnvelopeOptions, FunctionName
from ..payload.functions import callee_of, find_function

NOTHING = (None,) * 11


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
    headers: dict[str, str]


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


def level_of(priority: str, client: Client) -> int:
    """Return the level by which the store orders a task; raise `InvalidOption` if it orders none."""
    level = LEVELS[check_priority("priority", priority)]
    if level and not client.has_priorities:
        raise InvalidOption(
            f"priority is {priority}, but {client.address} has no priorities. Use several queues: a "
            "worker with --queue urgent,all takes tasks from the first that has some."
        )
    return level


def _check_importable(name: str) -> None:
    module, _, rest = name.partition(".")
    if module == "__main__":
        raise NotImportable(
            f"{rest} was defined in the program that was started (__main__), which has another name "
            "in a worker. Move it to a module of its own and import it from there."
        )
