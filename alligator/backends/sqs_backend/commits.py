"""Send commits to SQS in as few messages as possible, and recognize repeated ones."""

import threading
from time import monotonic

from ..._runtime.forks import register_fork_hooks
from ...constants import COMMIT_MEMORY, MAX_TASKS
from ...exceptions import BackendError, BackendUnavailable, TooManyTasks
from ..base import Commit, Duplicates, bounded
from .connection import PUSH_TIMEOUTS, Connection, FindQueue
from .envelope import Body, Item
from .errors import QueueNotFound


class SentCommits:
    """The commits that this process has sent or is sending."""

    def __init__(self, sqs: Connection, find_queue: FindQueue) -> None:
        self._sqs = sqs
        self._find_queue = find_queue
        self.after_fork_in_child()
        register_fork_hooks(self)

    def after_fork_in_child(self) -> None:
        """Start empty, as the child does not continue what its parent is sending."""
        self._lock = threading.RLock()  # reentrant, because a signal handler may push, too
        self._commits: dict[str, _Commit] = {}

    def push(self, sent: Commit, deadline: float) -> Duplicates | None:
        """Push by *deadline*, on the monotonic clock; return the duplicates among the messages.

        A repeated push is recognized by its id; without one, every push is a new one.
        """
        messages = sent.messages
        if len(messages) > MAX_TASKS:
            raise TooManyTasks(
                f"{len(messages)} tasks in one push, but SQS takes at most {MAX_TASKS}: push them in "
                "several commits"
            )
        groups: dict[str, dict[str, Item]] = {}
        duplicates: list[int] = []
        for place, (queue_name, task_id, data, delay, _) in enumerate(messages):
            item = Item(task_id, data, bounded(delay))
            if groups.setdefault(queue_name, {}).setdefault(task_id, item) is not item:
                duplicates.append(place)
        commit = self._commit(sent.commit_id) if sent.commit_id else _Commit()
        if not commit.lock.acquire(timeout=max(0.0, deadline - monotonic())):
            raise BackendUnavailable(f"{self._sqs.store}: this commit is still being sent")
        try:
            if commit.aborted and sent.undo:
                raise BackendError(f"{self._sqs.store}: the commit was aborted before")
            if not commit.done:
                items = {name: [*group.values()] for name, group in groups.items()}
                self._send_all(items, commit, deadline)
                commit.done = True
        finally:
            commit.lock.release()
        return duplicates or None

    def abort(self, commit_id: str) -> None:
        """Reject a later push of the commit; raise `BackendError` when any of it was sent."""
        commit = self._commit(commit_id)
        with commit.lock:
            commit.aborted = True
            if commit.sent:
                raise BackendError(f"{self._sqs.store} cannot take back a commit that was sent")

    def _send_all(self, groups: dict[str, list[Item]], commit: "_Commit", deadline: float) -> None:
        # Find or create all queues before anything is sent, so that a failure here leaves nothing.
        urls = {name: self._find_queue(name, deadline=deadline) for name in groups}
        bodies = [
            (name, body)
            for name, items in groups.items()
            for body in self._sqs.pack(urls[name], items, deadline=deadline)
        ]
        for place, (name, body) in enumerate(bodies):
            if place < commit.sent:
                continue  # sent by an earlier attempt of the same commit
            try:
                self._send_one(name, body, deadline)
            except BackendError as error:
                if not commit.sent:
                    raise
                raise type(error)(
                    f"{error}; {commit.sent} of {len(bodies)} messages of the commit were sent before, "
                    "and SQS cannot take them back"
                ) from error
            commit.sent += 1

    def _send_one(self, queue_name: str, body: Body, deadline: float) -> None:
        for is_repeated in (False, True):
            try:
                self._sqs.call(
                    "send_message",
                    deadline=deadline,
                    QueueUrl=self._find_queue(queue_name, deadline=deadline),
                    MessageBody=body.text,
                    DelaySeconds=body.delay,
                )
                return
            except (BackendUnavailable, QueueNotFound):
                # The message may have arrived. A task that runs twice is better than an error 503 for
                # one that runs.
                if is_repeated or monotonic() + PUSH_TIMEOUTS.total > deadline:
                    raise

    def _commit(self, commit_id: str) -> "_Commit":
        """Return the record of a commit, and forget old ones."""
        with self._lock:
            old = monotonic() - COMMIT_MEMORY
            for known, commit in [*self._commits.items()]:
                if commit.began > old:
                    break
                self._commits.pop(known, None)  # a signal handler may have forgotten it
            return self._commits.setdefault(commit_id, _Commit())


class _Commit:
    """The progress of a commit."""

    def __init__(self) -> None:
        # Looked up in its module, because gevent may have patched it after this import. The lock is
        # held during requests.
        self.lock = threading.Lock()
        self.began = monotonic()
        self.sent = 0
        """How many of its messages SQS has accepted."""
        self.done = False
        self.aborted = False
