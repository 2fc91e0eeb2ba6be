"""Errors that end a command with one line instead of a traceback."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import click

from .._runtime import streams
from ..backends.base import redact
from ..constants import EXIT_USAGE
from ..exceptions import AlligatorException, ConfigurationError
from ..telemetry.logs import escape

EXIT_FAILURE = 1

F = TypeVar("F", bound=Callable[..., Any])


class Failure(click.ClickException):
    """Ends the command with status 1 and one line on stderr."""

    exit_code = EXIT_FAILURE

    def __init__(self, message: str) -> None:
        super().__init__(escape(message))


class WrongCommand(Failure):
    """Ends the command with status 2: the command line or the configuration is wrong."""

    exit_code = EXIT_USAGE


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except ConfigurationError as error:
        raise WrongCommand(str(error)) from error
    except AlligatorException as error:
        raise Failure(str(error)) from error


@contextmanager
def hidden_passwords(words: Sequence[str]) -> Iterator[None]:
    """Hide passwords in click's errors that quote *words* of the command line."""
    try:
        yield
    except click.UsageError as error:
        message = error.message
        for word in words:
            if set(word) & set(":@"):  # it may be a DSN, perhaps a mistyped one
                for shown in (word, repr(word)[1:-1]):
                    message = message.replace(shown, redact(word))
        vars(error)["message"] = message
        raise


def beside(words: str) -> str:
    """Return the command line of another command of the same program, such as "latergator stats".

    In a program with commands of its own, it is "flask alligator stats".
    """
    parent = click.get_current_context().parent
    return f"{parent.command_path} {words}" if parent is not None else words


def report_errors(command: F) -> F:
    """Return *command*, but with known errors as one line instead of a traceback."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        streams.escape_unencodable()
        with _plain_errors():
            return command(*args, **kwargs)

    return wrapped  # type: ignore[return-value] # the signature is the same
