"""``flask alligator``: the commands of latergator, for the queue of an application."""

import sys
from typing import Any

import click
from flask.cli import FlaskGroup

from alligator import Gator
from alligator.cli import (
    CommandGroup,
    dead_commands,
    pausing_commands,
    report_errors,
    run_worker,
    schedule_commands,
    show_health,
    show_stats,
    worker_options,
)
from alligator.exceptions import ConfigurationError
from alligator.monitoring.health import Health


def commands(gator: Gator, own_health: Health) -> click.Group:
    """Return the commands; they need no application context, because each task has its own."""

    @click.group(
        "alligator",
        cls=CommandGroup,
        help="Run background tasks, and monitor them.",  # with -OO Python drops docstrings
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    def group() -> None:
        """Run background tasks, and monitor them."""

    @group.command(help="Run tasks until stopped, each in a fresh application context.")
    @worker_options
    @report_errors
    def worker(**options: Any) -> None:
        """Run tasks until stopped, each in a fresh application context."""
        sys.exit(run_worker(gator, **options))

    @group.command(help="Show the tasks on the queues, and the workers.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @report_errors
    def stats(as_json: bool) -> None:
        """Show the tasks on the queues, and the workers."""
        show_stats(gator, as_json=as_json)

    @group.command(help="Show the health of the store; exit with 1 if it fails.")
    @click.option("--json", "as_json", is_flag=True, help="Print application/health+json.")
    @report_errors
    def health(as_json: bool) -> None:
        """Show the health of the store; exit with 1 if it fails."""
        sys.exit(show_health(own_health, as_json=as_json))

    group.add_command(dead_commands(lambda: gator))
    group.add_command(schedule_commands(lambda: gator))
    for command in pausing_commands(lambda: gator):
        group.add_command(command)
    return group


def in_one_line(error: ConfigurationError) -> Exception:
    """Return an error that a `flask` command prints in one line; elsewhere return *error* itself.

    For other errors while it imports the application, the `flask` command prints a traceback.
    """
    context = click.get_current_context(silent=True)
    if context is None or not isinstance(context.find_root().command, FlaskGroup):
        return error
    return click.ClickException(str(error))
