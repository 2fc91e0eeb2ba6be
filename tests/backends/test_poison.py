"""A task that kills its workers, and many innocent ones: eight real processes on one store."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from alligator import Gator
from tests.harness.programs import ROOT, environment, eventually
from tests.harness.sample_tasks import add, crash

INNOCENT = 1_000

WORKER = """
import sys
from alligator import Gator, Worker
sys.exit(Worker(Gator(sys.argv[1]), lease_for=2.0).run_forever())
"""


@pytest.fixture
def workers(shared_dsn: str) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Start eight workers at once, and end those that are left with the test."""
    command = [sys.executable, "-c", WORKER, shared_dsn]
    with ExitStack() as stack:
        several = [
            stack.enter_context(
                subprocess.Popen(command, env=environment(), cwd=ROOT, stderr=subprocess.DEVNULL)
            )
            for _ in range(8)
        ]
        yield several
        for worker in several:
            worker.kill()


# The fault "poison-tasks" is the short twin for SQLite and Redis, in each run.
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("sqlite", "valkey")]


@pytest.mark.parametrize("dsn", ["postgres", *OTHERS], indirect=True)
def test_task_that_kills_its_workers_harms_no_other(
    shared_dsn: str, workers: list["subprocess.Popen[bytes]"]
) -> None:
    gator = Gator(shared_dsn)
    with gator.transaction():
        for number in range(INNOCENT - 1):
            if number == INNOCENT // 3:
                gator.task(crash)
            gator.task(add, 1, 2)

    eventually(lambda: gator.stats().dead and gator.stats().succeeded == INNOCENT - 1, 120)

    (letter,) = gator.dead_letters()
    assert '"callable":"crash"' in letter.data
    assert "lost 5 times" in letter.reason
    # The first that died may have had it in a batch.
    assert [worker.poll() for worker in workers].count(3) in (5, 6)
