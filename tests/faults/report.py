"""The table of what came of the faults: for a terminal, and for the documentation."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from tests.faults.catalogue import FAULTS, Row

BEGIN, END = "<!-- the table of python -m tests.faults -->", "<!-- the end of the table -->"

COLUMNS = (
    *("fault", "store", "strikes", "tasks", "lost", "run twice"),
    *("contrary", "unknown", "recovery"),
)

STORES = {
    "sqlite": "SQLite",
    "redis": "Valkey, AOF everysec",
    "redis-always": "Valkey, AOF always",
    "redis-none": "Valkey, no AOF",
    "redis-sentinel": "Valkey, Sentinels",
    "redis-cluster": "Valkey, cluster",
    "sqs": "SQS (moto)",
}


def cells(row: Row, store: str) -> list[str]:
    """Write a row as text."""
    recovery = "-" if row.recovery is None else f"{row.recovery:.1f} s"
    numbers = row.strikes, row.tasks, row.lost, row.duplicated, row.contrary, row.unknown
    return [row.fault, store, *map(str, numbers), recovery]


def show(rows: Sequence[Row], console: Console) -> None:
    """Print the table, and under it what was noted."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in COLUMNS:
        side: Literal["left", "right"] = "left" if name in ("fault", "store") else "right"
        table.add_column(name, justify=side, no_wrap=True)
    for row in rows:
        table.add_row(*cells(row, row.kind), style="red" if row.broken else "")
    console.print(table)
    for row in rows:
        for note in row.notes:
            console.print(f"{row.fault} on {row.kind}: {note}", style="dim", markup=False)


def markdown(rows: Sequence[Row], seed: int) -> str:
    """Write the table, and what each fault is, in Markdown."""
    head = f"Seed {seed}.\n\n| {' | '.join(COLUMNS)} |\n|---|---|{'---:|' * (len(COLUMNS) - 2)}"
    body = "\n".join(f"| {' | '.join(cells(row, STORES[row.kind]))} |" for row in rows)
    names = list(dict.fromkeys(row.fault for row in rows))
    about = "\n".join(f"- **{name}**: {FAULTS[name].about}" for name in names)
    notes = "\n".join(
        f"- {row.fault}, {STORES[row.kind]}: {note}" for row in rows for note in row.notes
    )
    return f"{head}\n{body}\n\nWhat was done:\n\n{about}\n\nNoted on the way:\n\n{notes}\n"


def write(path: Path, text: str) -> None:
    """Put *text* in the place of the table in a page."""
    page = path.read_text("utf-8")
    between = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.S)
    if not between.search(page):
        raise SystemExit(f"{path} has no place for the table: {BEGIN} … {END}")
    path.write_text(between.sub(lambda _: f"{BEGIN}\n{text}{END}", page), "utf-8")
