"""Synchronous sessions need no greenlet, which SQLAlchemy installs for asynchronous ones."""

import subprocess
import sys

from tests.harness.programs import ROOT, environment

PROGRAM = """
import sys
sys.modules["greenlet"] = None
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker
from alligator import Gator, testing
from sqlalchemy_alligator import enlist
from tests.harness.sample_tasks import add

gator = Gator("locmem://")
make = sessionmaker(create_engine("sqlite://"))
enlist(gator, make)
with testing.sync(), make.begin() as session:
    session.execute(text("SELECT 1"))
    task = gator.task(add, 1, 2)
assert task.result == 3
"""


def test_synchronous_sessions_work_without_greenlet() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
