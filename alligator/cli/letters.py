"""Output of dead tasks: as a table, in full, or as JSON."""

from collections.abc import Sequence
from itertools import pairwise
from os.path import commonprefix
from time import time
from typing import Any

import click

from ..backends.base import DeadLetter
from ..monitoring.stats import format_utc
from ..payload.envelope import Content, content_in, name_in
from ..telemetry.logs import escape
from .tables import age, print_table

SHORTEST_ID = 8
"""How many digits of an id a table shows at least."""


def summarize(letter: DeadLetter) -> dict[str, str]:
    """Return what a list shows of a dead task."""
    return {
        "id": letter.task_id,
        "queue": letter.queue_name,
        "task": name_in(letter.data),
        "died": format_utc(letter.died_at),
        "reason": letter.reason,
    }


def describe_letter(letter: DeadLetter) -> dict[str, Any]:
    """Return all that is known of a dead task."""
    from ..web.dashboard.formats import arguments  # imported late: a worker does not need it

    content = content_in(letter.data) or Content()
    return {
        **summarize(letter),
        "call": arguments(letter.data),
        "args": content.args,
        "kwargs": content.kwargs,
        "attempt": content.attempt,
        "options": content.options,
        "request_id": content.headers.get("request_id"),
        "headers": content.headers,
        "traceback": letter.traceback,
    }


def print_letter(letter: DeadLetter) -> None:
    """Print all that is known of a dead task."""
    details = describe_letter(letter)
    lines = {
        **{name: details[name] for name in ("id", "queue", "task", "call", "attempt", "died")},
        "request id": details["request_id"] or "-",
        **{f"header {name}": text for name, text in details["headers"].items()},
        "reason": details["reason"],
    }
    for name, value in lines.items():
        click.echo(escape(f"{name}: {value}"))
    for line in letter.traceback.splitlines():
        click.echo(f"    {escape(line)}")


def print_letters(letters: Sequence[DeadLetter]) -> None:
    """Print a table of dead tasks."""
    now = time()
    ids = shorten_ids([letter.task_id for letter in letters])
    print_table(
        ["id", "queue", "task", "died", "reason"],
        [
            [
                ids[letter.task_id],
                letter.queue_name,
                name_in(letter.data),
                f"{age(max(0.0, now - letter.died_at))} ago",
                letter.reason,
            ]
            for letter in letters
        ],
    )


def shorten_ids(ids: Sequence[str]) -> dict[str, str]:
    """Return each id, shortened to as many digits as make it different from the others.

    >>> shorten_ids(["0123456789ab0", "0123456789cd0", "invoice-7"])["0123456789ab0"]
    '0123456789a'
    """
    in_order = sorted(set(ids))
    needed = dict.fromkeys(in_order, SHORTEST_ID)
    for one, other in pairwise(in_order):
        same = len(commonprefix([one, other]))  # noqa: RUF071 - ids are no paths
        for each in (one, other):
            needed[each] = max(needed[each], same + 1)
    return {each: each[:length] for each, length in needed.items()}
