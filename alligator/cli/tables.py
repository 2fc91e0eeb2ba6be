"""Print what may come from anybody as a table."""

from collections.abc import Sequence

from ..logs import escape

PIPE_WIDTH = 200
"""How wide tables are that do not go to a terminal, in characters."""


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table, of values that may come from anybody; its first column is kept in one piece."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPE_WIDTH)
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(columns):
        is_number = any(isinstance(row[number], int | float) for row in rows)
        table.add_column(
            name,
            justify="right" if is_number else "left",
            no_wrap=number == 0,
            overflow="fold",
            min_width=max(len(str(row[0])) for row in rows) if rows and number == 0 else None,
        )
    for row in rows:
        table.add_row(*(Text("-" if value is None else escape(str(value))) for value in row))
    console.print(table)


def age(seconds: float | None) -> str | None:
    """Write a duration for people; None when it is not known.

    >>> age(2.31), age(150), age(7200), age(200_000)
    ('2.3 s', '2 min', '2 h', '2 d')
    """
    if seconds is None:
        return None
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.1f} s"
