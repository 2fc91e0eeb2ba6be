"""Checks of what lies between this process and a store: breakers, failed commits, spools, outboxes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..commits.breaker import Breaker
from ..constants import PASS, WARN
from ..exceptions import BackendError
from ..gator import Gator
from .entries import Checks, Entries
from .probe import explain

if TYPE_CHECKING:
    from ..commits.relay import Relay
    from ..commits.spool import Content, Spool

FAILURE_SECONDS = 60.0
"""How long a failed commit is a warning."""

WAITING_SECONDS = 60.0
"""How long a commit may wait in an outbox before it is a warning."""

STUCK_SECONDS = 300.0
"""How long a task may wait in a spool before it is a warning."""


class CommitChecks(NamedTuple):
    """The checks, and whether tasks are accepted while the store cannot be reached."""

    checks: Checks
    is_spooled: bool


def check_commits(gators: Sequence[Gator], entries: Entries) -> CommitChecks:
    """Check what the gators of one store have in this process; this works without the store."""
    checks: Checks = {}
    for breaker in [gator.breaker for gator in gators]:
        if breaker is not None:
            checks.setdefault("commits:breaker", []).append(_check_breaker(breaker, entries))
    checks["commits:failed"] = [_check_failures(gators, entries)]
    for relay in dict.fromkeys(relay for gator in gators for relay in gator.relays):
        _check_outbox(relay, entries, checks)
    spools = {gator.spool.path: gator.spool for gator in gators if gator.spool}
    usable = [_check_spool(spool, entries, checks) for spool in spools.values()]
    return CommitChecks(checks, all(usable) and all(gator.spool for gator in gators))


def _check_breaker(breaker: Breaker, entries: Entries) -> dict[str, Any]:
    if not breaker.is_open:
        return entries.make(PASS, observedValue="closed")
    output = (
        f"the store did not answer: pushes fail at once for {breaker.retry_after:.0f} s more, "
        "then one push tries the store"
    )
    return entries.make(WARN, output, observedValue="open")


def _check_failures(gators: Sequence[Gator], entries: Entries) -> dict[str, Any]:
    count = sum(gator.counters.failed_within(FAILURE_SECONDS) for gator in gators)
    output = "tasks could not be queued in the last minute" if count else ""
    return entries.warn_if(output, observedValue=count, observedUnit="tasks")


def _check_outbox(relay: "Relay", entries: Entries, checks: Checks) -> None:
    """Add the checks of the outbox of *relay* to *checks*, as it was at its last scan."""
    content = relay.content
    output = "" if relay.problem is None else str(relay.problem)
    depth = entries.warn_if(output, observedValue=content.commits, observedUnit="commits")
    output = ""
    if content.age > WAITING_SECONDS:
        output = (
            f"commits have waited in the application's database for {content.age:,.0f} s: the log says "
            "why they cannot be relayed to the store"
        )
    age = entries.warn_if(output, observedValue=round(content.age, 3), observedUnit="s")
    output = ""
    if content.refused:
        output = (
            f"the store refused {content.refused} commits of the application's database, or they "
            "cannot be read: latergator outbox status shows them"
        )
    refused = entries.warn_if(output, observedValue=content.refused, observedUnit="commits")
    for name, entry in (("depth", depth), ("oldestAge", age), ("refused", refused)):
        checks.setdefault(f"outbox:{name}", []).append(entry)


def _check_spool(spool: "Spool", entries: Entries, checks: Checks) -> bool:
    """Add the checks of *spool* to *checks*; return whether it accepts tasks."""
    depth = checks.setdefault("spool:depth", [])
    age = checks.setdefault("spool:oldestAge", [])
    try:
        spool.wake()
        content, warnings = spool.content(), spool.warnings()
    except BackendError as error:
        depth.append(entries.make(WARN, explain(error)))
        return False
    full = spool.why_full(content)
    waiting = "tasks wait on this machine for their store" if content.tasks else ""
    output = " ".join(filter(None, [full or waiting, *warnings]))
    depth.append(entries.warn_if(output, observedValue=content.tasks, observedUnit="tasks"))
    age.append(_check_age(content, entries))
    checks.setdefault("spool:failing", []).append(_check_refused(content, entries))
    return not full


def _check_age(content: "Content", entries: Entries) -> dict[str, Any]:
    output = ""
    if content.age > STUCK_SECONDS:
        output = (
            f"tasks have waited on this machine for {content.age:,.0f} s: the log says why they "
            "cannot be sent to their store"
        )
    return entries.warn_if(output, observedValue=round(content.age, 3), observedUnit="s")


def _check_refused(content: "Content", entries: Entries) -> dict[str, Any]:
    output = ""
    if content.failing:
        output = (
            f"the store answers, but does not accept {content.failing} of the commits that wait on "
            "this machine, or they cannot be read: the log says why"
        )
    return entries.warn_if(output, observedValue=content.failing, observedUnit="commits")
