"""A store whose trips a test can record, block and make fail."""

from collections.abc import Callable, Sequence
from threading import Event
from typing import ClassVar

from alligator.backends import locmem_backend
from alligator.backends.base import Commit, Message, Pushed


class TripStore(locmem_backend.Client):
    """A store in memory that records its trips, and can block them."""

    groups_commits: ClassVar[bool] = True

    def __init__(self, conn_string: str = "locmem://") -> None:
        super().__init__(conn_string)
        self.trips: list[list[str | None]] = []
        self.deadlines: list[float] = []
        self.free = Event()
        self.free.set()
        self.undone = Event()
        self.error: BaseException | None = None
        self.on_trip: Callable[[], object] | None = None

    def push_commits(self, commits: Sequence[Commit]) -> Sequence[Pushed]:
        self.trips.append([commit.commit_id for commit in commits])
        self.deadlines.append(self.deadline_of(commits))
        if self.on_trip is not None:
            call, self.on_trip = self.on_trip, None
            call()
        assert self.free.wait(20)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return super().push_commits(commits)

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        super().abort(commit_id, messages)
        self.undone.set()
