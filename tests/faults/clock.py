"""Give all processes a clock that can be moved forward and back."""

import os
import sys
import time
from pathlib import Path

VARIABLE = "CLOCK"
"""The variable that names a file with the offset of the clock, in seconds."""


def faked() -> float:
    """Return the time of the moved clock."""
    return time.time() + float(Path(os.environ[VARIABLE]).read_text())


def install() -> None:
    """Install the clock in all loaded modules of Alligator, if the variable is set."""
    if VARIABLE not in os.environ:
        return
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "alligator" and getattr(module, "time", None) is time.time:
            module.time = faked  # type: ignore[attr-defined]


def put(path: Path, seconds: float) -> None:
    """Set the offset of the clock."""
    new = path.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(path)  # at once, for it is read all the time
