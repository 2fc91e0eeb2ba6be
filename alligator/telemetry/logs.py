"""Log lines in one format, for people and for programs."""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from time import gmtime, strftime
from typing import Any

from .._runtime.failures import EVENT
from .._runtime.log import log
from ..tasks import Task, current_task
from .propagation import trace_id

FIELDS = (
    "task_id",
    "task",
    "queue",
    "attempt",
    "seconds",
    "pause",
    "reason",
    "request_id",
    "trace_id",
)
"""The fields of a record besides its message, in the order of the line."""

MAX_VALUE = 300


class LineFormatter(logging.Formatter):
    """Formats ``time LEVEL message key=value …``. Line breaks in values are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the indented lines of a traceback."""
        moment = strftime("%Y-%m-%dT%H:%M:%S", gmtime(record.created))
        parts = [
            f"{moment}.{int(record.msecs):03d}Z",
            record.levelname,
            escape(getattr(record, EVENT, "") or record.getMessage()),
        ]
        parts += [
            f"{name}={_quoted(getattr(record, name))}"
            for name in FIELDS
            if getattr(record, name, None) not in (None, "")
        ]
        line = " ".join(parts)
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join(f"\n    {escape(part)}" for part in trace.splitlines())
        return line


class TaskFilter(logging.Filter):
    """Adds the fields of the current task to each record: task_id, task, queue, attempt and others.

    The fields of `OF_TASK` are set if they are missing; outside a task they are empty. Add it to
    handlers: the filters of a logger do not apply to records of its child loggers.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields to *record* and return True."""
        task = current_task()
        for name, value_of in OF_TASK.items():
            if not hasattr(record, name):
                setattr(record, name, "" if task is None else value_of(task))
        return True


OF_TASK: dict[str, Callable[[Task], object]] = {
    "task_id": lambda task: task.task_id,
    "task": lambda task: task.name,
    "queue": lambda task: task.queue_name or "",
    "attempt": lambda task: task.attempt,
    "request_id": lambda task: task.headers.get("request_id", ""),
    "trace_id": trace_id,
}
"""The fields that `TaskFilter` adds, and the functions that return them."""


def escape(text: str) -> str:
    r"""Return *text* with escapes for what is not printable, such as line breaks.

    >>> print(escape("two\nlines \x1b[31m"))
    two\nlines \x1b[31m
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def about(task: str, task_id: str, reason: str = "") -> str:
    r"""Return the task of a log message in one line, with *reason* if there is one.

    >>> print(about("shop.mail.send", "18ec", "OSError: no\nroute"))
    shop.mail.send 18ec: OSError: no\nroute
    """
    text = f"{task} {task_id}"
    return escape(f"{text}: {reason[:MAX_VALUE]}" if reason else text)


def _quoted(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)[:MAX_VALUE]
    if any(mark in text for mark in ' ="\\'):
        text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return escape(text)


EXPORTERS = ("opentelemetry", "sentry_sdk")
"""Packages whose handlers send records to a service; they do not replace a local log."""


class OwnHandler(logging.StreamHandler[Any]):
    """Writes records to stderr if no handler of the program shows them.

    This is checked for each record, because a module of tasks may configure logging at its import.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(LineFormatter())
        self.addFilter(TaskFilter())

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record*, also after a task has closed `sys.stderr`."""
        if is_shown_by_program():
            return
        if getattr(self.stream, "closed", False):
            with suppress(OSError):
                os.fstat(2)
                stream = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
                # setStream would flush the closed one, which raises.
                self.stream: Any = stream
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging calls it so
        """Write the error to stderr, and ignore a failure of that."""
        with suppress(Exception):
            super().handleError(record)


def is_shown_by_program() -> bool:
    """Return whether a handler of the program shows the records of Alligator."""
    logger: logging.Logger | None = log
    while logger is not None:
        if any(map(_shows, logger.handlers)):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def _shows(handler: logging.Handler) -> bool:
    package = type(handler).__module__.partition(".")[0]
    return not isinstance(handler, OwnHandler) and package not in EXPORTERS


def get_log(level: int | str = logging.INFO) -> logging.Logger:
    """Return Alligator's logger, set to *level*; it uses stderr if the program has no handler."""
    has_own = any(isinstance(handler, OwnHandler) for handler in log.handlers)
    if not has_own and not is_shown_by_program():
        log.addHandler(OwnHandler())
    log.setLevel(level)
    return log
