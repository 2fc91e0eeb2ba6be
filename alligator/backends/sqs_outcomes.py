"""Tell SQS what became of tasks: one that is done is deleted, any other is sent on before that."""

from collections.abc import Sequence
from threading import Lock
from typing import Protocol

from ..exceptions import BackendError
from ..forks import tell_of_forks
from .base import Outcome
from .sqs_connection import Connection, raise_any
from .sqs_parcel import Body, Item, receipt_of, write, write_dead

MEMORY = 2_000
"""How many outcomes this process knows again."""


class FindsQueue(Protocol):
    """Gives the URL of a queue, or of its dead letters."""

    def __call__(self, name: str, *, dead: bool = False) -> str: ...


class Outcomes:
    """What SQS has been told of tasks.

    An outcome that is told again, because an error was the answer, moves its task once.
    """

    def __init__(self, sqs: Connection, find_queue: FindsQueue) -> None:
        self._sqs = sqs
        self._find_queue = find_queue
        self.after_fork_in_child()
        tell_of_forks(self)

    def after_fork_in_child(self) -> None:
        """Begin anew: what a parent process has received is not its child's."""
        self._lock = Lock()
        self._moved: dict[int, None] = {}

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Tell all of *outcomes*, then raise the first error there was."""
        errors: dict[int, BackendError] = {}
        for name in dict.fromkeys(outcome.lease.queue_name for outcome in outcomes):
            here = [outcome for outcome in outcomes if outcome.lease.queue_name == name]
            done = [outcome.lease.token for outcome in here if outcome.verdict == "ack"]
            for dead in (False, True):
                moved = [o for o in here if o.verdict != "ack" and (o.verdict == "dead") == dead]
                if moved:
                    gone, failed = self._move(name, moved, dead)
                    done += gone
                    errors |= failed
            if done:
                # Only now: what is not yet in its new place stays in the old one.
                receipts = [receipt_of(token) for token in done]
                errors |= self._sqs.delete(self._find_queue(name), receipts)
        raise_any(errors)

    def _move(
        self, name: str, outcomes: Sequence[Outcome], dead: bool
    ) -> tuple[list[int], dict[int, BackendError]]:
        """Send the tasks to where they go; return the tokens of those that are there, and errors."""
        todo = [outcome for outcome in outcomes if outcome.lease.token not in self._moved]
        failed: dict[int, BackendError] = {}
        if todo:
            url = self._find_queue(name, dead=dead)
            failed = self._sqs.send(url, [_body(outcome) for outcome in todo])
        with self._lock:
            for place, outcome in enumerate(todo):
                if place not in failed:
                    self._moved[outcome.lease.token] = None
            while len(self._moved) > MEMORY:
                del self._moved[next(iter(self._moved))]
        tokens = [outcome.lease.token for outcome in outcomes]
        return [token for token in tokens if token in self._moved], failed


def _body(outcome: Outcome) -> Body:
    """Make the message that a task goes on in."""
    _, task_id, data, _, lost, _ = outcome.lease
    if outcome.verdict == "dead":
        return write_dead(Item(task_id, data), outcome.reason, outcome.traceback)
    if outcome.verdict == "release":
        return write(Item(task_id, data, 0.0, lost))
    data = data if outcome.data is None else outcome.data
    return write(Item(task_id, data, max(0.0, outcome.delay), lost))
