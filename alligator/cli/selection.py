"""Selection of dead tasks by queue, id, function and reason."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from ..backends.base import DeadLetter
from ..constants import ALL
from ..gator import Gator
from ..payload.envelope import name_in
from .errors import Failure, WrongCommand

MAX_NAMED = 5
"""How many tasks an error about an ambiguous id names."""


class Selection(NamedTuple):
    """Which dead tasks a command is for: those with the ids, or without ids all that match."""

    queues: Sequence[str] = ()
    ids: Sequence[str] = ()
    task: str = ""
    reason: str = ""

    @classmethod
    def of_action(
        cls,
        queues: Sequence[str],
        ids: Sequence[str],
        *,
        every: bool,
        task: str = "",
        reason: str = "",
    ) -> "Selection":
        """Return the selection of a command that needs either ids or ``--all``."""
        if bool(ids) == every:
            raise WrongCommand("Give either the ids of tasks or --all.")
        if ids and (task or reason):
            raise WrongCommand("--task and --reason can be used with --all, not with ids.")
        return cls(queues, ids, task, reason)

    def matches(self, letter: DeadLetter) -> bool:
        """Return whether the function and the reason match."""
        name = name_in(letter.data)
        is_task = not self.task or any(
            fnmatchcase(name, pattern) for pattern in (self.task, f"*.{self.task}")
        )
        return is_task and self.reason.lower() in letter.reason.lower()

    def find(self, gator: Gator, limit: int | None = None) -> dict[str, list[DeadLetter]]:
        """Return the dead tasks that match, by queue, whatever their ids.

        Without a filter at most *limit* + 1 tasks of a queue are read.
        """
        found = {}
        for name in self.queues or queues_of(gator):
            count = gator.client.stats(name).dead
            if limit is not None and not (self.task or self.reason):
                count = min(count, limit + 1)
            letters = gator.client.dead_letters(name, count) if count else []
            # A store acts on the latest dead task with an id, so that one has to match, too.
            latest = {letter.task_id: letter for letter in reversed(letters)}
            found[name] = [
                letter
                for letter in letters
                if self.matches(letter) and self.matches(latest[letter.task_id])
            ]
        return found

    def choose(self, gator: Gator) -> tuple[list[DeadLetter], list[str]]:
        """Return the selected dead tasks, and the ids that no dead task has."""
        letters = [letter for found in self.find(gator).values() for letter in found]
        if not self.ids:
            return letters, []
        chosen: list[DeadLetter] = []
        missing: list[str] = []
        for task_id in dict.fromkeys(self.ids):
            found = _with_id(task_id, letters)
            chosen += [letter for letter in found if letter not in chosen]
            missing += [] if found else [task_id]
        return chosen, missing


def _with_id(task_id: str, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """Return the dead task with that id, or whose id begins with it; none or one.

    Of several with the same id in a queue it is the latest. Raises `Failure` if it is ambiguous.
    """
    exact = [letter for letter in letters if letter.task_id == task_id]
    found = exact or [letter for letter in letters if letter.task_id.startswith(task_id)]
    by_place = {(letter.queue_name, letter.task_id): letter for letter in reversed(found)}
    latest = list(by_place.values())[::-1]
    if len(latest) > 1:
        raise Failure(_explain_ambiguous(task_id, latest, exact=bool(exact)))
    return latest


def _explain_ambiguous(task_id: str, found: Sequence[DeadLetter], *, exact: bool) -> str:
    if exact:
        names = ", ".join(letter.queue_name for letter in found)
        return f"{task_id} is dead in several queues ({names}): choose one with --queue."
    tasks = "; ".join(
        f"{letter.task_id} ({letter.queue_name}, {name_in(letter.data)})"
        for letter in found[:MAX_NAMED]
    )
    more = f"; and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    return f"{task_id} begins the ids of {len(found)} dead tasks, give more digits: {tasks}{more}"


def queues_of(gator: Gator) -> list[str]:
    """Return the queues of the store; with a prefix only those that begin with it."""
    names = list(dict.fromkeys([gator.queue_name, *gator.client.queue_names()]))
    prefix, mark, rest = gator.queue_name.rpartition("_")
    if not prefix or rest != ALL:
        return names
    return [name for name in names if name.startswith(prefix + mark)]
