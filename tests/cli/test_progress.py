"""The progress bar of a burst."""

import os
import subprocess
import sys

from alligator import Gator
from tests.harness import sample_tasks
from tests.harness.programs import environment


def read(terminal: int) -> bytes:
    """Read what was drawn on a pseudo-terminal; nothing more at its end."""
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux raises it when the other side is closed
        return b""


def test_progress_of_a_burst_is_shown_on_a_terminal(dsn: str, gator: Gator) -> None:
    for _ in range(3):
        gator.task(sample_tasks.add, 1, 2)
    ours, theirs = os.openpty()

    program = subprocess.Popen(
        [sys.executable, "-m", "alligator", dsn, "--burst"],
        env=environment({"TERM": "xterm", "COLUMNS": "100"}),
        stderr=theirs,
        stdout=subprocess.DEVNULL,
    )
    os.close(theirs)
    drawn = b"".join(iter(lambda: read(ours), b""))
    os.close(ours)

    assert program.wait(30) == 0
    assert b"3/3" in drawn
