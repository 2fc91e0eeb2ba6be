"""Output of stats and health; any command line can include them."""

from collections.abc import Iterator
from json import dumps
from typing import Any

import click

from ..backends.base import Limit
from ..backends.stats import COUNTERS, STATES
from ..constants import FAIL
from ..gator import Gator
from ..monitoring.health import Health
from ..monitoring.stats import measure
from ..telemetry.logs import escape
from .errors import EXIT_FAILURE
from .limiting import lines_of_keys, waiting_keys
from .source import check_exists
from .tables import age, print_table, since

HEALTH_SECONDS = 2.0
"""How long `health` waits for a store; longer than a probe, because a command has to connect."""


def show_stats(gator: Gator, *, as_json: bool = False) -> None:
    """Print the queues and the workers of the gator's store."""
    check_exists(gator.client)
    document = measure(gator)
    if as_json:
        click.echo(dumps(document, indent=2))
        return
    for each in document["stores"]:
        if each["queues_known"] > len(each["queues"]):
            shown, known = len(each["queues"]), each["queues_known"]
            click.echo(f"{shown:,} of {known:,} queues: those with the most tasks")
    (store,) = document["stores"]
    queues = store["queues"]
    print_table(
        ["queue", *STATES, "oldest"],
        [
            [queue["name"], *(queue[state] for state in STATES), age(queue["oldest_age"])]
            for queue in queues
        ],
    )
    for queue in queues:
        if queue["paused"]:
            end = age(queue["resumes_in"])
            click.echo(f"{escape(queue['name'])} is paused{f' for {end} more' if end else ''}")
        if queue["limit"]:
            waiting = f"; {queue['limited']:,} wait for it" if queue["limited"] else ""
            click.echo(f"{escape(queue['name'])}: {Limit(**queue['limit'])}{waiting}")
        for line in _lines_of_keys(queue["name"], queue["limit_keys"] or {}):
            click.echo(line)
    click.echo()
    print_table(
        ["queue", *COUNTERS],
        [
            [queue["name"], *(queue["counters"][counter] for counter in COUNTERS)]
            for queue in queues
        ],
    )
    click.echo()
    if not store["workers"]:
        click.echo("No worker has sent a heartbeat.")
        return
    print_table(
        ["worker", "queues", "age", "seen", "running"],
        [
            [
                worker["name"],
                ", ".join(worker["queues"]),
                age(since(worker["started"])),
                f"{age(worker['seen_ago'])} ago",
                ", ".join(running["function"] for running in worker["running"]),
            ]
            for worker in store["workers"]
        ],
    )


def _lines_of_keys(name: str, keys: dict[str, Any]) -> Iterator[str]:
    if keys:
        yield from waiting_keys(name, keys["waiting"], keys["limited"], keys["limited_keys"])
        limits = {key: Limit(**limit) for key, limit in keys["limits"].items()}
        yield from lines_of_keys(name, limits, keys["limits_known"])


def show_health(source: Gator | Health, *, as_json: bool = False) -> int:
    """Print the health of a gator, or a program's own `Health`; return 1 if it fails, else 0."""
    health = Health(source) if isinstance(source, Gator) else source
    check_exists(*(store.client for store in health.stores))
    health.timeout = max(health.timeout, HEALTH_SECONDS)
    verdict = health.verdict()
    if as_json:
        click.echo(dumps(verdict.document(), indent=2))
    else:
        click.echo(verdict.status)
        for note in verdict.notes:
            click.echo(escape(note))
        for name, entries in verdict.checks.items():
            for entry in entries:
                parts = [_measured(entry), entry.get("output", "")]
                text = ": ".join(part for part in parts if part) or "ok"
                click.echo(escape(f"  {entry['status']}  {name}  {text}"))
    return EXIT_FAILURE if verdict.status == FAIL else 0


def _measured(entry: dict[str, Any]) -> str:
    """Return the measured value of a check, such as "1 worker"; empty if there is none."""
    value, unit = entry.get("observedValue", ""), entry.get("observedUnit", "")
    if value == 1 and unit in ("workers", "tasks"):
        unit = unit.removesuffix("s")
    return f"{value} {unit}".strip()
