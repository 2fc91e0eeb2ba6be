"""What can happen to a SQLite file: no room, somebody else's lock, a long reader, no right to write."""

import resource
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.faults.catalogue import fault
from tests.faults.house import Broken, House
from tests.faults.of_redis import ask_all_statuses
from tests.programs import ROOT, environment

SQLITE = ("sqlite",)


@fault(*SQLITE, quick=True)
def no_room(house: House) -> None:
    """Let the files of the web server grow no further, as on a full disk, while clients ask."""
    house.web()
    with house.traffic():
        house.pause(0.3, 0.5)
        house.strikes += 1
        size = Path(f"{house.sqlite.path}-wal").stat().st_size
        for pid in house.web_pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 40_000, resource.RLIM_INFINITY))
        house.pause(1, 1.5)
        for _ in range(3):
            ask_all_statuses(house, 503)
        # Workers have room, and what they finish makes room for others.
        house.worker()
        house.pause(0.5, 1)
        for pid in house.web_pids:
            limits = resource.RLIM_INFINITY, resource.RLIM_INFINITY
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
        house.mark()
        house.is_well()


@fault(*SQLITE)
def no_room_for_a_worker(house: House) -> None:
    """Let the files of a worker grow no further: what it has in hand is not lost."""
    house.web()
    worker = house.worker()
    with house.traffic(task="work"):
        house.pause(0.5, 0.7)
        house.strikes += 1
        size = Path(f"{house.sqlite.path}-wal").stat().st_size
        # Its lease ends meanwhile, as if it were frozen; another worker may take over.
        house.struck.add(worker.pid)
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
        house.pause(1.5, 2)
        house.worker()
        house.pause(0.5, 1)
        limits = resource.RLIM_INFINITY, resource.RLIM_INFINITY
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, limits)
        house.mark()


@fault(*SQLITE, quick=True)
def another_writer(house: House) -> None:
    """Have a stranger hold the lock for longer than a commit may take: 503, and in time."""
    house.web()
    house.worker()
    with house.traffic(), closing(house.sqlite.connect()) as stranger:
        house.pause(0.2, 0.4)
        with house.outage():
            stranger.execute("BEGIN IMMEDIATE")
            ask_all_statuses(house, 503)
            house.pause(0.5, 1)
            stranger.execute("ROLLBACK")
        house.is_well()


@fault(*SQLITE)
def a_long_reader(house: House) -> None:
    """Have a stranger read for a long time, so that the log cannot be emptied into the file."""
    house.web()
    house.worker()
    with house.traffic(6), closing(house.sqlite.connect()) as stranger:
        stranger.execute("BEGIN")
        stranger.execute("SELECT count(*) FROM task").fetchone()
        house.strikes += 1
        house.pause(3, 4)
        log = Path(f"{house.sqlite.path}-wal").stat().st_size
        stranger.execute("ROLLBACK")
        house.mark()
    house.notes.append(f"the log grew to {log / 1e6:.1f} MB")
    statuses = {each.status for each in house.books.answers}
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
    os.setuid(65534)
try:
    gator.task(print)
except BackendError as error:
    print(error)
"""


@fault(*SQLITE)
def no_right_to_write(house: House) -> None:
    """Let a user push who may read the file and not write it: it says so, and nothing is queued."""
    house.web()
    ask_all_statuses(house, 201)
    house.strikes += 1
    house.folder.chmod(0o555)
    for path in house.folder.glob("queue.db*"):
        path.chmod(0o444)
    try:
        done = subprocess.run(
            [sys.executable, "-c", PUSH, house.store.dsn],
            env=environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    finally:
        house.folder.chmod(0o755)
        for path in house.folder.glob("queue.db*"):
            path.chmod(0o644)
    if "cannot be written" not in done.stdout:
        raise Broken(f"no clear error: {done.stdout}{done.stderr}")
    house.mark()


@fault(*SQLITE)
def everybody_killed(house: House) -> None:
    """Kill everybody in the middle of their work, so that the next to come reads the log."""
    for _ in range(3):
        house.web()
        house.worker()
        house.worker()
        with house.traffic(task="work"):
            house.pause(0.4, 0.8)
            for victim in house.workers:
                house.strike(victim)
            house.workers.clear()
            house.end_web()
            house.mark()
