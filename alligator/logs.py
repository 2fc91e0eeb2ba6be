"""One log line for each thing that happens, which people and programs can both read."""

import logging
from time import gmtime, strftime

FIELDS = ("task_id", "task", "queue", "attempt", "seconds", "pause", "reason", "request_id")
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
        log.addHandler(handler)
    log.setLevel(level)
    return log
