"""Show how a store is, for any command line."""

from json import dumps

import click

from ..backends.figures import COUNTERS, STATES
from ..constants import FAIL
from ..gator import Gator
from ..health import Health
from ..logs import escape
from ..stats import measure
from .errors import EXIT_FAILURE
from .tables import age, print_table

HEALTH_SECONDS = 2.0
"""How long `health` waits for a store: a command connects anew, through TLS perhaps."""


def show_stats(gator: Gator, *, as_json: bool = False) -> None:
    """Print what is on the queues of the gator's store, and who works on them."""
    document = measure(gator)
    if as_json:
        click.echo(dumps(document, indent=2))
        return
    (store,) = document["stores"]
    print_table(
        ["queue", *STATES, "oldest", *COUNTERS],
        [
            [
                queue["name"],
                *(queue[state] for state in STATES),
                age(queue["oldest_age"]),
                *(queue["counters"][counter] for counter in COUNTERS),
            ]
            for queue in store["queues"]
        ],
    )
    if not store["workers"]:
        click.echo("No worker has given a sign of life.")
        return
    print_table(
        ["worker", "queues", "started", "seen", "running"],
        [
            [
                worker["name"],
                ", ".join(worker["queues"]),
                worker["started"],
                f"{age(worker['seen_ago'])} ago",
                ", ".join(running["function"] for running in worker["running"]),
            ]
            for worker in store["workers"]
        ],
    )


def show_health(asked: Gator | Health, *, as_json: bool = False) -> int:
    """Print how the store is, and return the exit status: 1 when it fails.

    A health of the program's own is asked with its limits and checks.
    """
    health = Health(asked) if isinstance(asked, Gator) else asked
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
                value = f"{entry.get('observedValue', '')} {entry.get('observedUnit', '')}".strip()
                said = ": ".join(part for part in (value, entry.get("output", "")) if part)
                click.echo(escape(f"  {entry['status']}  {name}  {said}").rstrip())
    return EXIT_FAILURE if verdict.status == FAIL else 0
