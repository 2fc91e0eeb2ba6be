"""What a worker reports to its store with each heartbeat: that it is alive, and what it runs."""

import os
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from ..backends.base import WorkerInfo
from ..gator import Gator
from .reservations import Reservations
from .timings import TimingReports

if TYPE_CHECKING:
    from .dispatcher import Dispatcher


class Announced(Protocol):
    """The attributes of a worker that it reports to its store."""

    gator: Gator
    name: str
    started_at: float
    lease_for: float
    concurrency: int
    unrunnable: dict[str, str]
    threads: list[Reservations]
    dispatcher: "Dispatcher | None"

    @property
    def queue_names(self) -> list[str]: ...


class Announcements:
    """The reports of one worker, which runs on *host*."""

    def __init__(self, worker: Announced, host: str) -> None:
        self._worker = worker
        self._host = host
        self._timing_reports = TimingReports(worker.gator.client)
        self.made_at: float = monotonic()
        """When the last report was made, successful or not."""
        self.store_answers: bool = False
        """Whether the store accepted the last report."""

    def make(self, *, alive: bool) -> None:
        """Report to the store that the worker is alive, or has ended, and its timings."""
        worker = self._worker
        threads, dispatcher = list(worker.threads), worker.dispatcher
        info = WorkerInfo(
            name=worker.name,
            queues=worker.queue_names,
            started_at=worker.started_at,
            running=[task for thread in threads for task in thread.running_tasks()],
            host=self._host,
            pid=os.getpid(),
            concurrency=worker.concurrency,
            memory=memory_used(),
            unrunnable=dict(worker.unrunnable),
            loop_lag=None if dispatcher is None else dispatcher.watch.take_lag(),
        )
        answers = False  # in a variable: another thread may read the attribute during the call
        try:
            worker.gator.client.beat(info, worker.lease_for if alive else 0)
            answers = True
        finally:
            self.store_answers = answers
            self.made_at = monotonic()
        self._timing_reports.send([thread.timings for thread in threads], worker.queue_names)


def memory_used() -> int | None:
    """Return how many bytes of memory this process uses; None if the system does not show it."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
