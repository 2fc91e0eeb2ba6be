"""What the model of a store knows of tasks, batches and queues; its rules are in `test_model`."""

from collections import Counter
from dataclasses import dataclass, field
from math import inf

from alligator.backends.base import Lease, Limit
from alligator.backends.limits import EACH
from alligator.backends.unique import Unique

WAITING = "ready", "scheduled"


@dataclass
class Batch:
    """What the model knows of the tasks of a commit with follow-ups."""

    follow_ups: list[tuple[str, str, str, int, str | None]]
    """The queue, id, data, priority and limit key of each."""
    tasks: int = 0
    left: int = 0
    dead: int = 0
    queued: list["Entry"] = field(default_factory=list)


@dataclass(eq=False)
class Entry:
    """What the model knows of one push of a task."""

    queue: "Queue"
    task_id: str
    data: str
    number: int
    """The call that pushed it: of two with one id the higher is the newer."""
    priority: int = 0
    limit_key: str | None = None
    state: str = ""
    lost: int = 0
    lease: Lease | None = None
    was_leased: bool = False
    expired: bool = False
    alone: bool = False
    suspect: bool = False
    early: bool = False
    """Whether it was leased by its id before its time."""
    anywhere: bool = False
    unique: Unique | None = None
    """Its key; None if it is dead, or was."""
    batch: Batch | None = None
    """What counts it; None if it is settled."""
    replaced: "Entry | None" = None
    """The task that it has replaced."""
    replaced_by: "Entry | None" = None
    before: str = ""
    """Its state when it was replaced."""
    died: int = 0
    since: tuple[int, int] = (0, 0)
    """The call that made it ready, and its place in that call where there is one."""


@dataclass
class Queue:
    """What the model knows of a queue."""

    tasks: list[Entry] = field(default_factory=list)
    done: dict[str, str] = field(default_factory=dict)
    """The keys that are held by the ids of tasks that are done."""
    paused: float = 0.0
    """For how long; these histories take no such time."""
    limit: Limit | None = None
    begun: int = 0
    """How many were reserved since it has a number of starts."""
    key_limits: dict[str, Limit] = field(default_factory=dict)
    key_begun: Counter[str] = field(default_factory=Counter)
    """How many of each key were reserved while it had a number of starts."""
    has_lines: bool = False
    """Whether it had tasks with limit keys before a step. If the step itself queues the first one, as
    a follow-up, that may have its turn only in the next step."""
    passed_by: dict[tuple[int, str | None], set[str | None]] = field(default_factory=dict)
    """Which keys had a turn since that of this priority and key waits for its turn."""
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            (
                *("pushed", "succeeded", "failed", "retried", "lost", "canceled", "dropped"),
                *("died", "expired"),
            ),
            0,
        )
    )

    def ready(self) -> list[Entry]:
        return [entry for entry in self.tasks if entry.state == "ready"]

    def limit_of(self, key: str | None) -> Limit | None:
        return None if key is None else self.key_limits.get(key, self.key_limits.get(EACH))

    def is_open(self, key: str | None) -> bool:
        """Return whether a task of that key may begin."""
        limit = self.limit_of(key)
        if limit is None or key is None:
            return True
        leased = [each for each in self.tasks if each.state == "leased" and each.limit_key == key]
        is_open = len(leased) < (limit.at_once or inf)
        return is_open and self.key_begun[key] < (limit.starts or inf)

    def open(self) -> list[Entry]:
        """Return the ready tasks that may begin: with a limit of their key only one of it."""
        found: dict[object, Entry] = {}
        for entry in sorted(self.ready(), key=lambda each: -each.priority):
            if self.is_open(entry.limit_key):
                is_limited = self.limit_of(entry.limit_key) is not None
                found.setdefault(entry.limit_key if is_limited else id(entry), entry)
        return [*found.values()]

    def take_turn(self, entry: Entry, begun: set[str]) -> None:
        """Check that no other line waits for its turn since this one had its last turn.

        *begun* are the keys with limits that have begun in this step.
        """
        self.passed_by.pop((entry.priority, entry.limit_key), None)
        for priority, key in self.lines() - {(entry.priority, entry.limit_key)}:
            if priority == entry.priority and key not in begun:
                passed_by = self.passed_by.setdefault((priority, key), set())
                assert entry.limit_key not in passed_by, f"{key} has waited for two turns"
                passed_by.add(entry.limit_key)
        for key in begun:
            self.passed_by.pop((entry.priority, key), None)

    def lines(self) -> set[tuple[int, str | None]]:
        """Return the priorities and keys that have ready tasks that may begin."""
        ready = {(each.priority, each.limit_key) for each in self.ready()}
        return {line for line in ready if self.is_open(line[1])}

    def forget_turns(self) -> None:
        """Forget the lines that do not wait for a turn."""
        waiting = self.lines()
        self.passed_by = {line: by for line, by in self.passed_by.items() if line in waiting}

    def most(self) -> float:
        """Return how many a step may reserve."""
        if self.limit is None:
            return inf
        leased = [entry for entry in self.tasks if entry.state == "leased"]
        is_open = len(leased) < (self.limit.at_once or inf)
        return int(is_open and self.begun < (self.limit.starts or inf))

    def holder(self, unique: Unique | None) -> str | None:
        """Find the id of the task that holds that key."""
        if unique is None:
            return None
        for entry in self.tasks:
            if entry.unique is not None and entry.unique.key == unique.key:
                until_start, seconds = entry.unique[1:3]
                if seconds or not until_start or not entry.was_leased:
                    return entry.task_id
        return self.done.get(unique.key)

    def replaceable(self, unique: Unique | None) -> Entry | None:
        """Find the task that one with that key replaces."""
        if unique is None or not unique.replace:
            return None
        found = [
            each
            for each in self.tasks
            if each.state in WAITING
            and not each.was_leased
            and each.unique is not None
            and each.unique[:3] == unique[:3]
        ]
        return found[0] if found else None

    def waiting(self, task_id: str) -> Entry | None:
        """Find the newest that waits under that id."""
        found = [each for each in self.tasks if each.task_id == task_id and each.state in WAITING]
        return max(found, key=lambda each: each.number, default=None)

    def leased(self, task_id: str) -> Entry | None:
        """Find the newest that is leased under that id."""
        found = [each for each in self.tasks if each.task_id == task_id and each.state == "leased"]
        return max(found, key=lambda each: each.number, default=None)
