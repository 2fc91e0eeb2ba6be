"""Commits on their way to a store: through group commit, breaker and spool."""

import asyncio
from pathlib import Path
from threading import Event

import pytest

from alligator import Gator
from alligator.backends.base import Commit, Message
from alligator.commits.breaker import FAILURES
from alligator.commits.committer import Committer
from alligator.exceptions import BackendUnavailable
from tests.harness.programs import eventually
from tests.harness.trip_store import TripStore

MESSAGES = [Message("all", "a", "{}")]


def test_gator_pushes_a_commit_under_a_chosen_id_once() -> None:
    gator = Gator("locmem://")

    for _ in range(2):
        gator.committer.push(Commit(MESSAGES, "row-1", undo=False))

    assert gator.len() == 1


def test_breaker_counts_the_failures_of_threads_and_coroutines_together(store: TripStore) -> None:
    committer = Committer(store)

    for number in range(FAILURES):
        store.error = BackendUnavailable("gone fishing")
        with pytest.raises(BackendUnavailable, match="gone fishing"):
            if number % 2:
                asyncio.run(committer.commit(Commit(MESSAGES, str(number)), awaits=True))
            else:
                committer.push(Commit(MESSAGES, str(number)))

    with pytest.raises(BackendUnavailable, match="gone fishing"):
        asyncio.run(committer.commit(Commit(MESSAGES, "last"), awaits=True))
    assert len(store.trips) == FAILURES


def test_commit_can_be_aborted(store: TripStore) -> None:
    committer = Committer(store)
    committer.push(Commit(MESSAGES, "a"))

    committer.abort(Commit(MESSAGES, "a"))

    assert store.len("all") == 0


# The spool keeps what does not reach the store, also for coroutines, which share trips meanwhile.


def test_coroutines_share_trips_with_a_spool(store: TripStore, tmp_path: Path) -> None:
    committer = Committer(store, spool=str(tmp_path / "spool.db"))

    async def main() -> None:
        await committer.commit(Commit(MESSAGES, "wakes the spool"), awaits=True)
        await asyncio.gather(
            *(committer.commit(Commit([Message("all", n, "{}")], n), awaits=True) for n in "bcd")
        )

    asyncio.run(main())

    assert store.trips == [["wakes the spool"], ["b", "c", "d"]]


def test_spool_keeps_the_commit_of_a_coroutine(store: TripStore, tmp_path: Path) -> None:
    committer = Committer(store, spool=str(tmp_path / "spool.db"))
    store.error = BackendUnavailable("gone fishing")

    assert asyncio.run(committer.commit(Commit(MESSAGES, "a"), awaits=True)) is None

    eventually(lambda: store.len("all") == 1)
    committer.close()


@pytest.mark.parametrize("undo", [True, False])
def test_commit_kept_for_a_cancelled_coroutine_is_undone(
    store: TripStore, tmp_path: Path, undo: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    committer = Committer(store, spool=str(tmp_path / "spool.db"))
    spool = committer.spool
    assert spool is not None
    monkeypatch.setattr(spool, "_start", lambda reason: None)  # no relay: it would send it
    store.error = BackendUnavailable("gone fishing")
    keep = spool.keep
    keeping, go_on = Event(), Event()

    def keep_slowly(commit: Commit, error: BackendUnavailable) -> None:
        keeping.set()
        assert go_on.wait(20)
        keep(commit, error)

    monkeypatch.setattr(spool, "keep", keep_slowly)

    async def main() -> None:
        task = asyncio.create_task(committer.commit(Commit(MESSAGES, "a", undo=undo), awaits=True))
        await asyncio.to_thread(keeping.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()

    asyncio.run(main())

    if undo:
        eventually(lambda: spool.content().commits == 0 and store.len("all") == 0)
    else:
        eventually(lambda: spool.content().commits == 1)
    committer.close()
