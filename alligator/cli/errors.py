"""End a command that fails in a known way with one line, not with a traceback."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import click

from ..constants import EXIT_USAGE
from ..exceptions import AlligatorException, ConfigurationError
from ..logs import escape

EXIT_FAILURE = 1

F = TypeVar("F", bound=Callable[..., Any])


class Failure(click.ClickException):
    """End the command with one line on stderr."""

    exit_code = EXIT_FAILURE

    def __init__(self, message: str) -> None:
        super().__init__(escape(message))


class WrongCommand(Failure):
    """End the command because it cannot work as it was given."""

    exit_code = EXIT_USAGE


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except ConfigurationError as error:
        raise WrongCommand(str(error)) from error
    except AlligatorException as error:
        raise Failure(str(error)) from error


def plainly(command: F) -> F:
    """Let *command* end with one line, not with a traceback, when it fails in a way that is known."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with _plain_errors():
            return command(*args, **kwargs)

    return wrapped  # type: ignore[return-value] # it has the same signature
