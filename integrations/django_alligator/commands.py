"""The commands behind ``manage.py alligator``."""

import sys
from typing import Any

import click
from django.db import connections

from alligator.cli import program_commands, store_commands, worker_command

from .endpoint import health
from .reloading import run_with_reload
from .settings_gator import gator

WORKER_HELP = """Run tasks until stopped.

Before and after each task, old database connections are closed. SIGTERM and ^C stop it gracefully: it
finishes running tasks and puts the others back on the queue.
"""


def commands() -> click.Group:
    """Return the commands, for the gator of the settings."""
    return program_commands(_worker(), store_commands(lambda: gator, health))


def _worker() -> click.Command:
    command = worker_command(lambda: gator, WORKER_HELP)
    command.params.append(
        click.Option(
            ["--reload"],
            is_flag=True,
            help="For development: start again when a file of the program has changed.",
        )
    )
    run = command.callback
    assert run is not None

    def worker(*, reload: bool, **options: Any) -> Any:
        connections.close_all()  # a process that is forked must not share them
        if not reload:
            return run(**options)
        sys.exit(run_with_reload(lambda: run(**options)))

    command.callback = worker
    return command
