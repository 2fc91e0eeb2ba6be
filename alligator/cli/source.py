"""The gator that a command uses, from its arguments and the environment."""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from traceback import extract_tb
from typing import Any

import click

from .._runtime.failures import describe
from ..backends import SCHEMES
from ..backends.base import Client, redact
from ..exceptions import AlligatorException, ConfigurationError
from ..gator import Gator
from ..monitoring.health import Health
from ..telemetry.logs import escape
from .errors import Failure, WrongCommand
from .suggest import no_dsn

HOW_TO_NAME_A_QUEUE = (
    "No queue is given. Give a DSN, such as: latergator sqlite:///var/lib/app/queue.db "
    "(or set ALLIGATOR_CONN, or name a Gator of your program with --app myapp.queue:gator)."
)

SOURCE = "alligator.source"
IDS_ONLY = "alligator.ids_only"


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Keep the value of a source option for `gator_of_command`."""
    ctx.meta.setdefault(SOURCE, {})[param.name] = value


def _keep_dsn(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> Sequence[str]:
    """Keep the DSN that may precede ids of tasks or other names, and return these.

    An id may look like a DSN, too. So only the first word can be a DSN, and none after ``--``.
    """
    if not value or len(value) == ctx.meta.get(IDS_ONLY, 0):
        return value
    if value[0].partition("://")[0] not in SCHEMES or "://" not in value[0]:
        return value
    ctx.meta.setdefault(SOURCE, {})["dsn"] = value[0]
    return value[1:]


class IdsCommand(click.Command):
    """A command whose arguments are ids or names; a DSN may precede them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the number of words after ``--``, which the parser does not report."""
        if "--" in args:
            ctx.meta[IDS_ONLY] = len(args) - args.index("--") - 1
        return super().parse_args(ctx, args)


def _source(*names: str, **settings: Any) -> click.Option:
    return click.Option(names, callback=_keep, expose_value=False, **settings)


SOURCE_OPTIONS = (
    _source("--app", metavar="MODULE:GATOR", help="Use a Gator of your program instead of a DSN."),
    _source("--prefix", metavar="NAME", help="Use the queue NAME_all (ALLIGATOR_PREFIX)."),
    _source(
        "--path",
        multiple=True,
        metavar="FOLDER",
        default=lambda: [] if sys.flags.safe_path else ["."],
        show_default=".; none with python -P or PYTHONSAFEPATH",
        help="Import modules from this folder first; repeatable.",
    ),
    _source(
        "--traceback",
        is_flag=True,
        help="Show the traceback if a module cannot be imported.",
    ),
)


WORDS = {"task_ids": "ID", "queue_words": "QUEUE", "schedule_names": "NAME"}
"""The arguments that take several words, before which a DSN may stand, and the name of one word."""


def add_source_options(command: click.Command) -> None:
    """Add the DSN and the options that select the gator to *command*."""
    ids = [param for param in command.params if param.name in WORDS]
    for param in ids:
        param.callback, param.metavar = _keep_dsn, f"[DSN] [{WORDS[str(param.name)]}]..."
    if not ids:
        dsn = click.Argument(
            ["dsn"], required=False, metavar="[DSN]", callback=_keep, expose_value=False
        )
        command.params.insert(0, dsn)
    command.params.extend(SOURCE_OPTIONS)


def gator_of_command(*, allow: Sequence[str] = (), is_async: bool | None = True) -> Gator:
    """Return the gator that the command line or the environment selects.

    Adds the folders of ``--path`` to the import path. With *is_async* None the environment decides
    whether it is.
    """
    return _check_gator(_find(allow=allow, is_async=is_async))


def health_of_command() -> Gator | Health:
    """Return the gator, as `gator_of_command` does, or the `Health` that ``--app`` names."""
    found = _find()
    return found if isinstance(found, Health) else _check_gator(found)


def _source_options() -> dict[str, Any]:
    options: dict[str, Any] = click.get_current_context().meta.get(SOURCE, {})
    return options


def _find(*, allow: Sequence[str] = (), is_async: bool | None = True) -> object:
    options = _source_options()
    sys.path[:0] = [
        folder for path in options["path"] if (folder := os.path.abspath(path)) not in sys.path
    ]
    dsn, app, prefix = options.get("dsn"), options["app"], options["prefix"]
    if dsn and "://" not in dsn:
        root = click.get_current_context().find_root()
        commands = root.command.commands if isinstance(root.command, click.Group) else ()
        raise WrongCommand(no_dsn(dsn, commands, root.command_path))
    if app:
        if dsn or prefix or allow:
            raise WrongCommand("Use --app without a DSN, --prefix and --allow: its Gator has them.")
        return _load(app)
    return _make_gator(dsn, prefix, allow, is_async)


def _make_gator(
    dsn: str | None, prefix: str | None, allow: Sequence[str], is_async: bool | None
) -> Gator:
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
    except ValueError as error:  # from the backend's library; it may quote the password
        wrong = redact(environ["ALLIGATOR_CONN"])
        raise ConfigurationError(f"{wrong!r} is not a valid DSN.") from error


def _load(app: str) -> object:
    module, _, name = app.partition(":")
    found = import_named(module)
    try:
        for part in (name or "gator").split("."):
            found = getattr(found, part)
    except (AttributeError, RuntimeError):  # a Flask extension has a gator only inside an app
        return None
    return found


def _check_gator(found: object) -> Gator:
    if not isinstance(found, Gator):
        raise WrongCommand(
            f"{escape(_source_options()['app'])} is not a Gator: name one as module:name. The worker "
            "of a Flask application is: flask --app MODULE alligator worker."
        )
    return found


def import_named(module: str) -> Any:
    """Return a module that the command line names; an error is one line that says why."""
    try:
        return import_module(module)
    except AlligatorException:
        raise
    except Exception as error:
        if _shows_tracebacks():
            raise
        if isinstance(error, ModuleNotFoundError) and _is_missing(module, error):
            raise WrongCommand(
                f"There is no module {error.name}: start latergator in a folder where it can be "
                "imported, or name that folder with --path."
            ) from error
        if not module.strip("."):
            raise WrongCommand(f"{module!r} is not the name of a module.") from error
        raise WrongCommand(
            f"{module} cannot be imported: {describe(error)} ({_line_of(error)}). "
            "--traceback shows more."
        ) from error


def _is_missing(module: str, error: ModuleNotFoundError) -> bool:
    """Return whether the module itself is missing, or a package that contains it."""
    return error.name is not None and f"{module}.".startswith(f"{error.name}.")


def _line_of(error: Exception) -> str:
    """Return the file and line in which an import failed."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frames = [
        frame
        for frame in extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen importlib")
    ]
    return f"{frames[-1].filename}, line {frames[-1].lineno}"


def _shows_tracebacks() -> bool:
    level = click.get_current_context().params.get("log_level", "")
    return bool(_source_options().get("traceback")) or str(level).lower() == "debug"


def existing(get_gator: Callable[[], Gator]) -> Callable[[], Gator]:
    """Return a function that returns the gator of *get_gator*, after `check_exists`."""

    def open_gator() -> Gator:
        gator = get_gator()
        check_exists(gator.client)
        return gator

    return open_gator


def check_exists(*clients: Client) -> None:
    """Raise if a store does not exist: a command that only reads must not create an empty one."""
    for client in clients:
        if not client.exists():
            raise Failure(
                f"{client.address} does not exist: check the path. The first task or a worker creates "
                "the file."
            )
