"""How long tasks waited and ran, measured in each thread and reported to the store."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock

from ..backends.base import Client
from ..backends.stats import LATENCY, RUN
from ..commits.counters import Reports
from ..telemetry.histogram import Histogram


class Timings:
    """How long the tasks of one queue waited and ran in one thread."""

    def __init__(self) -> None:
        self.run: Histogram = Histogram()
        self.latency: Histogram = Histogram()

    def figures(self) -> Counter[str]:
        """Return both histograms as counters for a store."""
        return Counter({**self.run.figures(RUN), **self.latency.figures(LATENCY)})


class TimingReports:
    """Reports of timings to the store: each report contains what is new since the last one."""

    def __init__(self, client: Client) -> None:
        self._reports = Reports(client)
        self._lock = Lock()
        self._reported: dict[str, Counter[str]] = {}
        """The totals of the last report, by queue."""

    def send(
        self, of_threads: Iterable[Mapping[str, Timings]], queue_names: Sequence[str] = ()
    ) -> None:
        """Report the timings of all threads, by queue; raise `BackendError` if the store refuses.

        A report that failed is repeated by the next call. Does nothing while another thread reports.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._reports.resend()
            totals: dict[str, Counter[str]] = {}
            for by_queue in of_threads:
                for name, timings in list(by_queue.items()):
                    totals.setdefault(name, Counter()).update(timings.figures())
            news = {name: totals[name] - self._reported.get(name, Counter()) for name in totals}
            self._reported = totals
            self._reports.send({name: new for name, new in news.items() if new}, queue_names)
        finally:
            self._lock.release()
