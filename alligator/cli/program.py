"""The commands for the gator of a program; integrations add them to the program's own command line."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from ..exceptions import ConfigurationError
from ..gator import Gator
from ..monitoring.health import Health
from .canceling import cancel_command
from .check import show_check
from .dead import dead_commands, queue_option
from .errors import report_errors
from .limiting import limit_command
from .outbox import outbox_commands
from .pausing import pausing_commands
from .processes import processes_option, run_workers
from .schedules import schedule_commands
from .show import show_health, show_stats
from .suggest import CommandGroup
from .worker import worker_options

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

# Texts are passed as help=, because Python drops docstrings with -OO.
PROGRAM_HELP = "Run background tasks, and monitor them."

TABLES_HELP = """Create the tables of the store, unless they exist; the first use does this, too.

--print prints their SQL instead, for a migration or for a user who may create tables.
"""

CHECK_HELP = """Check the tasks on the queues against the code that is here.

Exits with 1 if some of them would not run.

It imports the function of each task that is ready, scheduled or dead, and binds the arguments to it.
It runs no task and changes nothing in the store. Run it with the new code before a deploy.
"""


def store_commands(
    get_gator: Callable[[], Gator], get_health: Callable[[], Gator | Health]
) -> list[click.Command]:
    """Return the commands that show or change a store; each calls one of the functions once."""
    return [
        _make_stats(get_gator),
        _make_health(get_health),
        _make_tables(get_gator),
        _make_check(get_gator),
        dead_commands(get_gator),
        cancel_command(get_gator),
        outbox_commands(get_gator),
        schedule_commands(get_gator),
        *pausing_commands(get_gator),
        limit_command(get_gator),
    ]


def program_commands(worker: click.Command, others: Sequence[click.Command]) -> click.Group:
    """Return the group ``alligator`` of a framework's command line, with those commands."""
    return CommandGroup(
        "alligator",
        help=PROGRAM_HELP,
        commands=[worker, *others],
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def worker_command(get_gator: Callable[[], Gator], help: str) -> click.Command:
    """Return the command that runs workers of the program."""

    @click.command("worker", help=help)
    @worker_options
    @processes_option
    @report_errors
    def worker(processes: int, **options: Any) -> None:
        sys.exit(run_workers(get_gator(), processes, **options))

    return worker


def _make_stats(get_gator: Callable[[], Gator]) -> click.Command:
    @click.command("stats", help="Show the tasks on the queues, and the workers.")
    @_json_option
    @report_errors
    def stats(as_json: bool) -> None:
        show_stats(get_gator(), as_json=as_json)

    return stats


def _make_health(get_health: Callable[[], Gator | Health]) -> click.Command:
    @click.command("health", help="Show the health of the store; exit with 1 if it fails.")
    @click.option("--json", "as_json", is_flag=True, help="Print application/health+json.")
    @report_errors
    def health(as_json: bool) -> None:
        sys.exit(show_health(get_health(), as_json=as_json))

    return health


def _make_tables(get_gator: Callable[[], Gator]) -> click.Command:
    @click.command(
        "tables",
        help=TABLES_HELP,
        short_help="Create the tables of the store, or print their SQL.",
    )
    @click.option("--print", "only_print", is_flag=True, help="Print the SQL; do not connect.")
    @report_errors
    def tables(only_print: bool) -> None:
        client = get_gator().client
        if not only_print:
            client.ping()
            click.echo(f"{client.address} can be used.")
            return
        sql = client.tables_sql()
        if sql is None:
            message = f"{client.address} has no SQL to print: only postgresql:// has."
            raise ConfigurationError(message)
        click.echo(sql, nl=False)

    return tables


def _make_check(get_gator: Callable[[], Gator]) -> click.Command:
    @click.command(
        "check", help=CHECK_HELP, short_help="Check before a deploy which tasks would not run."
    )
    @queue_option
    @click.option("--limit", default=100, show_default=True, help="List at most this many.")
    @_json_option
    @report_errors
    def check(queues: Sequence[str], limit: int, as_json: bool) -> None:
        sys.exit(show_check(get_gator(), queues, limit, as_json=as_json))

    return check
