"""Compare Alligator with raw limits and other queues: ``python -m tests.benchmarks --help``."""

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.benchmarks import environments, paths, profiles, registry, steps, table
from tests.benchmarks.bench import FULL, QUICK, Bench
from tests.benchmarks.figures import EXPERIMENTS
from tests.benchmarks.running import measure

__all__ = ["main", "registry"]

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--quick", is_flag=True, help="Use smaller sizes, and only the peers of --peer.")
@click.option("--only", multiple=True, metavar="N", help="Run this figure, by its number or name.")
@click.option("--peer", "peers", multiple=True, type=click.Choice([*environments.PEERS, "none"]))
@click.option(
    "--repeats", type=click.IntRange(1), help="Number of repeats; by default 3, or 2 with --quick."
)
@click.option(
    "--json",
    "json_file",
    type=FILE,
    help="Write the results into this file, after each experiment.",
)
@click.option("--markdown", type=FILE, help="Write the table into this page.")
@click.option(
    "--table", "shown", type=FILE, multiple=True, help="Show earlier results; later ones replace."
)
@click.option("--compare", nargs=2, type=FILE, metavar="OLD NEW", help="Compare two runs.")
@click.option("--profile", type=click.Choice([*profiles.PROFILES]), help="Profile a path instead.")
@click.option("--paths", "counting", is_flag=True, help="Count the functions of each path instead.")
@click.option("--steps", "stepping", is_flag=True, help="Time the steps of hot paths instead.")
@click.option("--list", "listing", is_flag=True, help="List the figures.")
def main(
    quick: bool,
    only: Sequence[str],
    peers: Sequence[str],
    repeats: int | None,
    json_file: Path | None,
    markdown: Path | None,
    shown: Sequence[Path],
    compare: tuple[Path, Path] | None,
    profile: str | None,
    counting: bool,
    stepping: bool,
    listing: bool,
) -> None:
    """Compare Alligator with the raw limits and with other queues."""
    console = Console()
    if not console.is_terminal:
        console.width = 200
    experiments = table.chosen(only)
    if not experiments:
        raise click.UsageError(f"There are these: {', '.join(EXPERIMENTS)}.")
    if listing:
        for each in experiments:
            numbers = ", ".join(figure.number for figure in each.figures)
            console.print(f"[bold]{each.name}[/] ({numbers}): {each.about}")
        return
    if compare:
        _compare(console, *(json.loads(path.read_text()) for path in compare))
        return
    # So that what is started from here on is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if profile:
        with Bench(QUICK) as bench:
            profiles.show(bench, profile)
        return
    if counting:
        with Bench(QUICK) as bench:
            paths.show(bench, console)
        return
    if stepping:
        with Bench(QUICK) as bench:
            steps.show(bench, console)
        return
    results: dict[str, Any] = {}
    if shown:
        results = table.merge([json.loads(path.read_text()) for path in shown])
        _keep(results, json_file)
    else:
        names = [name for name in peers or ([] if quick else environments.PEERS) if name != "none"]
        with ExitStack() as stack:
            progress = stack.enter_context(_progress(console))
            pythons = _pythons(names, progress) if names else {}
            bench = stack.enter_context(Bench(QUICK if quick else FULL, pythons))
            repeats = repeats or (2 if quick else 3)
            count = repeats * sum(len(each.shots(bench)) for each in experiments)
            bar = progress.add_task("", total=count)
            progress.advance(bar, -1)  # what is described is yet to be done

            def said(text: str) -> None:
                progress.update(bar, description=text, advance=1)

            for results in measure(bench, experiments, repeats, 0 if quick else 2, said):
                _keep(results, json_file)
    _show(console, results)
    if markdown:
        table.write(markdown, table.markdown(results))


def _keep(results: Mapping[str, Any], path: Path | None) -> None:
    """Write *results* into the file *path*, if there is one."""
    if path:
        path.write_text(json.dumps(results, indent=1) + "\n")


def _pythons(names: Sequence[str], progress: Progress) -> dict[str, Path]:
    """Return the environments, created if necessary; all have the same web servers."""
    bar = progress.add_task("", total=len(names) + 1)
    pythons = {}
    for name in ("alligator", *names):
        progress.update(bar, description=f"environment of {name}")
        python = environments.make(name)
        if python is None:
            oldest = ".".join(map(str, environments.NEEDS[name]))
            progress.console.print(f"{name} is left out: no Python {oldest} is on the PATH.")
        else:
            pythons[name] = python
        progress.advance(bar)
    progress.remove_task(bar)
    return pythons


def _progress(console: Console) -> Progress:
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    return Progress(*columns, console=console, transient=True)


def _show(console: Console, results: dict[str, Any]) -> None:
    shown = Table(*table.HEADINGS)
    for row in table.rows(results):
        cells = [cell.replace("**", "") for cell in row.cells]
        failed = any(met is False for _, met in row.verdicts)
        shown.add_row(*cells, style="red" if failed else None)
    console.print(shown)
    for line in table.notes(results):
        console.print(line, markup=False)
    for name, each in results["experiments"].items():
        for case, text in each["failures"].items():
            console.print(f"{name}: {case}: {text}", style="red", markup=False)


def _compare(console: Console, old: dict[str, Any], new: dict[str, Any]) -> None:
    shown = Table("figure", old["commit"] or "old", new["commit"] or "new", "change", "")
    for cells in table.compare(old, new):
        shown.add_row(*cells, style={"worse": "red", "better": "green"}.get(cells[-1]))
    console.print(shown)


if __name__ == "__main__":
    main()
