"""What the tests of transactions share: a failure, and stores that record or reject calls."""

from collections.abc import Sequence

from alligator import Client, Gator
from alligator.backends.base import Message
from alligator.backends.locmem_backend import Client as Locmem


class Boom(Exception):
    """The failure of the work in these tests."""


class Recording(Locmem):
    """A store that records its pushes."""

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.pushes: list[tuple[list[str], str | None]] = []

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        self.pushes.append(([message.task_id for message in messages], commit_id))
        super().push_many(messages, commit_id=commit_id)


def untouchable(conn_string: str) -> Client:
    """Return a store of which every call fails."""

    def refuse(self: object, *args: object, **kwargs: object) -> None:
        raise AssertionError("the store was called")

    methods = dict.fromkeys(Client.__abstractmethods__, refuse)
    client: Client = type("Untouchable", (Client,), methods)(conn_string)
    return client


def ids(gator: Gator) -> list[str]:
    """Reserve all ready tasks and return their ids, in order."""
    return [lease.task_id for lease in gator.client.reserve(gator.queue_name, limit=10_000)]
