"""The store in memory: what its DSN means, and for how long it remembers commits."""

from time import monotonic

import pytest

from alligator import Gator
from alligator.backends import locmem_backend
from alligator.backends.base import Message
from alligator.constants import COMMIT_MEMORY, LONG_COMMIT_MEMORY
from tests.harness.sample_tasks import add


def test_plain_dsns_share_nothing() -> None:
    first, second = Gator("locmem://"), Gator("locmem://")

    first.task(add, 1, 2)

    assert (first.len(), second.len()) == (1, 0)


def test_dsns_of_one_name_share_their_tasks() -> None:
    first, second, other = Gator("locmem://a"), Gator("locmem://a"), Gator("locmem://b")

    first.task(add, 1, 2)

    assert (second.len(), other.len()) == (1, 0)


def test_commit_is_remembered_for_minutes_or_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    client = locmem_backend.Client("locmem://")

    def forget_after(seconds: float) -> set[str]:
        """Push under both ids that long after the first time; return which of them queue a task."""
        monkeypatch.setattr(locmem_backend, "monotonic", lambda: monotonic() + seconds)
        client.drop_all("mail")
        client.push_many([Message("mail", "other", "{}")], commit_id=f"other-{seconds}")
        for commit_id in ("c", "day-c"):
            client.push_many([Message("mail", commit_id, "{}")], commit_id=commit_id, undo=False)
        return {lease.task_id for lease in client.reserve("mail", limit=9)} - {"other"}

    assert forget_after(0) == {"c", "day-c"}
    assert forget_after(COMMIT_MEMORY - 9) == set()
    assert forget_after(COMMIT_MEMORY + 9) == {"c"}
    assert forget_after(LONG_COMMIT_MEMORY - 9) == {"c"}
    assert forget_after(LONG_COMMIT_MEMORY + 9) == {"day-c"}  # "c" was pushed 18 s before
    assert len(client._store.commits) == 4
    assert len(client._store.expiries) == 4
