"""One log line for each thing that happens, which people and programs can both read."""

import logging
from collections.abc import Callable
from time import gmtime, strftime

from .tasks import Task, current_task
from .tracing import trace_id

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
"""What a record may carry besides its message, in the order of the line."""

MAX_VALUE = 300


class LineFormatter(logging.Formatter):
    """Write ``time LEVEL message key=value …``, and nothing that could pass for a second line."""

    def format(self, record: logging.LogRecord) -> str:
        """Make the line; a traceback follows it, each of its lines indented."""
        moment = strftime("%Y-%m-%dT%H:%M:%S", gmtime(record.created))
        parts = [
            f"{moment}.{int(record.msecs):03d}Z",
            record.levelname,
            escape(record.getMessage()),
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
    """Say in each record which task it was written in: task_id, task, queue, attempt and the others.

    Those of `OF_TASK` are set where they are missing, to nothing outside of a task. Put it on
    handlers: a logger's own filters are not asked about the records of the loggers below it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete *record*, and let it through."""
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
"""What `TaskFilter` says of a task, and how that is found out."""


def escape(text: str) -> str:
    r"""Replace what is not printable, line breaks and terminal controls above all.

    >>> print(escape("two\nlines \x1b[31m"))
    two\nlines \x1b[31m
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _quoted(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)[:MAX_VALUE]
    if any(mark in text for mark in ' ="\\'):
        text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return escape(text)


def get_log(level: int | str = logging.INFO) -> logging.Logger:
    """Return Alligator's logger at *level*, with a handler on stderr if the program set up none."""
    log = logging.getLogger("alligator")
    if not log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(LineFormatter())
        handler.addFilter(TaskFilter())
        log.addHandler(handler)
    log.setLevel(level)
    return log
