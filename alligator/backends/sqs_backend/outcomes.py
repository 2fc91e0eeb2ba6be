"""Report outcomes to SQS: a finished task is deleted; any other is sent again, and then deleted."""

from collections.abc import Sequence
from threading import Lock

from ..._runtime.forks import register_fork_hooks
from ...exceptions import BackendError, BackendUnavailable
from ..base import Outcome, bounded
from .connection import Connection, FindQueue
from .envelope import Body, Item, receipt_of, write, write_dead

MEMORY = 2_000
"""How many moved tasks this process remembers."""


class OutcomeReporter:
    """Reports outcomes, and remembers which tasks were moved.

    When an outcome is reported again after an error, its task is not moved twice.
    """

    def __init__(self, sqs: Connection, find_queue: FindQueue) -> None:
        self._sqs = sqs
        self._find_queue = find_queue
        self.after_fork_in_child()
        register_fork_hooks(self)

    def after_fork_in_child(self) -> None:
        """Start empty, as the leases of the parent are not the child's."""
        self._lock = Lock()
        self._moved: dict[int, None] = {}

    def report(self, outcomes: Sequence[Outcome]) -> None:
        """Report all *outcomes*, then raise one of the errors, a permanent one if there is any."""
        errors: list[BackendError] = []
        for name in dict.fromkeys(outcome.lease.queue_name for outcome in outcomes):
            here = [outcome for outcome in outcomes if outcome.lease.queue_name == name]
            done = [outcome.lease.token for outcome in here if outcome.verdict == "ack"]
            for dead in (False, True):
                kinds = ("dead", "expired") if dead else ("retry", "release")
                moved = [outcome for outcome in here if outcome.verdict in kinds]
                if moved:
                    errors += self._move(name, moved, dead)
                    done += [o.lease.token for o in moved if o.lease.token in self._moved]
            # Delete last: a task that could not be moved stays on its queue.
            errors += self._delete(name, [receipt_of(token) for token in done])
        errors.sort(key=lambda error: isinstance(error, BackendUnavailable))
        if errors:
            raise errors[0]

    def _move(self, name: str, outcomes: Sequence[Outcome], dead: bool) -> list[BackendError]:
        """Send the tasks to the queue or to its dead letters; return the errors."""
        todo = [outcome for outcome in outcomes if outcome.lease.token not in self._moved]
        if not todo:
            return []
        try:
            url = self._find_queue(name, dead=dead)
            failed = self._sqs.send(url, [_body(outcome) for outcome in todo])
        except BackendError as error:
            return [error]
        with self._lock:
            for place, outcome in enumerate(todo):
                if place not in failed:
                    self._moved[outcome.lease.token] = None
            while len(self._moved) > MEMORY:
                del self._moved[next(iter(self._moved))]
        return [*failed.values()]

    def _delete(self, name: str, receipts: Sequence[str]) -> list[BackendError]:
        if not receipts:
            return []
        try:
            return [*self._sqs.delete(self._find_queue(name), receipts).values()]
        except BackendError as error:
            return [error]


def _body(outcome: Outcome) -> Body:
    """Return the message in which a task is sent again."""
    _, task_id, data, _, lost, _ = outcome.lease
    data = data if outcome.data is None else outcome.data
    if outcome.verdict in ("dead", "expired"):
        return write_dead(Item(task_id, data), outcome.reason, outcome.traceback)
    return write(Item(task_id, data, bounded(outcome.delay), lost))
