"""Kill, freeze and cut web servers, workers and stores: ``python -m tests.faults --help``."""

import random
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.faults import catalogue, every, mutants, report
from tests.faults.catalogue import FAULTS, Row, suffer

__all__ = ["every", "main"]


@click.command()
@click.option("--seed", type=int, help="What chance depends on; another each time by default.")
@click.option(
    "--only", multiple=True, metavar="NAME", help="This fault, or those whose names begin so."
)
@click.option(
    "--store", type=click.Choice(["sqlite", "redis", "sqs"]), help="On this kind of store only."
)
@click.option(
    "--seconds", default=catalogue.SOAK_SECONDS, show_default=True, help="How long the soak lasts."
)
@click.option(
    "--markdown",
    type=click.Path(path_type=Path),
    help="Write the table into this page, if all is well.",
)
@click.option("--list", "listing", is_flag=True, help="Only say which faults there are.")
@click.option(
    "--mutants", "mutating", is_flag=True, help="Try the tests on broken scripts instead."
)
def main(
    seed: int | None,
    only: Sequence[str],
    store: str | None,
    seconds: float,
    markdown: Path | None,
    listing: bool,
    mutating: bool,
) -> None:
    """Do everything to Alligator that may happen to it, and see whether its promise holds."""
    console = Console()
    if not console.is_terminal:
        console.width = 140
    if mutating:
        sys.exit(mutants.try_all(console))
    chosen = [
        (fault, kind)
        for fault in FAULTS.values()
        if not only or any(fault.name.startswith(name) for name in only)
        for kind in fault.kinds
        if store is None or kind.startswith(store)
    ]
    if not chosen:
        raise click.UsageError(f"There are these faults: {', '.join(FAULTS)}.")
    if listing:
        for name in dict.fromkeys(fault.name for fault, _ in chosen):
            console.print(f"[bold]{name}[/]: {FAULTS[name].about}")
        return
    seed = random.randrange(1_000_000) if seed is None else seed
    catalogue.SOAK_SECONDS = seconds
    rows = run(chosen, seed, console)
    report.show(rows, console)
    bad = sorted({row.fault for row in rows if row.broken})
    if bad:
        names = " ".join(f"--only {name}" for name in bad)
        console.print(f"[red]To repeat it:[/] python -m tests.faults --seed {seed} {names}")
        sys.exit(1)
    if markdown is not None:
        report.write(markdown, report.markdown(rows, seed))
    console.print(f"Every invariant held (seed {seed}).", style="green", markup=False)


def run(chosen: Sequence[tuple[catalogue.Fault, str]], seed: int, console: Console) -> list[Row]:
    """Do one after the other, and show how it goes."""
    rows = []
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        console.print(f"seed {seed}", markup=False)
        bar = progress.add_task("", total=len(chosen))
        for fault, kind in chosen:
            progress.update(bar, description=f"{fault.name} on {report.STORES[kind]}")
            row = suffer(fault, kind, seed)
            rows.append(row)
            for text in row.broken:
                console.print(f"{fault.name} on {kind}: {text}", style="red", markup=False)
            progress.advance(bar)
    return rows


if __name__ == "__main__":
    main()
