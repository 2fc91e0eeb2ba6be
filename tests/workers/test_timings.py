"""Timings reach the store once, however often they are reported."""

from typing import Any

import pytest

from alligator import Gator
from alligator.backends.locmem_backend import Client as Locmem
from alligator.exceptions import BackendError
from alligator.monitoring.stats import measure
from alligator.workers.timings import TimingReports, Timings


def timings(*seconds: float) -> Timings:
    times = Timings()
    for each in seconds:
        times.run.add(each)
        times.latency.add(each)
    return times


def count_of_runs(gator: Gator) -> int:
    (queue,) = measure(gator)["stores"][0]["queues"]
    count: int = queue["run_time"]["count"]
    return count


def test_timing_reports_contain_only_what_is_new() -> None:
    gator = Gator("locmem://")
    reports, first, second = TimingReports(gator.client), timings(0.1, 0.2), timings(0.3)

    reports.send([{"all": first}, {"all": second}], ["all"])
    reports.send([{"all": first}, {"all": second}], ["all"])
    second.run.add(0.4)
    reports.send([{"all": first}, {"all": second}], ["all"])

    assert count_of_runs(gator) == 4


def test_timing_reports_repeat_a_report_that_failed() -> None:
    class Failing(Locmem):
        fails = True

        def note(self, *args: Any, **options: Any) -> None:
            if self.fails:
                raise BackendError("not now")
            super().note(*args, **options)

    gator = Gator("locmem://", backend_class=Failing)
    reports = TimingReports(gator.client)

    with pytest.raises(BackendError):
        reports.send([{"all": timings(0.1)}], ["all"])
    gator.backend.fails = False
    reports.send([{"all": timings(0.1)}], ["all"])

    assert count_of_runs(gator) == 1
