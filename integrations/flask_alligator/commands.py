"""``flask alligator``: the commands of latergator, for the queue of an application."""

import click
from flask.cli import FlaskGroup

from alligator import Gator
from alligator.cli import program_commands, store_commands, worker_command
from alligator.exceptions import ConfigurationError
from alligator.monitoring.health import Health


def commands(gator: Gator, own_health: Health) -> click.Group:
    """Return the commands; they need no application context, because each task has its own."""

    def get_gator() -> Gator:
        return gator

    return program_commands(
        worker_command(get_gator, "Run tasks until stopped, each in a fresh application context."),
        store_commands(get_gator, lambda: own_health),
    )


def in_one_line(error: ConfigurationError) -> Exception:
    """Return an error that a `flask` command prints in one line; elsewhere return *error* itself.

    For other errors while it imports the application, the `flask` command prints a traceback.
    """
    context = click.get_current_context(silent=True)
    if context is None or not isinstance(context.find_root().command, FlaskGroup):
        return error
    return click.ClickException(str(error))
