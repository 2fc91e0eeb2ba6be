"""Faults of those who keep a timetable: many workers, whose clocks differ, are killed and restarted."""

import os
import signal
from datetime import datetime
from time import monotonic

from tests.faults.cases.soak import BREAK
from tests.faults.catalogue import fault
from tests.faults.harness import Broken, Harness, eventually
from tests.faults.timetable import OFFSET

TICK_SECONDS = float(os.environ.get("TICK_SECONDS", "12"))
"""How long the faults go on."""

WORKERS = 20
APART_SECONDS = 2.0
"""How far the clocks of the workers are apart."""


def start(harness: Harness) -> None:
    """Start another worker, with a clock of its own."""
    offset = harness.random.uniform(-APART_SECONDS / 2, APART_SECONDS / 2)
    harness.worker(TIMETABLE="1", **{OFFSET: str(offset)})


def moments(harness: Harness) -> list[int]:
    """Return the moments of the ticks that ran, in their order."""
    return sorted(
        int(datetime.fromisoformat(name.partition("@")[2]).timestamp())
        for name in harness.audit_log.runs()
    )


@fault("sqlite", "redis-always", "postgres")
def schedules_kept(harness: Harness) -> None:
    """Let 20 workers, whose clocks are up to 2 s apart, keep a schedule of one second; kill them and
    the store: each tick is queued once, and none is missing.
    """
    harness.forgets_reports = harness.kind == "postgres"
    for _ in range(WORKERS):
        start(harness)
    eventually(lambda: moments(harness), "a tick has run", 90)
    end = monotonic() + TICK_SECONDS
    while monotonic() < end:
        harness.pause(0.2, 1.5)
        if harness.random.random() < 0.3:
            BREAK[harness.kind](harness)
        else:
            victim = harness.workers.pop(harness.random.randrange(len(harness.workers)))
            harness.signal_worker(victim, signal.SIGKILL)
            start(harness)
    for process in harness.workers:
        harness.signal_worker(process, signal.SIGTERM)
    harness.worker()  # which knows of no schedule, and runs what is left
    harness.extra |= harness.store.census().keys() | harness.audit_log.runs().keys()
    harness.drain()
    check(harness)


def check(harness: Harness) -> None:
    """Check that no tick is missing, and that each was queued once."""
    ran = moments(harness)
    missing = sorted({*range(ran[0], ran[-1] + 1)} - {*ran})
    if missing:
        raise Broken(f"I1: {len(missing)} of {len(ran)} ticks are missing: {missing[:5]}")
    if len(ran) < TICK_SECONDS / 2:
        raise Broken(f"I5: there were only {len(ran)} ticks in {TICK_SECONDS:.0f} s")
    # Each has a task id of its own, so that one that was queued twice would be counted here.
    pushed = harness.gator.stats().pushed
    if pushed != len(ran):
        raise Broken(f"I3: {len(ran)} ticks were queued {pushed} times")
    (record,) = harness.gator.client.schedules()
    if record.ran != ran[-1]:
        raise Broken(f"I1: the store knows of the tick {record.ran}, but {ran[-1]} ran")
    harness.notes.append(f"{len(ran)} ticks, {harness.injections} faults")
