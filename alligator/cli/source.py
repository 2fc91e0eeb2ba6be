"""Find the gator that a command is about, by its arguments and the environment."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from ..backends.base import redact
from ..exceptions import ConfigurationError
from ..gator import Gator
from ..health import Health
from ..logs import escape
from .errors import WrongCommand

HOW_TO_NAME_A_QUEUE = (
    "Which queue? Give a DSN, such as: latergator sqlite:///var/lib/app/queue.db "
    "(or set ALLIGATOR_CONN, or name a Gator of yours with --app myapp.queue:gator)."
)

SOURCE = "alligator.source"


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Note an option that says which gator, for `gator_of_command` to find."""
    if param.name == "task_ids":  # the DSN stands among the ids, in any place
        for dsn in [word for word in value if "://" in word]:
            ctx.meta.setdefault(SOURCE, {})["dsn"] = dsn
        return tuple(word for word in value if "://" not in word)
    ctx.meta.setdefault(SOURCE, {})[param.name] = value
    return None


def _source(*names: str, **settings: Any) -> click.Option:
    return click.Option(names, callback=_keep, expose_value=False, **settings)


SOURCE_OPTIONS = (
    _source(
        "--app", metavar="MODULE:GATOR", help="Use the Gator of your program instead of a DSN."
    ),
    _source("--prefix", metavar="NAME", help="The queue is NAME_all (ALLIGATOR_PREFIX)."),
    _source(
        "--path",
        multiple=True,
        metavar="FOLDER",
        default=["."],
        show_default=True,
        help="Where modules are imported from, before all else; repeatable.",
    ),
)


def from_source(command: click.Command) -> click.Command:
    """Give *command* the DSN, and the options that say which gator it is about."""
    ids = [param for param in command.params if param.name == "task_ids"]
    for param in ids:
        param.callback, param.metavar = _keep, "[DSN] [ID]..."
    if not ids:
        dsn = click.Argument(
            ["dsn"], required=False, metavar="[DSN]", callback=_keep, expose_value=False
        )
        command.params.insert(0, dsn)
    command.params.extend(SOURCE_OPTIONS)
    return command


def gator_of_command(*, allow: Sequence[str] = (), is_async: bool | None = True) -> Gator:
    """Make the gator that the command line and the environment say.

    From then on modules are found where ``--path`` says, too. *is_async* None leaves the switch to
    the environment.
    """
    return _check_gator(_find(allow=allow, is_async=is_async))


def health_of_command() -> Gator | Health:
    """Find what `gator_of_command` does, or the health that ``--app`` names."""
    found = _find()
    return found if isinstance(found, Health) else _check_gator(found)


def _said() -> dict[str, Any]:
    said: dict[str, Any] = click.get_current_context().meta.get(SOURCE, {})
    return said


def _find(*, allow: Sequence[str] = (), is_async: bool | None = True) -> object:
    said = _said()
    sys.path[:0] = [
        folder for path in said["path"] if (folder := os.path.abspath(path)) not in sys.path
    ]
    dsn, app, prefix = said.get("dsn"), said["app"], said["prefix"]
    if dsn and "://" not in dsn:
        raise WrongCommand(f"{escape(dsn)!r} is neither a command nor a DSN, such as redis://host.")
    if app:
        if dsn or prefix or allow:
            raise WrongCommand("A Gator of --app has its DSN, prefix and allow already.")
        return _load(app)
    environ = {**os.environ, **({"ALLIGATOR_CONN": dsn} if dsn else {})}
    if prefix:
        environ["ALLIGATOR_PREFIX"] = prefix
    if not environ.get("ALLIGATOR_CONN"):
        raise WrongCommand(HOW_TO_NAME_A_QUEUE)
    settings: dict[str, Any] = {"allow": list(allow)} if allow else {}
    if is_async is not None:
        settings["is_async"] = is_async
    try:
        return Gator.from_env(environ, **settings)
    except ConfigurationError:
        raise
    except ValueError as error:  # from the library of the backend: it may quote the password
        wrong = redact(environ["ALLIGATOR_CONN"])
        raise ConfigurationError(f"{wrong!r} is not a DSN that can be used.") from error


def _load(app: str) -> object:
    module, _, name = app.partition(":")
    found = import_named(module)
    try:
        for part in (name or "gator").split("."):
            found = getattr(found, part)
    except (AttributeError, RuntimeError):  # a Flask extension has one only inside an application
        return None
    return found


def _check_gator(found: object) -> Gator:
    if not isinstance(found, Gator):
        raise WrongCommand(
            f"{escape(_said()['app'])} is not a Gator: name one as module:name. The worker of a "
            "Flask application is: flask --app MODULE alligator worker."
        )
    return found


def import_named(module: str) -> Any:
    """Import what was named on the command line; say so when there is no such module."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not module or error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # some other import is broken: show it as it is
        raise WrongCommand(
            f"There is no module {escape(error.name)} here: start latergator where it can be "
            "imported, or say where with --path."
        ) from error
    except ValueError as error:  # an empty name
        raise WrongCommand(f"{module!r} is not the name of a module.") from error
