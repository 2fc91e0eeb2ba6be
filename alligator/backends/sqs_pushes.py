"""Bring commits to SQS, as few messages as can be, and know again those that are repeated."""

import threading
from collections.abc import Callable, Sequence
from time import monotonic

from ..constants import COMMIT_MEMORY, MAX_TASKS
from ..exceptions import BackendError, BackendUnavailable, TooManyTasks
from ..forks import tell_of_forks
from .base import Message
from .sqs_connection import CONNECT_SECONDS, QUICK_SECONDS, SMALL_BYTES, Connection, NoQueue
from .sqs_parcel import Body, Item, write_all

COMMIT_SECONDS = 2.0
"""How long a push may take with a second attempt."""


class Pushes:
    """What this process has sent, or is sending; *find_queue* gives the URL of a queue."""

    def __init__(self, sqs: Connection, find_queue: Callable[[str], str]) -> None:
        self._sqs = sqs
        self._find_queue = find_queue
        self.after_fork_in_child()
        tell_of_forks(self)

    def after_fork_in_child(self) -> None:
        """Begin anew: what a parent process is sending is not its child's."""
        self._lock = threading.Lock()
        self._commits: dict[str, _Commit] = {}

    def push(self, messages: Sequence[Message], commit_id: str | None) -> None:
        """Be `Client.push_many`."""
        if len(messages) > MAX_TASKS:
            raise TooManyTasks(f"{len(messages)} tasks in one push: {MAX_TASKS} is the most")
        groups: dict[str, dict[str, Item]] = {}
        for queue_name, task_id, data, delay in messages:
            item = Item(task_id, data, max(0.0, delay))
            groups.setdefault(queue_name, {}).setdefault(task_id, item)
        commit = self._commit(commit_id) if commit_id else _Commit()
        with commit.lock:
            if commit.aborted:
                raise BackendError(f"{self._sqs.store}: the commit had been aborted already")
            if not commit.done:
                self._send_all({name: [*group.values()] for name, group in groups.items()}, commit)
                commit.done = True

    def abort(self, commit_id: str) -> None:
        """Refuse a push should it still come; raise `BackendError` when any of it was sent."""
        commit = self._commit(commit_id)
        with commit.lock:
            commit.aborted = True
            if commit.sent:
                raise BackendError(f"{self._sqs.store} cannot take back what was sent")

    def _send_all(self, groups: dict[str, list[Item]], commit: "_Commit") -> None:
        deadline = monotonic() + COMMIT_SECONDS
        letters = [
            (name, body) for name, items in groups.items() for body in self._write(name, items)
        ]
        for place, (name, body) in enumerate(letters):
            if place < commit.sent:
                continue  # the commit is repeated, and this part of it has arrived
            try:
                self._send_one(name, body, deadline)
            except BackendError as error:
                if not commit.sent:
                    raise
                raise type(error)(
                    f"{error}; {commit.sent} of {len(letters)} messages of the commit were sent before, "
                    "and SQS cannot take them back"
                ) from error
            commit.sent += 1

    def _write(self, queue_name: str, items: Sequence[Item]) -> list[Body]:
        bodies = write_all(items)
        if max(len(body.text) for body in bodies) <= SMALL_BYTES:
            return bodies
        return write_all(items, self._sqs.room(self._find_queue(queue_name)))

    def _send_one(self, queue_name: str, body: Body, deadline: float) -> None:
        for again in (False, True):
            try:
                self._sqs.call(
                    "send_message",
                    quick=True,
                    QueueUrl=self._find_queue(queue_name),
                    MessageBody=body.text,
                    DelaySeconds=body.delay,
                )
                return
            except (BackendUnavailable, NoQueue):
                # A message that came twice runs twice, which is better than a 503 for one that came.
                if again or monotonic() + CONNECT_SECONDS + QUICK_SECONDS > deadline:
                    raise

    def _commit(self, commit_id: str) -> "_Commit":
        """Find what this process knows of a commit, and forget old ones."""
        with self._lock:
            old = monotonic() - COMMIT_MEMORY
            for known in [*self._commits]:
                if self._commits[known].began > old:
                    break
                del self._commits[known]
            return self._commits.setdefault(commit_id, _Commit())


class _Commit:
    """What this process remembers of a push."""

    def __init__(self) -> None:
        # Through its module, for gevent may have patched it since: it is held while SQS is waited for.
        self.lock = threading.Lock()
        self.began = monotonic()
        self.sent = 0
        """How many of its messages have arrived."""
        self.done = False
        self.aborted = False
