"""A fork server that cannot start a process harms no task."""

import os
import resource
import socket
import sys
from pathlib import Path

import pytest

from alligator import Gator, Worker
from alligator.workers.isolation.forkserver import NOT_STARTED, STATUS, ForkServer
from tests.harness.programs import eventually, lines
from tests.harness.sample_tasks import record

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc"),
]


@pytest.mark.parametrize("room", [0, 1, 2])
def test_fork_server_without_descriptors_releases_the_task(
    gator: Gator, out: Path, room: int
) -> None:
    gator.options(retries=0).task(record, str(out), "ran")
    worker = Worker(gator, isolate=True)
    worker.prepare()
    assert worker.isolation is not None
    fork_server = worker.isolation._server.pid
    eventually(lambda: os.getpgid(fork_server) == fork_server)  # it has all that it needs itself
    before = resource.prlimit(fork_server, resource.RLIMIT_NOFILE)
    used = {int(name) for name in os.listdir(f"/proc/{fork_server}/fd")}
    limit = [number for number in range(max(used) + 4) if number not in used][room]
    resource.prlimit(fork_server, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        assert not worker.check_and_run_task()
        assert "no process for tasks" in worker.unrunnable["tests.harness.sample_tasks.record"]
        after_failure = gator.stats()
        resource.prlimit(fork_server, resource.RLIMIT_NOFILE, before)
        eventually(worker.check_and_run_task)
    finally:
        worker.isolation.close()

    assert (after_failure.scheduled, after_failure.dead, after_failure.retried) == (1, 0, 0)
    assert lines(out) == ["ran"]


@pytest.mark.parametrize("arrived", [1, 2])
def test_fork_server_that_receives_no_descriptors_starts_no_child(arrived: int) -> None:
    ours, theirs = socket.socketpair()
    reader, status = os.pipe()
    fds = [status, *(os.open(os.devnull, os.O_RDONLY) for _ in range(arrived - 1))]

    with ours, theirs:
        fork_server = ForkServer(theirs, lambda channel, trace: None)
        fork_server._start(1, fds)
        fork_server._reader.close()
        fork_server._writer.close()

    assert STATUS.unpack(os.read(reader, STATUS.size)) == (NOT_STARTED,)
    assert not fork_server._children
    os.close(reader)
