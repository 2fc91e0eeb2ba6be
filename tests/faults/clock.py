"""Show Alligator a clock that is put forward and back, the same in all processes."""

import os
import sys
import time
from pathlib import Path

VARIABLE = "CLOCK"
"""Names the file that says by how many seconds the clock is wrong."""


def faked() -> float:
    """Tell the time, as the clock says."""
    return time.time() + float(Path(os.environ[VARIABLE]).read_text())


def install() -> None:
    """Let all of Alligator that is loaded see that clock, if there is to be one."""
    if VARIABLE not in os.environ:
        return
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "alligator" and getattr(module, "time", None) is time.time:
            module.time = faked  # type: ignore[attr-defined]


def put(path: Path, seconds: float) -> None:
    """Make the clock wrong by so many seconds."""
    new = path.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(path)  # at once, for it is read all the time
