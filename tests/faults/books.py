"""The books: what the client was answered and what ran, and whether that is as it was promised."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from alligator.backends.base import QueueStats
from alligator.constants import MAX_LOST

BUDGET_SECONDS = 2.0
"""What a commit may take with everything."""
SLACK_SECONDS = 3.0
"""What a busy machine may add to it."""

REFUSED = -1
"""The answer of a server that is not there: nothing was sent."""
BROKEN = 0
"""The answer when the connection broke: nobody can tell."""


class Answer(NamedTuple):
    """What a client was told of its tasks."""

    ids: tuple[str, ...]
    status: int
    """Of HTTP, or `REFUSED`, or `BROKEN`."""
    seconds: float = 0.0


class Run(NamedTuple):
    """One time that a task was begun."""

    pid: int
    began: float
    ended: bool


class Books:
    """What was answered, kept in memory, and what ran, kept in a file by the tasks themselves."""

    def __init__(self, ledger: Path) -> None:
        self.ledger = ledger
        self.answers: list[Answer] = []

    def ids(self, *, since: int = 0) -> dict[str, int]:
        """Tell of each task how its request was answered."""
        return {name: each.status for each in self.answers[since:] for name in each.ids}

    def accepted(self) -> set[str]:
        """Name the tasks of which a client knows that they were taken."""
        return {name for name, status in self.ids().items() if 200 <= status < 400}

    def refused(self) -> set[str]:
        """Name the tasks of which a client knows that they were not taken."""
        return {name for name, status in self.ids().items() if status >= 400 or status == REFUSED}

    def unknown(self) -> set[str]:
        """Name the tasks of which a client knows nothing."""
        return {name for name, status in self.ids().items() if status == BROKEN}

    def lines(self) -> list[list[str]]:
        """Read the ledger of runs."""
        if not self.ledger.exists():
            return []
        # The last line may be half written.
        return [line.split() for line in self.ledger.read_text().splitlines(True) if "\n" in line]

    def runs(self) -> dict[str, list[Run]]:
        """Tell of each task when and where it was begun, the first time first."""
        found: defaultdict[str, list[Run]] = defaultdict(list)
        for word, name, pid, moment in self.lines():
            if word == "begin":
                found[name].append(Run(int(pid), float(moment), False))
                continue
            for place, run in enumerate(found[name]):
                if run.pid == int(pid) and not run.ended:
                    found[name][place] = run._replace(ended=True)
                    break
        return dict(found)

    def ended(self) -> set[str]:
        """Name the tasks that came to their end."""
        return {name for word, name, *_ in self.lines() if word == "end"}


class Findings(NamedTuple):
    """What the books say once all is quiet."""

    tasks: int
    lost: set[str]
    contrary: set[str]
    """Those that ran or are queued though the client was told that they are not."""
    duplicated: int
    unknown: int
    broken: list[str]
    """The invariants that do not hold, in words."""


def audit(
    books: Books,
    census: Mapping[str, str],
    stats: QueueStats,
    *,
    struck: Collection[int] = (),
    outages: int = 0,
    extra: Collection[str] = (),
    doomed: Collection[str] = (),
    forgets: bool = False,
    lossy: bool = False,
    counts: bool = True,
) -> Findings:
    """Hold the books against what was promised.

    *struck* are the processes that were killed or frozen, *outages* how often the store was away,
    *extra* tasks that came there past the client, and *doomed* those that are to be dead. A store
    that *forgets* is only measured. So is, on a *lossy* network, what ran though it was refused, and
    how often tasks ran on a store that *counts* neither tasks nor leases.
    """
    runs, ended = books.runs(), books.ended()
    known = {*runs, *census}
    lost = books.accepted() - ended - census.keys()
    contrary = books.refused() & known
    again = {name: len(each) - 1 for name, each in runs.items() if len(each) > 1}
    broken = [] if forgets else [f"I1: {_some(lost)} were accepted and are gone"] * bool(lost)
    if contrary and not lossy:
        broken.append(f"I2: {_some(contrary)} were refused and ran or are queued")
    stranger = known - books.ids().keys() - {*extra}
    if stranger:
        broken.append(f"I2: {_some(stranger)} were never sent")
    dead = {name for name, state in census.items() if state == "dead"}
    if dead != {*doomed}:
        broken.append(f"I1: {_some(dead ^ {*doomed})} are dead, or not, and should not be so")

    for name, each in runs.items() if counts else ():
        excused = (
            outages + sum(run.pid in struck for run in each[:-1]) + MAX_LOST * (name in doomed)
        )
        if len(each) > 1 + excused:
            broken.append(f"I3: {name} ran {len(each)} times, {excused} of them excused")
    if counts and not forgets:
        if sum(again.values()) > stats.lost + stats.retried:
            broken.append(
                f"I3: {sum(again.values())} runs too many, {stats.lost} leases lost, "
                f"{stats.retried} attempts failed"
            )
        broken += _recount(census, stats, known, ended)
    slow = [each for each in books.answers if each.seconds > BUDGET_SECONDS + SLACK_SECONDS]
    if slow:
        worst = max(slow, key=lambda each: each.seconds)
        broken.append(f"I5: {len(slow)} answers were late, {worst.seconds:.1f} s the latest")
    return Findings(
        len(known | books.ids().keys()),
        lost,
        contrary,
        sum(again.values()),
        len(books.unknown()),
        broken,
    )


def _recount(
    census: Mapping[str, str], stats: QueueStats, known: set[str], ended: set[str]
) -> list[str]:
    """Compare the counters with a count."""
    states = Counter(census.values())
    expected = {state: states[state] for state in ("ready", "scheduled", "leased", "dead")}
    expected["pushed"] = len(known)
    expected["succeeded"] = len(ended - census.keys())
    expected["canceled"] = expected["dropped"] = 0
    broken = [
        f"I4: {name} is {getattr(stats, name)}, counted are {number}"
        for name, number in expected.items()
        if getattr(stats, name) != number
    ]
    gone = stats.succeeded + stats.canceled + stats.dropped
    if stats.pushed != gone + stats.ready + stats.scheduled + stats.leased + stats.dead:
        broken.append(f"I4: the counters do not add up: {stats}")
    return broken


def _some(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:5])
    return f"{len(names)} tasks ({shown}{', …' if len(names) > 5 else ''})"
