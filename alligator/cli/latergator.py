"""The command ``latergator``, which runs a worker unless another command is named."""

import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any

import click

from .. import __version__
from .._runtime import streams
from ..constants import EXIT_USAGE
from ..exceptions import ConfigurationError
from ..telemetry.logs import escape, get_log
from .check import show_check
from .dead import dead_commands, queue_option
from .errors import WrongCommand, hidden_passwords, report_errors
from .outbox import outbox_commands
from .pausing import pausing_commands
from .schedules import schedule_commands
from .show import show_health, show_stats
from .source import add_source_options, gator_of_command, health_of_command, import_named
from .suggest import CommandGroup, no_dsn
from .worker import check_store, run_worker, worker_options


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

TABLES_HELP = """Create the tables of the store, unless they exist; the first use does this, too.

--print prints their SQL instead, for a migration or for a user who may create tables.
"""

CHECK_HELP = """Check the tasks on the queues against the code that is here.

Exits with 1 if some of them would not run.

It imports the function of each task that is ready, scheduled or dead, and binds the arguments to it.
It runs no task and changes nothing in the store. Run it with the new code before a deploy:

\b
    latergator check --app shop.queue:gator
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
@click.option(
    "--processes",
    "-p",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Worker processes; a process that dies is replaced.",
)
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
    if processes == 1:
        sys.exit(run_worker(gator, **options))

    from ..workers.liveness import Liveness
    from ..workers.prefork import Prefork
    from ..workers.shared_health import SharedHealth

    get_log(options["log_level"].upper())
    check_store(gator, options["burst"], options["queues"])
    gator.client.close()  # each child opens connections of its own
    shared = SharedHealth(processes)
    wanted = [options.pop(name) for name in ("health_file", "health_port", "health_host")]
    liveness = Liveness(shared.health, *wanted)

    def work(slot: int) -> int:
        try:
            share_health = partial(shared.posting, slot)
            return run_worker(gator, **options, draw=False, share_health=share_health)
        except ConfigurationError as error:
            click.echo(f"Error: {escape(str(error))}", err=True)
            return EXIT_USAGE

    with closing(liveness):
        supervisor = Prefork(
            processes,
            work,
            liveness,
            shutdown_timeout=options["shutdown_timeout"],
            renew=options["max_tasks"] > 0 and not options["burst"],
        )
        sys.exit(supervisor.run())


@main.command(help="Show the tasks on the queues, and the workers.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@report_errors
def stats(as_json: bool) -> None:
    """Show the tasks on the queues, and the workers."""
    show_stats(gator_of_command(), as_json=as_json)


@main.command(help=HEALTH_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print application/health+json.")
@report_errors
def health(as_json: bool) -> None:
    """Show the health of the store; exit with 1 if it fails."""
    sys.exit(show_health(health_of_command(), as_json=as_json))


@main.command(help=TABLES_HELP, short_help="Create the tables of the store, or print their SQL.")
@click.option("--print", "only_print", is_flag=True, help="Print the SQL; do not connect.")
@report_errors
def tables(only_print: bool) -> None:
    """Create the tables of the store, or print their SQL."""
    client = gator_of_command().client
    if not only_print:
        client.ping()
        click.echo(f"{client.address} can be used.")
        return
    sql = client.tables_sql()
    if sql is None:
        raise ConfigurationError(f"{client.address} has no SQL to print: only postgresql:// has.")
    click.echo(sql, nl=False)


@main.command(help=CHECK_HELP, short_help="Check before a deploy which tasks would not run.")
@queue_option
@click.option("--limit", default=100, show_default=True, help="List at most this many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@report_errors
def check(queues: Sequence[str], limit: int, as_json: bool) -> None:
    """Check the tasks on the queues against the code that is here."""
    sys.exit(show_check(gator_of_command(), queues, limit, as_json=as_json))


dead: click.Group = dead_commands(gator_of_command)
main.add_command(dead)
outbox: click.Group = outbox_commands(gator_of_command)
main.add_command(outbox)
schedules: click.Group = schedule_commands(gator_of_command)
main.add_command(schedules)
_of_queues = pausing_commands(gator_of_command)
for _command in _of_queues:
    main.add_command(_command)
_of_gators = [
    *(outbox.commands[name] for name in ("status", "relay")),
    *schedules.commands.values(),
    *_of_queues,
]
for _command in (worker, stats, health, tables, check, *dead.commands.values(), *_of_gators):
    add_source_options(_command)
