"""The command ``cancel``: remove tasks that wait or run."""

from collections.abc import Callable, Sequence

import click

from ..gator import Gator
from ..payload.envelope import name_in
from ..telemetry.logs import escape
from .dead import queue_option
from .errors import Failure, WrongCommand, report_errors
from .selection import queues_of
from .source import IdsCommand, existing

CANCEL_HELP = """Cancel the tasks with these ids, on all queues: they are removed, also while they run.

The worker of a running task ends it within seconds if it is a coroutine, an isolated task, or a function
with a timeout. Any other has to ask current_task().canceled.
"""


def cancel_command(get_gator: Callable[[], Gator]) -> click.Command:
    """Return the command ``cancel``, which calls *get_gator* once."""
    open_gator = existing(get_gator)

    @click.command(
        "cancel", cls=IdsCommand, help=CANCEL_HELP, short_help="Cancel tasks that wait or run."
    )
    @queue_option
    @click.argument("task_ids", nargs=-1, metavar="[ID]...")
    @report_errors
    def cancel(queues: Sequence[str], task_ids: Sequence[str]) -> None:
        if not task_ids:
            raise WrongCommand("Give the ids of tasks.")
        gator = open_gator()
        names = queues or queues_of(gator)
        missing = [each for each in dict.fromkeys(task_ids) if not _cancel(gator, each, names)]
        if missing:
            raise Failure(f"no task that waits or runs has the id {', '.join(missing)}")

    return cancel


def _cancel(gator: Gator, task_id: str, names: Sequence[str]) -> bool:
    """Cancel the task of that id on each of the queues; return whether there was one."""
    is_found = False
    for name in names:
        found = gator.client.cancel(name, task_id)
        if found is not None:
            is_found = True
            when = "while it runs" if found.was_leased else "before it ran"
            click.echo(escape(f"{task_id} on {name} is canceled {when}: {name_in(found.data)}"))
    return is_found
