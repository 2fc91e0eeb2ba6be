"""What became of the tasks that transactions held."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from alligator import Gator, tally
from alligator.backends.figures import COMMITS, Figures
from alligator.backends.locmem_backend import Client
from alligator.exceptions import BackendError, BackendUnavailable
from alligator.middleware import Middleware
from alligator.testing import capture
from tests import sample_tasks
from tests.programs import ROOT, eventually


class Noting(Client):
    """A store that can be away for figures, and tells when it is told."""

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.away = False
        self.told = threading.Event()

    def note(self, figures: Figures, queue_names: object = ()) -> None:
        if self.away:
            raise BackendUnavailable("away")
        super().note(figures)
        self.told.set()


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://", backend_class=Noting)


def commits(gator: Gator) -> dict[str, int]:
    gator.tally.flush()
    return dict(gator.client.figures(COMMITS) or {})


def store_of(gator: Gator) -> Noting:
    assert isinstance(gator.client, Noting)
    return gator.client


def test_tasks_that_were_committed_are_counted(gator: Gator) -> None:
    with gator.transaction():
        gator.task(sample_tasks.add, 1, 2)
        gator.task(sample_tasks.add, 3, 4)

    assert commits(gator) == {"committed": 2}


def test_tasks_that_were_discarded_are_counted_by_cause(gator: Gator) -> None:
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
    middleware.settle(transactions, 404, [])

    assert commits(gator) == {"exception": 1, "doomed": 1, "veto": 1}


def test_tasks_that_the_store_did_not_take_are_counted() -> None:
    class Full(Noting):
        def push_many(self, messages: object, *, commit_id: str | None = None) -> None:
            raise BackendError("full")

    gator = Gator("locmem://", backend_class=Full)
    with pytest.raises(BackendError), gator.transaction():
        gator.task(sample_tasks.add, 1, 2)

    assert commits(gator) == {"failed": 1}
    assert gator.tally.failed_at is not None


def test_what_an_inner_transaction_hands_over_is_counted_once(gator: Gator) -> None:
    with gator.transaction(), gator.transaction():
        gator.task(sample_tasks.add, 1, 2)

    assert commits(gator) == {"committed": 1}


def test_tasks_that_waited_in_spite_of_a_failure_are_committed(gator: Gator) -> None:
    with suppress(ZeroDivisionError), gator.transaction():
        gator.options(always=True).task(sample_tasks.add, 1, 2)
        gator.task(sample_tasks.add, 1, 2)
        raise ZeroDivisionError

    assert commits(gator) == {"exception": 1, "committed": 1}


def test_tasks_that_ran_in_this_process_are_not_counted(gator: Gator) -> None:
    with gator.transaction(is_async=False):
        gator.task(sample_tasks.add, 1, 2)

    assert commits(gator) == {}


def test_captured_tasks_are_not_counted(gator: Gator) -> None:
    with capture(), gator.transaction():
        gator.task(sample_tasks.add, 1, 2)

    assert commits(gator) == {}


def test_many_threads_lose_no_count(gator: Gator) -> None:
    def commit(_: int) -> None:
        with gator.transaction():
            gator.task(sample_tasks.add, 1, 2)
        gator.tally.flush()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(commit, range(200)))

    assert commits(gator) == {"committed": 200}


def test_what_cannot_be_told_is_told_later(gator: Gator) -> None:
    store_of(gator).away = True
    with gator.transaction():
        gator.task(sample_tasks.add, 1, 2)
    with pytest.raises(BackendUnavailable):
        gator.tally.flush()
    store_of(gator).away = False

    assert commits(gator) == {"committed": 1}


def test_a_thread_tells_the_store_by_itself(gator: Gator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(tally, "_teller", None)
    with gator.transaction():
        gator.task(sample_tasks.add, 1, 2)

    assert store_of(gator).told.wait(10)
    store_of(gator).told.clear()
    with gator.transaction():
        gator.task(sample_tasks.add, 1, 2)
    assert store_of(gator).told.wait(10)
    eventually(lambda: gator.client.figures(COMMITS) == {"committed": 2})


PROGRAM = """
import os, sys
from alligator import Gator
from tests import sample_tasks

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


def test_a_process_tells_the_last_news_at_its_end_and_a_forked_child_its_own(
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


def test_a_program_without_transactions_has_no_thread_for_it() -> None:
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
