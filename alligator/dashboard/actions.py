"""Do what a button of the dashboard says: retry, drop or cancel tasks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from logging import Logger, getLogger
from time import monotonic

from ..backends.base import Client
from ..constants import MAX_TASKS
from ..gator import Gator
from ..stores import find_stores

log: Logger = getLogger("alligator")

BULK_SECONDS = 5.0
"""How long one click may take; what is left then is still on the page."""

DONE = {
    "retry": "The task is back on its queue.",
    "drop": "The task is dropped.",
    "cancel": "The task is canceled.",
    "retry-all": "The dead tasks are back on their queue.",
    "drop-all": "The dead tasks are dropped.",
    "gone": "There was nothing left to do: somebody was faster.",
}
"""What the page says afterwards, by the word in its address."""


class WrongAction(ValueError):
    """The form does not say what to do, or to what."""


class Actions:
    """What may be done to the tasks in the stores of *gators*."""

    def __init__(self, gators: Iterable[Gator]) -> None:
        self._clients = [store.client for store in find_stores(gators)]

    def perform(self, form: Mapping[str, str]) -> str:
        """Do what *form* says and return the word of `DONE` for it.

        The form has ``do``, ``store`` (its place among the stores), ``queue`` and, unless it is for
        all of them, ``task``. Raises `WrongAction`, and `BackendError` when the store cannot do it.
        """
        do, queue, task = (form.get(name, "") for name in ("do", "queue", "task"))
        client = self._find_store(form.get("store", "0"))
        acts: dict[str, tuple[Callable[[str, str], object], Sequence[str]]] = {
            "retry": (client.retry_dead, [task]),
            "drop": (client.drop_dead, [task]),
            "cancel": (client.cancel, [task]),
            "retry-all": (client.retry_dead, ()),
            "drop-all": (client.drop_dead, ()),
        }
        if do not in acts or not queue or bool(task) is do.endswith("-all"):
            raise WrongAction("The form does not say what to do, or to which task.")
        act, tasks = acts[do]
        if not tasks:
            tasks = [letter.task_id for letter in client.dead_letters(queue, MAX_TASKS)]
        count = _do_in_time(act, queue, tasks)
        log.info("dashboard: %s of %d tasks", do, count, extra={"queue": queue, "task_id": task})
        return do if count else "gone"

    def _find_store(self, place: str) -> Client:
        if not place.isdecimal() or len(place) > 4 or int(place) >= len(self._clients):
            raise WrongAction("There is no such store.")
        return self._clients[int(place)]


def _do_in_time(act: Callable[[str, str], object], queue: str, tasks: Iterable[str]) -> int:
    """Do it to one task after the other, and count those that were still there."""
    end = monotonic() + BULK_SECONDS
    count = 0
    for task in tasks:
        # Cancelling returns what was taken off, which may be empty.
        count += act(queue, task) not in (None, False)
        if monotonic() > end:
            break
    return count
