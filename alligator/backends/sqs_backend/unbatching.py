"""Split a message of several tasks into one message for each task."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from math import ceil
from time import monotonic, sleep

from ..._runtime.forks import register_fork_hooks
from ...exceptions import BackendError, BackendUnavailable
from .connection import Connection
from .envelope import Body, Item, read, write
from .errors import Unanswered, raise_first

CHUNK = 100
"""How many tasks are sent between two checks that the message stays hidden for long enough."""
CHUNK_SECONDS = 30.0
"""For how long the message must stay hidden at each check."""
AGAIN_SECONDS = 1
"""How soon SQS delivers a message again that could not be split."""
PAUSES = 0.5, 1.0, 2.0
"""Seconds between the attempts to send the rest of a message."""
MEMORY = 1_000
"""How many messages that could not be deleted this process remembers."""


class Unbatcher:
    """Splits messages, and remembers which of their tasks were sent.

    This process does not send a task twice. When some tasks cannot be sent one by one, all remaining
    ones are sent together in one message, and the old message is deleted. So splitting makes progress
    and never starts from the beginning.
    """

    def __init__(self, sqs: Connection) -> None:
        self._sqs = sqs
        self.after_fork_in_child()
        register_fork_hooks(self)

    def after_fork_in_child(self) -> None:
        """Start empty, as the child does not continue what its parent is splitting."""
        self._lock = threading.Lock()
        self._sent: dict[str, set[int]] = {}

    def split(
        self, url: str, message_id: str, receipt: str, items: Sequence[Item], lease_for: float
    ) -> None:
        """Send *items*, then delete their message, which is hidden for *lease_for* seconds."""
        with self._lock:
            sent = self._sent.pop(message_id, set())
        hidden_until = monotonic() + lease_for
        try:
            for start in range(0, len(items), CHUNK):
                if hidden_until - monotonic() < CHUNK_SECONDS:
                    raise_first(self._sqs.hide(url, [receipt], ceil(CHUNK_SECONDS)))
                    hidden_until = monotonic() + CHUNK_SECONDS
                places = [n for n in range(start, len(items))[:CHUNK] if n not in sent]
                failed = self._sqs.send(url, [write(items[place]) for place in places])
                sent.update(place for n, place in enumerate(places) if n not in failed)
                if failed:
                    self._send_rest(url, items, sent)
                    break
            raise_first(self._sqs.delete(url, [receipt]))
        except BackendError:
            self._remember(message_id, sent)
            with suppress(BackendError):
                self._sqs.hide(url, [receipt], AGAIN_SECONDS)
            raise

    def _send_rest(self, url: str, items: Sequence[Item], sent: set[int]) -> None:
        """Send the remaining tasks in as few messages as possible."""
        places = [place for place in range(len(items)) if place not in sent]
        for body in self._sqs.pack(url, [items[place] for place in places]):
            self._send_with_retries(url, body)
            count = len(read(body.text, "").items)
            sent.update(places[:count])
            del places[:count]

    def _send_with_retries(self, url: str, body: Body) -> None:
        # Retry here, because another process would start from the beginning.
        failed = self._sqs.send(url, [body])
        for pause in PAUSES:
            error = failed.get(0)
            if isinstance(error, Unanswered) or not isinstance(error, BackendUnavailable):
                break
            sleep(pause)
            failed = self._sqs.send(url, [body])
        raise_first(failed)

    def _remember(self, message_id: str, sent: set[int]) -> None:
        with self._lock:
            self._sent[message_id] = sent
            while len(self._sent) > MEMORY:
                del self._sent[next(iter(self._sent))]
