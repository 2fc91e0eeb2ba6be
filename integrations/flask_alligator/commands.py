"""``flask alligator``: what latergator does, for the queue of an application."""

import sys
from typing import Any

import click

from alligator import Gator
from alligator.cli import (
    dead_commands,
    plainly,
    run_worker,
    show_health,
    show_stats,
    worker_options,
)
from alligator.health import Health


def commands(gator: Gator, own_health: Health) -> click.Group:
    """Make the commands; they need no application context, for each task is run in its own."""

    @click.group("alligator")
    def group() -> None:
        """Run background tasks, and look after them."""

    @group.command()
    @worker_options
    @plainly
    def worker(**options: Any) -> None:
        """Run tasks until stopped, each in a fresh application context."""
        sys.exit(run_worker(gator, **options))

    @group.command()
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @plainly
    def stats(as_json: bool) -> None:
        """Show what is on the queues, and who works on them."""
        show_stats(gator, as_json=as_json)

    @group.command()
    @click.option("--json", "as_json", is_flag=True, help="Print application/health+json.")
    @plainly
    def health(as_json: bool) -> None:
        """Show how the store is; exit with 1 if it does not answer."""
        sys.exit(show_health(own_health, as_json=as_json))

    group.add_command(dead_commands(lambda: gator))
    return group
