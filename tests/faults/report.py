"""The table of results, for a terminal and for the documentation."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from tests.faults.catalogue import FAULTS, Row

BEGIN, END = "<!-- the table of python -m tests.faults -->", "<!-- the end of the table -->"

COLUMNS = (
    *("fault", "store", "injected", "tasks", "lost", "run twice"),
    *("rejected but run", "unknown", "recovery"),
)

STORES = {
    "sqlite": "SQLite",
    "redis": "Valkey, AOF everysec",
    "redis-always": "Valkey, AOF always",
    "redis-none": "Valkey, no AOF",
    "redis-6": "Redis 6.2, AOF always",
    "redis-sentinel": "Valkey, Sentinels",
    "redis-cluster": "Valkey, cluster",
    "redis-replicas": "Valkey, cluster with replicas",
    "postgres": "PostgreSQL",
    "sqs": "SQS (moto)",
}


def cells(row: Row, store: str) -> list[str]:
    """Return a row as text."""
    recovery = "-" if row.recovery is None else f"{row.recovery:.1f} s"
    numbers = row.injections, row.tasks, row.lost, row.duplicated, row.rejected_but_run, row.unknown
    return [row.fault, store, *map(str, numbers), recovery]


def show(rows: Sequence[Row], console: Console) -> None:
    """Print the table and the notes."""
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
    """Return the table, the descriptions of the faults and the notes as Markdown."""
    head = f"Seed {seed}.\n\n| {' | '.join(COLUMNS)} |\n|---|---|{'---:|' * (len(COLUMNS) - 2)}"
    body = "\n".join(f"| {' | '.join(cells(row, STORES[row.kind]))} |" for row in rows)
    names = list(dict.fromkeys(row.fault for row in rows))
    about = "\n".join(f"- **{name}**: {FAULTS[name].about}" for name in names)
    notes = "\n".join(
        f"- {row.fault}, {STORES[row.kind]}: {note}" for row in rows for note in row.notes
    )
    return f"{head}\n{body}\n\nThe faults:\n\n{about}\n\nNotes:\n\n{notes}\n"


def write(path: Path, text: str) -> None:
    """Replace the table in a page by *text*."""
    page = path.read_text("utf-8")
    between = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.S)
    if not between.search(page):
        raise SystemExit(f"{path} has no place for the table: {BEGIN} … {END}")
    path.write_text(between.sub(lambda _: f"{BEGIN}\n{text}{END}", page), "utf-8")
