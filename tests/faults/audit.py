"""The audit: compare the responses that clients got with the tasks that ran."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import NamedTuple

from alligator.backends.base import QueueStats
from alligator.constants import MAX_LOST

BUDGET_SECONDS = 2.0
"""How long a commit may take in total."""
SLACK_SECONDS = 3.0
"""The tolerance for a busy machine."""

EVERYSEC_SECONDS = 2.0
"""How much a server with ``appendfsync everysec`` may lose when it is killed: while an fsync runs it
answers, and puts off for so long to write."""

REFUSED = -1
"""The status if no server accepted the connection: nothing was sent."""
BROKEN = 0
"""The status if the connection broke: the outcome is unknown."""


class Answer(NamedTuple):
    """The response to a request for tasks."""

    ids: tuple[str, ...]
    status: int
    """The HTTP status, or `REFUSED`, or `BROKEN`."""
    seconds: float = 0.0
    sent: float = 0.0
    """When the request was sent, by `time.monotonic`."""


class Run(NamedTuple):
    """One run of a task."""

    pid: int
    began: float
    ended: float | None = None
    """None if it did not end."""


class Pause(NamedTuple):
    """A time in which a worker extended no lease, longer than a lease: the machine was busy."""

    pid: int
    start: float
    end: float


class AuditLog:
    """All responses, in memory, and all runs, in a file that the tasks write."""

    def __init__(self, ledger: Path) -> None:
        self.ledger = ledger
        self.answers: list[Answer] = []

    def ids(self, *, since: int = 0) -> dict[str, int]:
        """Return the status of each task's request."""
        return {name: each.status for each in self.answers[since:] for name in each.ids}

    def accepted(self) -> set[str]:
        """Return the tasks whose request succeeded."""
        return {name for name, status in self.ids().items() if 200 <= status < 400}

    def refused(self) -> set[str]:
        """Return the tasks whose request failed."""
        return {name for name, status in self.ids().items() if status >= 400 or status == REFUSED}

    def unknown(self) -> set[str]:
        """Return the tasks whose outcome is unknown to the client."""
        return {name for name, status in self.ids().items() if status == BROKEN}

    def lines(self) -> list[list[str]]:
        """Return the lines of the ledger."""
        if not self.ledger.exists():
            return []
        # The last line may be half written.
        return [line.split() for line in self.ledger.read_text().splitlines(True) if "\n" in line]

    def runs(self) -> dict[str, list[Run]]:
        """Return the runs of each task in their order."""
        found: defaultdict[str, list[Run]] = defaultdict(list)
        for word, name, pid, moment in self.lines():
            if word == "begin":
                found[name].append(Run(int(pid), float(moment)))
                continue
            for place, run in enumerate(found[name]):
                if run.pid == int(pid) and run.ended is None:
                    found[name][place] = run._replace(ended=float(moment))
                    break
        return dict(found)

    def pauses(self) -> list[Pause]:
        """Return when the heartbeats of workers were late; see `tests.faults.worker`."""
        path = self.ledger.with_suffix(".pauses")
        words = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [Pause(int(pid), float(start), float(end)) for pid, start, end in words]

    def last_leases(self) -> list[Pause]:
        """Return from when on each worker had no lease that it had extended."""
        pattern = f"{self.ledger.stem}.*.end"
        files = [(each.stem.rpartition(".")[2], each) for each in self.ledger.parent.glob(pattern)]
        return [Pause(int(pid), float(each.read_text()), inf) for pid, each in files]

    def ended(self) -> set[str]:
        """Return the tasks that finished."""
        return {name for word, name, *_ in self.lines() if word == "end"}


class Findings(NamedTuple):
    """The result of the audit."""

    tasks: int
    lost: set[str]
    rejected_but_run: set[str]
    """Tasks that ran or are queued although their request failed."""
    duplicated: int
    unknown: int
    broken: list[str]
    """Descriptions of the violated rules."""


