"""Kill, freeze and disconnect web servers, workers and stores: ``python -m tests.faults --help``."""

import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.faults import catalogue, commit_mutants, mutants, registry, report
from tests.faults.catalogue import FAULTS, Row, run_fault
from tests.harness.programs import accept_signals
from tests.harness.store_servers import Missing

__all__ = ["main", "registry"]


@click.command()
@click.option(
    "--seed", type=int, help="Seed of the random numbers; a new one each time by default."
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Run this fault, or those whose names begin with NAME.",
)
@click.option(
    "--store",
    type=click.Choice(list(report.STORES)),
    help="Run on this store only, or on those whose names begin so.",
)
@click.option(
    "--seconds", default=catalogue.SOAK_SECONDS, show_default=True, help="Duration of the soak."
)
@click.option(
    "--markdown",
    type=click.Path(path_type=Path),
    help="Write the table into this page if no rule is violated.",
)
@click.option("--list", "listing", is_flag=True, help="List the faults.")
@click.option(
    "--mutants", "mutating", is_flag=True, help="Test the tests with broken code instead."
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
    """Inject faults into a running Alligator, and check its guarantees."""
    accept_signals()
    console = Console()
    if not console.is_terminal:
        console.width = 140
    if mutating:
        sys.exit(mutants.try_all(console) + commit_mutants.try_all(console))
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
    """Run the faults one after the other, and show the progress."""
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
            try:
                row = run_fault(fault, kind, seed)
            except Missing as missing:
                if "CI" in os.environ:
                    raise
                console.print(f"{fault.name} on {kind}: skipped: {missing}", style="yellow")
                progress.advance(bar)
                continue
            rows.append(row)
            for text in row.broken:
                console.print(f"{fault.name} on {kind}: {text}", style="red", markup=False)
            progress.advance(bar)
    return rows


if __name__ == "__main__":
    main()
