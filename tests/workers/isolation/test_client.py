"""The fork server ends with its worker, and its tasks with both."""

import os
import signal
import sys
from pathlib import Path

import pytest

from alligator import Gator
from tests.harness.isolation import descendants, lives
from tests.harness.programs import eventually, lines, running
from tests.harness.sample_tasks import (
    start_and_hang,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("victim", ["worker", "fork_server"])
def test_fork_server_and_tasks_end_with_their_worker(
    dsn: str, gator: Gator, out: Path, tmp_path: Path, victim: str
) -> None:
    gator.task(start_and_hang, str(out))

    with running(dsn, "--isolate", log=tmp_path / "log") as worker:
        eventually(lambda: lines(out))
        task = int(lines(out)[0].split()[0])
        [fork_server] = [pid for pid in descendants(worker.pid) if task in descendants(pid)]
        os.kill(worker.pid if victim == "worker" else fork_server, signal.SIGKILL)
        status = worker.wait(30)
        eventually(lambda: not lives(task) and not lives(fork_server))

    if victim == "fork_server":
        os.kill(int(lines(out)[0].split()[1]), signal.SIGKILL)
        assert status == 1
        assert (gator.stats().ready, gator.stats().leased) == (1, 0)
