"""Interrupt a task that has exceeded its timeout, but only in its own code.

An exception raised from another thread can arrive between any two steps. In a store, a commit or the
handling of a log record it could leave a lock held, or a transaction open. So it is raised only
while no code of that kind is running; where such code begins, `checkpoint` raises it instead.
"""

import logging
import sys
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from types import CodeType, FrameType
from typing import Any

OUR_PACKAGES = frozenset(
    [
        "alligator",
        "asgi_alligator",
        "django_alligator",
        "flask_alligator",
        "pytest_alligator",
        "sqlalchemy_alligator",
        "starlette_alligator",
        "wsgi_alligator",
    ]
)

NEVER_INTERRUPTED = OUR_PACKAGES | {"logging", "importlib", "_frozen_importlib"}
"""Packages whose code, and whatever it calls, is never interrupted, because it may hold locks."""


class Interrupt(BaseException):
    """Interrupts a task that has exceeded its timeout, which then fails with `TaskTimeout`.

    It is neither an `Exception` nor an `OSError`: a task that handles the errors of its work must
    not handle this as one of them.
    """

    def __str__(self) -> str:
        return super().__str__() or "the task exceeded its timeout"


boundaries: set[CodeType] = set()
"""The functions of Alligator that call a task's function: what they call is the task's own code."""

due: set[int] = set()
"""The threads whose task has exceeded its timeout and must be interrupted at a `checkpoint`."""

interrupted: dict[int, float] = {}
"""The threads that were interrupted, and when, on the monotonic clock."""


def is_own(frame: FrameType | None) -> bool:
    """Return whether *frame* runs code of a task, or code that the task called directly."""
    while frame is not None:
        if package_of(frame) in NEVER_INTERRUPTED:
            return False
        frame = frame.f_back
        if frame is not None and frame.f_code in boundaries:
            return True
    return False


def checkpoint(*through: str) -> None:
    """Raise `Interrupt` if the task of this thread has exceeded its timeout.

    It raises only if the task's own code called Alligator, directly or by way of the packages
    *through*. Call it before an operation begins, if `due` is not empty.
    """
    thread = get_ident()
    if thread not in due:
        return
    frame: FrameType | None = sys._getframe()
    while frame is not None and package_of(frame) in OUR_PACKAGES:
        frame = frame.f_back
    while frame is not None and package_of(frame) in through:
        frame = frame.f_back
    if is_own(frame):
        due.discard(thread)
        interrupted[thread] = monotonic()
        raise Interrupt


def check_log_records() -> Callable[[], None]:
    """Make the creation of each log record a `checkpoint`; return a function that undoes this.

    A task that logs in a loop is rarely in its own code. No lock is held where a record is created.
    """
    before = logging.getLogRecordFactory()

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        if due:
            checkpoint("logging")
        return before(*args, **kwargs)

    def end() -> None:
        if logging.getLogRecordFactory() is make:  # otherwise another factory wraps it: harmless
            logging.setLogRecordFactory(before)

    logging.setLogRecordFactory(make)
    return end


def package_of(frame: FrameType) -> str:
    """Return the name of the top-level package whose code *frame* runs."""
    name = frame.f_globals.get("__name__")
    return name.partition(".")[0] if isinstance(name, str) else ""
