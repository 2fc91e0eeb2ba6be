"""Faults of a SQLite file: full disk, foreign lock, long reader, read-only user."""

import resource
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.faults.cases.redis import ask_all_statuses
from tests.faults.catalogue import fault
from tests.faults.harness import Broken, Harness
from tests.harness.programs import ROOT, environment

SQLITE = ("sqlite",)


@fault(*SQLITE, quick=True)
def disk_full(harness: Harness) -> None:
    """Limit the file size of the web server, as on a full disk, under load."""
    harness.web()
    with harness.traffic():
        harness.pause(0.3, 0.5)
        harness.injections += 1
        size = Path(f"{harness.sqlite.path}-wal").stat().st_size
        for pid in harness.web_pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 40_000, resource.RLIM_INFINITY))
        harness.pause(1, 1.5)
        for _ in range(3):
            ask_all_statuses(harness, 503)
        # Workers have room, and what they finish makes room for others.
        harness.worker()
        harness.pause(0.5, 1)
        for pid in harness.web_pids:
            limits = resource.RLIM_INFINITY, resource.RLIM_INFINITY
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
        harness.mark()
        harness.wait_until_well()


@fault(*SQLITE)
def disk_full_for_worker(harness: Harness) -> None:
    """Limit the file size of a worker, as on a full disk: its leased tasks are not lost."""
    harness.web()
    worker = harness.worker()
    with harness.traffic(task="work"):
        harness.pause(0.5, 0.7)
        harness.injections += 1
        size = Path(f"{harness.sqlite.path}-wal").stat().st_size
        # Its lease ends meanwhile, as if it were frozen; another worker may take over.
        harness.killed_or_frozen.add(worker.pid)
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
        harness.pause(1.5, 2)
        harness.worker()
        harness.pause(0.5, 1)
        limits = resource.RLIM_INFINITY, resource.RLIM_INFINITY
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, limits)
        harness.mark()


@fault(*SQLITE, quick=True)
def locked_by_writer(harness: Harness) -> None:
    """Hold the lock in another program for longer than a commit may take: 503, in time."""
    harness.web()
    harness.worker()
    with harness.traffic(), closing(harness.sqlite.connect()) as other:
        harness.pause(0.2, 0.4)
        with harness.outage():
            other.execute("BEGIN IMMEDIATE")
            ask_all_statuses(harness, 503)
            harness.pause(0.5, 1)
            other.execute("ROLLBACK")
        harness.wait_until_well()


@fault(*SQLITE)
def long_reader(harness: Harness) -> None:
    """Read in another program for a long time, so that no checkpoint can empty the WAL."""
    harness.web()
    harness.worker()
    with harness.traffic(6), closing(harness.sqlite.connect()) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM task").fetchone()
        harness.injections += 1
        harness.pause(3, 4)
        log = Path(f"{harness.sqlite.path}-wal").stat().st_size
        other.execute("ROLLBACK")
        harness.mark()
    harness.notes.append(f"the log grew to {log / 1e6:.1f} MB")
    statuses = {each.status for each in harness.audit_log.answers}
    if not statuses <= {201, 500}:
        raise Broken(f"clients were answered {statuses}")


PUSH = """
import os
import sys
from alligator import Gator
from alligator.exceptions import BackendError
gator = Gator(sys.argv[1])
if os.geteuid() == 0:  # root may write whatever the modes say
    os.setgid(65534)
    import inspect  # what is imported later may lie where that user must not read
    os.setuid(65534)
try:
    gator.task(print)
except BackendError as error:
    print(error)
"""


@fault(*SQLITE)
def read_only_user(harness: Harness) -> None:
    """Push as a user who may only read the file: the push fails with an error, nothing is queued."""
    harness.web()
    ask_all_statuses(harness, 201)
    harness.injections += 1
    harness.folder.chmod(0o555)
    for path in harness.folder.glob("queue.db*"):
        path.chmod(0o444)
    try:
        done = subprocess.run(
            [sys.executable, "-c", PUSH, harness.store.dsn],
            env=environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    finally:
        harness.folder.chmod(0o755)
        for path in harness.folder.glob("queue.db*"):
            path.chmod(0o644)
    if "cannot be written" not in done.stdout:
        raise Broken(f"no clear error: {done.stdout}{done.stderr}")
    harness.mark()


@fault(*SQLITE)
def all_killed(harness: Harness) -> None:
    """Kill all processes at work, so that the next one must recover from the WAL."""
    for _ in range(3):
        harness.web()
        harness.worker()
        harness.worker()
        with harness.traffic(task="work"):
            harness.pause(0.4, 0.8)
            for victim in harness.workers:
                harness.signal_worker(victim)
            harness.workers.clear()
            harness.end_web()
            harness.mark()
