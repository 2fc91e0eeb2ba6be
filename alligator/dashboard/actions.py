"""Do what a button of the dashboard says: retry, drop or cancel tasks."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from logging import Logger, getLogger
from time import monotonic
from typing import NamedTuple

from ..backends.base import Client
from ..constants import MAX_TASKS
from ..gator import Gator
from ..http import read_fields
from ..stores import find_stores

log: Logger = getLogger("alligator")

BULK_SECONDS = 5.0
"""How long one click may take; what is left then is still on the page."""

MOST_CHOSEN = 200
"""How many tasks may be chosen at once: as many as the page lists."""

DONE = {
    "retry": "The task is back on its queue.",
    "drop": "The task is dropped.",
    "cancel": "The task is canceled.",
    "retry-chosen": "The chosen tasks are back on their queues.",
    "drop-chosen": "The chosen tasks are dropped.",
    "cancel-chosen": "The chosen tasks are canceled.",
    "retry-all": "The dead tasks are back on their queue.",
    "drop-all": "The dead tasks are dropped.",
    "none": "Nothing was done: no task was chosen.",
    "partly": "Not all of it was done: some were gone already, or it took too long. "
    "What is left is still listed.",
    "gone": "There was nothing left to do: somebody was faster.",
}
"""What the page says afterwards, by the word in its address."""

ACTS: Mapping[str, Callable[[Client, str, str], object]] = {
    "retry": lambda client, queue, task: client.retry_dead(queue, task),
    "drop": lambda client, queue, task: client.drop_dead(queue, task),
    "cancel": lambda client, queue, task: client.cancel(queue, task),
    "retry-all": lambda client, queue, task: client.retry_dead(queue, task),
    "drop-all": lambda client, queue, task: client.drop_dead(queue, task),
}

UNCLEAR = "The form does not say what to do, or to which task."


class WrongAction(ValueError):
    """The form does not say what to do, or to what."""


class _Place(NamedTuple):
    """Where a task is, or with an empty *task* all the dead of a queue."""

    client: Client
    queue: str
    task: str


class Actions:
    """What may be done to the tasks in the stores of *gators*."""

    def __init__(self, gators: Iterable[Gator]) -> None:
        self._clients = [store.client for store in find_stores(gators)]

    def perform(self, fields: Sequence[tuple[str, str]]) -> str:
        """Do what the *fields* of a form say and return the word of `DONE` for it.

        They are ``do``, ``store`` (its place among the stores), ``queue`` and, unless it is for all
        of them, ``task``. For several tasks there is ``chosen`` instead, once for each: the last
        three of these, as a query. Nothing is done unless all of it makes sense: raises `WrongAction`,
        and `BackendError` when the store cannot do it.
        """
        form = dict(fields)
        do = form.get("do", "")
        if do not in ACTS:
            raise WrongAction(UNCLEAR)
        chosen = [value for name, value in fields if name == "chosen"]
        places = self._find_chosen(form, chosen) if chosen else self._find_places(form)
        count = _do_in_time(ACTS[do], places)
        about = {"queue": form.get("queue", ""), "task_id": form.get("task", "")}
        log.info("dashboard: %s of %d tasks", do, count, extra=about)
        if not count:
            return "none" if chosen and not places else "gone"
        if count < len(places):
            return "partly"
        return f"{do}-chosen" if chosen else do

    def _find_chosen(self, form: Mapping[str, str], chosen: Iterable[str]) -> Collection[_Place]:
        # The page sends an empty one, too: to choose nothing is no mistake.
        places = dict.fromkeys(self._find_place(read_fields(each)) for each in chosen if each)
        of_one = form.get("queue") or form.get("task") or form["do"].endswith("-all")
        if of_one or not all(place.task for place in places):
            raise WrongAction(UNCLEAR)
        if len(places) > MOST_CHOSEN:
            raise WrongAction(f"No more than {MOST_CHOSEN} tasks can be chosen at once.")
        return places

    def _find_places(self, form: Mapping[str, str]) -> Collection[_Place]:
        place = self._find_place(form)
        if bool(place.task) is form["do"].endswith("-all"):
            raise WrongAction(UNCLEAR)
        if place.task:
            return [place]
        letters = place.client.dead_letters(place.queue, MAX_TASKS)
        return [place._replace(task=letter.task_id) for letter in letters]

    def _find_place(self, form: Mapping[str, str]) -> _Place:
        store, queue = form.get("store", "0"), form.get("queue", "")
        if not store.isdecimal() or len(store) > 4 or int(store) >= len(self._clients):
            raise WrongAction("There is no such store.")
        if not queue:
            raise WrongAction(UNCLEAR)
        return _Place(self._clients[int(store)], queue, form.get("task", ""))


def _do_in_time(act: Callable[[Client, str, str], object], places: Iterable[_Place]) -> int:
    """Do it to one task after the other, and count those that were still there."""
    end = monotonic() + BULK_SECONDS
    count = 0
    for place in places:
        # Cancelling returns what was taken off, which may be empty.
        count += act(*place) not in (None, False)
        if monotonic() > end:
            break
    return count
