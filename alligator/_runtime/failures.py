"""Describe exceptions, also those that Python cannot format."""

from traceback import format_exception, format_tb

from .interrupts import OUR_PACKAGES, package_of

EVENT = "alligator_event"
"""The field of a log record that holds the name of its event, such as ``dead``.

Formatters that show the other fields use it in place of the message, which repeats their values.
"""


CALLERS = OUR_PACKAGES | {"asyncio", "concurrent", "threading"}
"""The packages through which Alligator calls a task's function."""


class UnprintableError(Exception):
    """Replaces, in a log line, an exception that Python cannot format."""


def describe(error: BaseException) -> str:
    """Return the type and the message of *error*, as a text that every store can encode."""
    try:
        return storable(f"{type(error).__name__}: {error}")
    except BaseException:  # __str__ is code of the project: it may raise or exit
        return type(error).__name__


def traceback_of(error: BaseException) -> str:
    """Return the traceback of *error*; only its frames if Python cannot format the rest."""
    try:
        return storable("".join(format_exception(error)))
    except BaseException:  # __getattr__, __notes__ and others are code of the project, too
        lines = ["Traceback (most recent call last):\n", *_frames(error), describe(error), "\n"]
        return storable("".join(lines))


def printable(error: BaseException) -> BaseException:
    """Return *error*, or an `UnprintableError` if Python cannot format it."""
    try:
        format_exception(error)
    except BaseException:
        return UnprintableError(describe(error)).with_traceback(error.__traceback__)
    return error


def hide_our_frames(error: BaseException) -> None:
    """Make the traceback of *error*, and of its cause, begin with the code that was called."""
    for each in (error, error.__cause__):
        trace = each.__traceback__ if each is not None else None
        while trace is not None and package_of(trace.tb_frame) in CALLERS:
            trace = trace.tb_next
        if each is not None and trace is not None:  # None: it was raised by Alligator itself
            each.__traceback__ = trace


def storable(text: str) -> str:
    """Return *text* with surrogates escaped: no store can encode them, and file names may have them."""
    return text.encode("utf-8", "backslashreplace").decode()


def _frames(error: BaseException) -> list[str]:
    try:
        return format_tb(error.__traceback__)
    except BaseException:
        return []
