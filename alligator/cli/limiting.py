"""The command ``limit``: set, list and remove the limits of queues."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import click

from ..backends.base import Limit
from ..backends.controls import to_limit
from ..backends.limits import EACH, MOST_KEYS
from ..constants import MAX_LIMIT
from ..gator import Gator
from ..telemetry.logs import escape
from .errors import WrongCommand, beside, report_errors
from .pausing import names_argument, names_of, tasks_left
from .selection import queues_of
from .source import IdsCommand, check_exists

LIMIT_HELP = """Limit how many tasks of these queues run at once, or begin, over all workers.

The new numbers replace the old ones. Without a queue, this lists the limits. With --key, the limit is
for the tasks of a queue that have this limit_key; with "*", for those of each key without a limit of its
own.
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
    @click.option("--key", metavar="KEY", help='The limit_key of the tasks; "*" for each key.')
    @click.option("--remove", is_flag=True, help="Remove the limit.")
    @names_argument
    @report_errors
    def limit(
        at_once: int | None,
        per_second: int | None,
        per_minute: int | None,
        key: str | None,
        remove: bool,
        queue_words: tuple[str, ...],
    ) -> None:
        numbers = {"at_once": at_once, "per_second": per_second, "per_minute": per_minute}
        has_numbers = any(numbers.values())
        gator = get_gator()
        check_exists(gator.client)
        if not queue_words and not has_numbers and not remove and key is None:
            _list_limits(gator)
            return
        if remove == has_numbers:
            raise WrongCommand("Give --at-once, --per-second or --per-minute, or else --remove.")
        if per_second and per_minute:
            raise WrongCommand("Give --per-second or --per-minute, not both.")
        for name in names_of(gator, queue_words):
            if remove:
                gator.unlimit(name, limit_key=key)
                words = f"{_named(name, key)} has no limit"
            else:
                gator.limit(name, limit_key=key, **numbers)
                words = f"{_named(name, key)}: {to_limit(**numbers)}"
            click.echo(f"{words}; {tasks_left(gator, name)}")

    return limit


def _list_limits(gator: Gator) -> None:
    names = sorted(queues_of(gator))
    found = zip(names, gator.client.stats_of(names), strict=True)
    of_keys = gator.client.key_stats(names)
    lines = []
    for name, stats in found:
        if stats.limit is not None:
            waiting = f"; {stats.limited:,} wait for it" if stats.limited else ""
            lines.append(f"{escape(name)}: {stats.limit}{waiting}")
        limits = gator.key_limits(name)
        keys = of_keys.get(name)
        if keys is not None and keys.limited:
            lines += waiting_keys(name, keys.waiting, keys.limited, keys.names)
        lines += lines_of_keys(name, limits, len(limits))
        if len(limits) >= MOST_KEYS:
            lines.append(f"{escape(name)}: these are the first {MOST_KEYS:,} limits of keys")
    click.echo("\n".join(lines) or "No queue has a limit.")


def waiting_keys(name: str, waiting: int, limited: int, named: Sequence[str]) -> Iterable[str]:
    """Yield the line that says how many keys of a queue wait, and which for their limits, if any."""
    if not waiting:
        return
    line = f"{escape(name)}: {_counted(waiting, 'key waits', 'keys wait')}"
    if limited:
        more = f" and {limited - len(named):,} more" if limited > len(named) else ""
        keys = ", ".join(map(escape, named))
        line += f", {_counted(limited, 'for its limit', 'for their limits')}: {keys}{more}"
    yield line


def lines_of_keys(name: str, limits: Mapping[str, Limit], known: int) -> Iterable[str]:
    """Yield the lines that describe the limits of keys; *known* is how many there are."""
    for key, limit in limits.items():
        yield f"{_named(name, key)}: {limit}"
    if known > len(limits):
        more = _many(known - len(limits), known)
        yield f"{escape(name)}: {more} more limits of keys: {beside('limit')}"


def _counted(number: int, one: str, many: str) -> str:
    return f"1 {one}" if number == 1 else f"{_many(number, number)} {many}"


def _many(number: int, counted: int) -> str:
    """Return the text for *number*, of keys that were *counted*; counting ends at `MOST_KEYS`."""
    return f"{number:,}{' or more' if counted >= MOST_KEYS else ''}"


def _named(name: str, key: str | None) -> str:
    if key is None:
        return escape(name)
    return f"{escape(name)}, {'each key' if key == EACH else f'key {escape(key)}'}"
