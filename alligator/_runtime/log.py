"""The logger of Alligator, which `logging.config` does not disable by accident."""

import logging
import sys
from typing import Any

from .failures import printable
from .interrupts import Interrupt


class _ResilientLogger(logging.Logger):
    """A logger that stays enabled, and never raises.

    ``dictConfig`` and ``fileConfig`` disable all existing loggers that they do not name. Alligator's
    logger exists before they are called. To log less, set its level; ``disabled = True`` works, too.

    If a handler, a filter or a record factory raises, Alligator ignores it: the exception would end
    a worker, or hide the outcome of a task. An exception that cannot be formatted is logged by its
    type.
    """

    def _log(self, *args: Any, **kwargs: Any) -> None:
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1  # report the caller's line
        try:
            super()._log(*args, **kwargs)
        except (KeyboardInterrupt, Interrupt):  # from the user, or a task's timeout
            raise
        except BaseException:  # noqa: S110 - a failure of logging cannot be logged
            pass

    def handle(self, record: logging.LogRecord) -> None:
        """Pass *record* to the handlers, with an exception that Python can format."""
        if record.exc_info and (error := record.exc_info[1]) is not None:
            error = printable(error)
            record.exc_info = (type(error), error, error.__traceback__)
        super().handle(record)

    def __setattr__(self, name: str, value: Any) -> None:
        # Not a property: `isEnabledFor` reads the attribute, for each task.
        is_config = sys._getframe(1).f_globals.get("__name__") == "logging.config"
        if not (name == "disabled" and value and is_config):
            super().__setattr__(name, value)


def keep_enabled(name: str) -> logging.Logger:
    """Return the logger *name*; from now on `logging.config` does not disable it."""
    log = logging.getLogger(name)
    kind = type(log)
    if not issubclass(kind, _ResilientLogger):
        # The program may have called logging.setLoggerClass.
        own = kind is not logging.Logger
        log.__class__ = (
            type(kind.__name__, (_ResilientLogger, kind), {}) if own else _ResilientLogger
        )
    return log


log: logging.Logger = keep_enabled("alligator")
