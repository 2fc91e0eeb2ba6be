"""Counts of the tasks of transactions, and their report to the store."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from alligator import Gator
from alligator.backends.base import Figures
from alligator.backends.locmem_backend import Client
from alligator.backends.stats import COMMITS
from alligator.commits import counters
from alligator.exceptions import BackendError, BackendUnavailable
from alligator.testing import capture
from alligator.web.middleware import Middleware
from tests.harness import sample_tasks
from tests.harness.programs import ROOT, eventually


class Noting(Client):
    """A store that can be unreachable for reports, and sets an event for each report."""

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.away = False
        self.replies_lost = 0
        self.reported = threading.Event()

    def note(
        self, figures: Figures, queue_names: object = (), *, report_id: str | None = None
    ) -> None:
        if self.away:
            raise BackendUnavailable("away")
        super().note(figures, report_id=report_id)
        self.reported.set()
        if self.replies_lost:
            self.replies_lost -= 1
            raise BackendUnavailable("no answer")


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://", backend_class=Noting)


def commits(gator: Gator) -> dict[str, int]:
    gator.counters.flush()
    return dict(gator.client.figures(COMMITS) or {})


def store_of(gator: Gator) -> Noting:
    assert isinstance(gator.client, Noting)
    return gator.client


def test_committed_tasks_are_counted(gator: Gator) -> None:
    with gator.transaction():
        gator.task(sample_tasks.add, 1, 2)
        gator.task(sample_tasks.add, 3, 4)

    assert commits(gator) == {"committed": 2}


def test_discarded_tasks_are_counted_by_cause(gator: Gator) -> None:
    with suppress(ZeroDivisionError), gator.transaction():
        gator.task(sample_tasks.add, 1, 2)
        raise ZeroDivisionError
    with gator.transaction() as tx:
        gator.task(sample_tasks.add, 1, 2)
        tx.doom()
    middleware: Middleware[None] = Middleware(None, gator)
    transactions = middleware.begin(None)
    gator.task(sample_tasks.add, 1, 2)
    middleware.leave(transactions)
    middleware.end(transactions, 404, [])

    assert commits(gator) == {"exception": 1, "doomed": 1, "veto": 1}


def test_tasks_that_the_store_did_not_accept_are_counted() -> None:
    class Full(Noting):
        def push_many(
            self, messages: object, *, commit_id: str | None = None, undo: bool = True
        ) -> None:
            raise BackendError("full")

    gator = Gator("locmem://", backend_class=Full)
    with pytest.raises(BackendError), gator.transaction():
        gator.task(sample_tasks.add, 1, 2)

    assert commits(gator) == {"failed": 1}
    assert gator.counters.failed_within(60) > 0


def test_tasks_of_an_inner_transaction_are_counted_once(gator: Gator) -> None:
    with gator.transaction(), gator.transaction():
        gator.task(sample_tasks.add, 1, 2)

    assert commits(gator) == {"committed": 1}


def test_tasks_with_always_count_as_committed_after_a_failure(gator: Gator) -> None:
    with suppress(ZeroDivisionError), gator.transaction():
        gator.options(always=True).task(sample_tasks.add, 1, 2)
        gator.task(sample_tasks.add, 1, 2)
        raise ZeroDivisionError

    assert commits(gator) == {"exception": 1, "committed": 1}


def test_inline_tasks_are_not_counted(gator: Gator) -> None:
    with gator.transaction(is_async=False):
        gator.task(sample_tasks.add, 1, 2)

    assert commits(gator) == {}


def test_captured_tasks_are_not_counted(gator: Gator) -> None:
    with capture(), gator.transaction():
        gator.task(sample_tasks.add, 1, 2)

    assert commits(gator) == {}


def test_counts_of_many_threads_are_complete(gator: Gator) -> None:
    def commit(_: int) -> None:
        with gator.transaction():
            gator.task(sample_tasks.add, 1, 2)
        gator.counters.flush()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(commit, range(200)))

    assert commits(gator) == {"committed": 200}


def test_counts_that_cannot_be_reported_are_reported_later(gator: Gator) -> None:
    store_of(gator).away = True
    with gator.transaction():
        gator.task(sample_tasks.add, 1, 2)
    with pytest.raises(BackendUnavailable):
        gator.counters.flush()
    store_of(gator).away = False

    assert commits(gator) == {"committed": 1}


def test_report_whose_reply_is_lost_counts_once(gator: Gator) -> None:
    store_of(gator).replies_lost = 2
    for _ in range(2):
        with gator.transaction():
            gator.task(sample_tasks.add, 1, 2)
        with pytest.raises(BackendUnavailable):
            gator.counters.flush()
    with gator.transaction():
        gator.task(sample_tasks.add, 1, 2)

    assert commits(gator) == {"committed": 3}


def test_thread_reports_counts_to_the_store(gator: Gator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(counters, "_reporter", None)
    with gator.transaction():
        gator.task(sample_tasks.add, 1, 2)

    assert store_of(gator).reported.wait(10)
    store_of(gator).reported.clear()
    with gator.transaction():
        gator.task(sample_tasks.add, 1, 2)
    assert store_of(gator).reported.wait(10)
    eventually(lambda: gator.client.figures(COMMITS) == {"committed": 2})


PROGRAM = """
import os, sys
from alligator import Gator
from tests.harness import sample_tasks

gator = Gator(sys.argv[1])

def commit():
    with gator.transaction():
        gator.task(sample_tasks.add, 1, 2)

commit()
child = os.fork()
commit()
if child:
    _, status = os.waitpid(child, 0)
    assert status == 0
"""


def test_process_reports_at_its_end_and_a_forked_child_its_own(
    tmp_path: Path,
) -> None:
    dsn = f"sqlite://{tmp_path}/queue.db"

    subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", PROGRAM, dsn],
        check=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    gator = Gator(dsn)
    assert gator.client.figures(COMMITS) == {"committed": 3} == {"committed": gator.stats().pushed}
    gator.client.close()


def test_program_without_transactions_has_no_reporter_thread() -> None:
    code = """
import threading
from alligator import Gator
gator = Gator("locmem://")
gator.task(print)
with gator.transaction():
    pass
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)


def test_counts_of_a_gator_that_is_collected_are_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("alligator.commits.counters.FLUSH_SECONDS", 0.01)
    dsn = f"sqlite://{tmp_path / 'queue.db'}"

    for _ in range(10):
        gator = Gator(dsn)
        with gator.transaction():
            gator.task(sample_tasks.add, 1, 2)
        del gator

    def committed() -> int:
        return (Gator(dsn).client.figures(COMMITS) or {}).get("committed", 0)

    eventually(lambda: committed() == 10)
