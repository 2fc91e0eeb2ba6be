"""The command ``latergator``, which runs a worker unless another command is named."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from .. import __version__
from .._runtime import streams
from .errors import WrongCommand, hidden_passwords, report_errors
from .processes import processes_option, run_workers
from .program import store_commands
from .source import add_source_options, gator_of_command, health_of_command, import_named
from .suggest import CommandGroup, no_dsn
from .worker import worker_options


class Latergator(CommandGroup):
    """A group that runs its command ``worker`` when none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert ``worker`` before a DSN, and before options that the group itself does not have."""
        own = {*self.commands, "--help", "-h", "--version"}
        if args and args[0] in own:
            return super().parse_args(ctx, args)
        if args and not args[0].startswith("-") and "://" not in args[0]:
            raise WrongCommand(no_dsn(args[0], self.commands, ctx.command_path))
        return super().parse_args(ctx, ["worker", *args])

    def make_context(self, info_name: str | None, args: list[str], **more: Any) -> click.Context:  # type: ignore[override]
        """Return the context of the command line; errors hide passwords."""
        words = list(args)
        with hidden_passwords(words):
            ctx = super().make_context(info_name, args, **more)
        ctx.meta["alligator.words"] = words
        return ctx

    def invoke(self, ctx: click.Context) -> Any:
        """Run the named command; errors hide passwords."""
        with hidden_passwords(ctx.meta["alligator.words"]):
            return super().invoke(ctx)


# Texts are passed as help=, because Python drops docstrings with -OO.
HELP = """Run background tasks.

Without a COMMAND it runs a worker:

\b
    latergator redis://localhost:6379/0 --concurrency 4

Without a DSN it uses the environment variable ALLIGATOR_CONN. See latergator worker --help for
the options. The secret that signs tasks is read only from ALLIGATOR_SECRET.
"""

WORKER_HELP = """Run tasks until stopped; latergator does this without a command, too.

SIGTERM and ^C stop it gracefully: it finishes running tasks and puts the others back on the queue.
"""

HEALTH_HELP = """Show the health of the store; exit with 1 if it fails.

--app may name a Health of your program, with its own limits and checks.
"""


@click.group(
    cls=Latergator,
    help=HELP,
    subcommand_metavar="[COMMAND] [DSN] [OPTIONS]",
    options_metavar="",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 success; 1 a task was not finished in time or would not run, the store "
    "fails, or something that was named does not exist; 2 the command line or the configuration is "
    "wrong.",
)
@click.version_option(__version__, message="Alligator %(version)s")
def main() -> None:
    """Run the named command."""
    streams.open_missing()


@main.command(help=WORKER_HELP, short_help="Run tasks until stopped; the default.")
@worker_options
@processes_option
@click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Import this module first; repeatable.",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="PATTERN",
    help="Run only functions that match, such as myapp.*; repeatable (ALLIGATOR_ALLOW).",
)
@report_errors
def worker(processes: int, modules: Sequence[str], allow: Sequence[str], **options: Any) -> None:
    """Run tasks until stopped."""
    gator = gator_of_command(allow=allow, is_async=None)
    for module in modules:
        import_named(module)
    sys.exit(run_workers(gator, processes, **options))


for _command in store_commands(gator_of_command, health_of_command):
    main.add_command(_command)
main.commands["health"].help = HEALTH_HELP

_WITHOUT_STORE = {"sql"}
"""The commands that need no gator."""

for _command in main.commands.values():
    for _each in _command.commands.values() if isinstance(_command, click.Group) else [_command]:
        if _each.name not in _WITHOUT_STORE:
            add_source_options(_each)