def audit(
    audit_log: AuditLog,
    census: Mapping[str, str],
    stats: QueueStats,
    *,
    killed_or_frozen: Collection[int] = (),
    outages: int = 0,
    extra: Collection[str] = (),
    doomed: Collection[str] = (),
    forgets: bool = False,
    lossy: bool = False,
    counts: bool = True,
    killed: Collection[tuple[float, float]] = (),
    outage_times: Collection[tuple[float, float]] = (),
    forgets_reports: bool = False,
    spools: bool = False,
) -> Findings:
    """Compare the log with the guarantees.

    *killed_or_frozen* are the processes that were, *outages* is how often the store was down,
    *extra* are tasks that were queued without the client, and *doomed* tasks that must be dead
    letters. A store that *forgets* is only measured. On a *lossy* network, tasks that ran although
    they were rejected are only measured, and so are additional runs on a store that *counts*
    neither tasks nor leases. A store that was *killed* at these times (start, end), and syncs its
    disk each second, may have lost the tasks of its last seconds; so may a store whose replica was
    promoted then. In an outage (start, end) that lasts longer than a commit may take, a commit can
    be neither confirmed nor undone in time: of its tasks, those that ran although they were
    rejected are only measured. A store that *forgets_reports* when it crashes keeps its tasks, but
    not the last leases and acks: a task may run again after an outage, and the store knows of no
    lost lease. The push of a request that failed may be undone then although its tasks have run: the
    store does not count them. A web server that *spools* pushes a commit again that the store had
    accepted without a reply, also if a worker has run its tasks since: the store then counts them
    twice.
    """
    runs, ended = audit_log.runs(), audit_log.ended()
    known = {*runs, *census}
    lost = audit_log.accepted() - ended - census.keys()
    rejected_but_run = audit_log.refused() & known
    again = {name: len(each) - 1 for name, each in runs.items() if len(each) > 1}
    late = {name for each in audit_log.answers if _is_late(each, killed) for name in each.ids}
    broken = []
    if lost - late and not forgets:
        broken.append(f"I1: {_some(lost - late)} were accepted and were lost")
    forgets = forgets or bool(killed)
    unsettled = {
        name for each in audit_log.answers if _is_unsettled(each, outage_times) for name in each.ids
    }
    if rejected_but_run - unsettled and not lossy:
        broken.append(
            f"I2: {_some(rejected_but_run - unsettled)} were rejected, but ran or are queued"
        )
    other = known - audit_log.ids().keys() - {*extra}
    if other:
        broken.append(f"I2: {_some(other)} were never sent")
    dead = {name for name, state in census.items() if state == "dead"}
    if dead != {*doomed}:
        broken.append(f"I1: {_some(dead ^ {*doomed})} are wrongly dead letters, or wrongly not")

    pauses = audit_log.pauses()
    held_up = {*killed_or_frozen}
    for name, each in runs.items() if counts else ():
        with_reason = (
            outages
            + sum(run.pid in killed_or_frozen for run in each[:-1])
            + MAX_LOST * (name in doomed)
        )
        if len(each) > 1 + with_reason:
            with_reason += _expired(each, killed_or_frozen, pauses)
        if len(each) > 1 + with_reason and each[-1].pid in held_up:
            # It was frozen after it had checked the lease, just before the task began: one a process.
            held_up.remove(each[-1].pid)
            with_reason += 1
        if len(each) > 1 + with_reason:
            broken.append(f"I3: {name} ran {len(each)} times, {with_reason} of them with a reason")
    if counts and not forgets:
        unexplained = max(0, sum(again.values()) - stats.lost - stats.retried)
        if unexplained and not forgets_reports and not spools:
            broken.append(
                f"I3: {sum(again.values())} additional runs, {stats.lost} leases lost, "
                f"{stats.retried} attempts failed"
            )
        pushed_again = unexplained if spools else 0
        if forgets_reports:
            undone = (audit_log.refused() | audit_log.unknown()) & ended - census.keys()
            pushed_again = -min(len(undone), max(0, len(known) - stats.pushed))
        broken += _recount(census, stats, known, ended, pushed_again=pushed_again)
    slow = [each for each in audit_log.answers if each.seconds > BUDGET_SECONDS + SLACK_SECONDS]
    if slow:
        worst = max(slow, key=lambda each: each.seconds)
        broken.append(f"I5: {len(slow)} responses were late, {worst.seconds:.1f} s the slowest")
    return Findings(
        len(known | audit_log.ids().keys()),
        lost,
        rejected_but_run,
        sum(again.values()),
        len(audit_log.unknown()),
        broken,
    )


def _expired(runs: Sequence[Run], known: Collection[int], pauses: Sequence[Pause]) -> int:
    """Return how many of *runs* were followed by another one because the heartbeat was late.

    Not those of the processes that are *known* to have been killed or frozen.
    """
    return sum(
        any(
            pause.pid == run.pid and run.began <= pause.end and following.began >= pause.start
            for pause in pauses
        )
        for run, following in pairwise(runs)
        if run.pid not in known
    )


def _is_late(answer: Answer, killed: Collection[tuple[float, float]]) -> bool:
    """Return whether a store may have accepted the task in the last seconds before it was killed."""
    return any(
        answer.sent <= until and answer.sent + answer.seconds >= since - EVERYSEC_SECONDS - 1
        for since, until in killed
    )


def _is_unsettled(answer: Answer, outage_times: Collection[tuple[float, float]]) -> bool:
    """Return whether the whole time of a commit went by while the store was down."""
    return answer.seconds >= BUDGET_SECONDS - 0.5 and any(
        answer.sent <= end and answer.sent + answer.seconds >= start for start, end in outage_times
    )


def _recount(
    census: Mapping[str, str],
    stats: QueueStats,
    known: set[str],
    ended: set[str],
    *,
    pushed_again: int,
) -> list[str]:
    """Compare the counters of the store with the tasks that were counted."""
    states = Counter(census.values())
    expected = {state: states[state] for state in ("ready", "scheduled", "leased", "dead")}
    expected["pushed"] = len(known) + pushed_again
    expected["succeeded"] = len(ended - census.keys()) + pushed_again
    expected["canceled"] = expected["dropped"] = 0
    broken = [
        f"I4: {name} is {getattr(stats, name)}, but {number} were counted"
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
