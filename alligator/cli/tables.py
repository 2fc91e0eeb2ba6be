"""Tables of untrusted values, which must not control the terminal."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime

from ..telemetry.logs import escape

PIPE_WIDTH = 200
"""The width of a table outside a terminal, in characters, unless COLUMNS is set."""

NAME_WIDTH = 32
"""How wide the first column may be before its values are wrapped."""


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table of untrusted values; numbers and short first columns are not wrapped."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        given = os.environ.get("COLUMNS", "")
        width = int(given) if given.isdecimal() and int(given) else PIPE_WIDTH
        console = Console(highlight=False, width=width)
    table = Table(box=None, pad_edge=False)
    cells = [["-" if value is None else escape(str(value)) for value in row] for row in rows]
    for number, name in enumerate(columns):
        is_number = any(isinstance(row[number], int | float) for row in rows)
        widest = max([len(name), *(len(row[number]) for row in cells)])
        is_whole = is_number or (number == 0 and widest <= NAME_WIDTH)
        table.add_column(
            name,
            justify="right" if is_number else "left",
            no_wrap=is_whole,
            overflow="fold",
            min_width=widest if is_whole else None,
        )
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def age(seconds: float | None) -> str | None:
    """Return the text for a duration; None if it is unknown.

    >>> age(2.31), age(150), age(7200), age(200_000)
    ('2.3 s', '2 min', '2 h', '2 d')
    """
    if seconds is None:
        return None
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.1f} s"


def since(moment: str) -> float:
    """Return how many seconds ago *moment*, in ISO 8601, was."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
