"""The command ``limit``: set, list and remove the limits of queues."""

from collections.abc import Callable

import click

from ..constants import MAX_LIMIT
from ..gator import Gator
from ..telemetry.logs import escape
from .errors import WrongCommand, report_errors
from .pausing import names_argument, names_of, tasks_left
from .selection import queues_of
from .source import IdsCommand, check_exists

LIMIT_HELP = """Limit how many tasks of these queues run at once, or begin, over all workers.

The new numbers replace the old ones. Without a queue, this lists the limits.
"""


def limit_command(get_gator: Callable[[], Gator]) -> click.Command:
    """Return the command ``limit``, which calls *get_gator* once."""
    number = click.IntRange(min=1, max=MAX_LIMIT)

    @click.command(
        "limit",
        cls=IdsCommand,
        help=LIMIT_HELP,
        short_help="Limit how many tasks of a queue run at once, or begin.",
    )
    @click.option("--at-once", type=number, metavar="N", help="How many run at one time.")
    @click.option("--per-second", type=number, metavar="N", help="How many begin in a second.")
    @click.option("--per-minute", type=number, metavar="N", help="How many begin in a minute.")
    @click.option("--remove", is_flag=True, help="Remove the limit.")
    @names_argument
    @report_errors
    def limit(
        at_once: int | None,
        per_second: int | None,
        per_minute: int | None,
        remove: bool,
        queue_words: tuple[str, ...],
    ) -> None:
        numbers = {"at_once": at_once, "per_second": per_second, "per_minute": per_minute}
        has_numbers = any(numbers.values())
        gator = get_gator()
        check_exists(gator.client)
        if not queue_words and not has_numbers and not remove:
            _list_limits(gator)
            return
        if remove == has_numbers:
            raise WrongCommand("Give --at-once, --per-second or --per-minute, or else --remove.")
        if per_second and per_minute:
            raise WrongCommand("Give --per-second or --per-minute, not both.")
        for name in names_of(gator, queue_words):
            if remove:
                gator.unlimit(name)
                click.echo(f"{escape(name)} has no limit; {tasks_left(gator, name)}")
            else:
                gator.limit(name, **numbers)
                limit = gator.stats(name).limit
                click.echo(f"{escape(name)}: {limit}; {tasks_left(gator, name)}")

    return limit


def _list_limits(gator: Gator) -> None:
    names = sorted(queues_of(gator))
    found = zip(names, gator.client.stats_of(names), strict=True)
    limited = [(name, stats) for name, stats in found if stats.limit is not None]
    for name, stats in limited:
        waiting = f"; {stats.limited:,} wait for it" if stats.limited else ""
        click.echo(f"{escape(name)}: {stats.limit}{waiting}")
    if not limited:
        click.echo("No queue has a limit.")
