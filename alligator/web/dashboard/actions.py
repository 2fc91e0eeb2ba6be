"""Actions of the dashboard's buttons: on tasks, queues and schedules."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from logging import Logger, getLogger
from math import inf
from time import monotonic
from typing import NamedTuple

from ...backends.base import Canceled, Client
from ...constants import MAX_TASKS
from ...gator import Gator
from ...monitoring.stores import Store, find_stores
from ..http import read_fields

log: Logger = getLogger("alligator")

BULK_SECONDS = 5.0
"""How long one click may take; tasks that are left then are still on the page."""

MAX_CHOSEN = 200
"""How many tasks may be chosen at once: as many as the page lists."""

NOTICES = {
    "retry": "The task is back on its queue.",
    "drop": "The task is dropped.",
    "cancel": "The task is canceled.",
    "cancel-running": "The task is canceled. Its worker ends it within seconds, if it can.",
    "run": "A task of the schedule is on its queue.",
    "retry-chosen": "The chosen tasks are back on their queues.",
    "drop-chosen": "The chosen tasks are dropped.",
    "cancel-chosen": "The chosen tasks are canceled.",
    "retry-all": "The dead tasks are back on their queue.",
    "drop-all": "The dead tasks are dropped.",
    "pause": "The queue is paused: no worker begins its tasks.",
    "resume": "The queue is resumed.",
    "none": "Nothing was done: no task was chosen.",
    "partly": "Only some of the tasks were changed: others no longer existed, or it took too long. "
    "Tasks that are left are still listed.",
    "gone": "Nothing was done: the task no longer exists in this state.",
    "unknown": "Nothing was done: this application has no such schedule.",
}
"""The notice on the page after an action, by the word in the page's address."""

ACTIONS: Mapping[str, Callable[[Client, str, str], object]] = {
    "retry": lambda client, queue, task: client.retry_dead(queue, task),
    "drop": lambda client, queue, task: client.drop_dead(queue, task),
    "cancel": lambda client, queue, task: client.cancel(queue, task),
    "retry-all": lambda client, queue, task: client.retry_dead(queue, task),
    "drop-all": lambda client, queue, task: client.drop_dead(queue, task),
}

CONTROLS: Mapping[str, Callable[[Client, str], None]] = {
    "pause": lambda client, queue: client.pause(queue, inf),
    "resume": lambda client, queue: client.pause(queue, 0.0),
}
"""The actions on a whole queue."""

RUN = "run"
"""The action on a schedule."""

UNCLEAR = "The form does not name an action, or not its task."


class WrongAction(ValueError):
    """The form names no valid action or task."""


class _Target(NamedTuple):
    """A task, or with an empty *task* all dead tasks of a queue."""

    client: Client
    queue: str
    task: str


class Actions:
    """The actions on tasks and schedules in the stores of *gators*."""

    def __init__(self, gators: Iterable[Gator]) -> None:
        self._stores = find_stores(gators)

    def perform(self, fields: Sequence[tuple[str, str]]) -> str:
        """Perform the action of a form and return the key of its notice in `NOTICES`.

        The *fields* are ``do``, ``store`` (its index), ``queue`` and, unless the action is for the
        queue or all of its dead tasks, ``task``; to run a schedule, ``schedule`` instead of the last
        two. For several tasks there is one field ``chosen`` each, which holds the last three as a
        query. Raises `WrongAction` before anything is done if any field is invalid, and
        `BackendError` when the store fails.
        """
        form = dict(fields)
        do = form.get("do", "")
        if do == RUN:
            return self._run(form)
        if do in CONTROLS:
            return self._control(do, form)
        if do not in ACTIONS:
            raise WrongAction(UNCLEAR)
        chosen = [value for name, value in fields if name == "chosen"]
        targets = self._find_chosen(form, chosen) if chosen else self._find_targets(form)
        results = _apply_in_time(ACTIONS[do], targets)
        count = len(results)
        about = {"queue": form.get("queue", ""), "task_id": form.get("task", "")}
        log.info("dashboard: %s of %d tasks", do, count, extra=about)
        if not count:
            return "none" if chosen and not targets else "gone"
        if count < len(targets):
            return "partly"
        if chosen:
            return f"{do}-chosen"
        (result, *_) = results
        return "cancel-running" if isinstance(result, Canceled) and result.was_leased else do

    def _run(self, form: Mapping[str, str]) -> str:
        """Push a task of a schedule that a gator of this process defines."""
        store, name = self._find_store(form), form.get("schedule", "")
        if not name:
            raise WrongAction(UNCLEAR)
        for gator in store.gators:
            if name in gator.schedules:
                task = gator.run_schedule(name)
                log.info("dashboard: queued a task of a schedule", extra={"task_id": task.task_id})
                return RUN
        return "unknown"

    def _control(self, do: str, form: Mapping[str, str]) -> str:
        """Pause or resume a queue."""
        target = self._find_target(form)
        if target.task or form.get("chosen"):
            raise WrongAction(UNCLEAR)
        CONTROLS[do](target.client, target.queue)
        log.info("dashboard: %s of a queue", do, extra={"queue": target.queue})
        return do

    def _find_chosen(self, form: Mapping[str, str], chosen: Iterable[str]) -> Collection[_Target]:
        # The page always sends an empty one as well, so that choosing nothing is not an error.
        targets = dict.fromkeys(self._find_target(read_fields(each)) for each in chosen if each)
        is_single = form.get("queue") or form.get("task") or form["do"].endswith("-all")
        if is_single or not all(target.task for target in targets):
            raise WrongAction(UNCLEAR)
        if len(targets) > MAX_CHOSEN:
            raise WrongAction(f"No more than {MAX_CHOSEN} tasks can be chosen at once.")
        return targets

    def _find_targets(self, form: Mapping[str, str]) -> Collection[_Target]:
        target = self._find_target(form)
        if bool(target.task) is form["do"].endswith("-all"):
            raise WrongAction(UNCLEAR)
        if target.task:
            return [target]
        letters = target.client.dead_letters(target.queue, MAX_TASKS)
        return [target._replace(task=letter.task_id) for letter in letters]

    def _find_target(self, form: Mapping[str, str]) -> _Target:
        store, queue = self._find_store(form), form.get("queue", "")
        if not queue:
            raise WrongAction(UNCLEAR)
        return _Target(store.client, queue, form.get("task", ""))

    def _find_store(self, form: Mapping[str, str]) -> Store:
        store = form.get("store", "0")
        if not store.isdecimal() or len(store) > 4 or int(store) >= len(self._stores):
            raise WrongAction("There is no such store.")
        return self._stores[int(store)]


def _apply_in_time(
    act: Callable[[Client, str, str], object], targets: Iterable[_Target]
) -> list[object]:
    """Apply *act* to one task after the other; return what it returned for those it worked for."""
    end = monotonic() + BULK_SECONDS
    results = []
    for target in targets:
        result = act(*target)
        if result not in (None, False):
            results.append(result)
        if monotonic() > end:
            break
    return results
