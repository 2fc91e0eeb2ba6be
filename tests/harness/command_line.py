"""Run latergator within the process of the tests, which is faster than a new process."""

import os
import sys
from inspect import signature
from typing import Any

from click.testing import CliRunner, Result

from alligator.cli import main


def invoke(*arguments: str, answer: str | None = None, **env: str) -> Result:
    """Run latergator in this process; of Alligator's variables only *env* are set."""
    # Before click 8.2 a runner keeps stderr apart only if asked to.
    apart: dict[str, Any] = (
        {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
    )
    without = {name: None for name in os.environ if name.startswith("ALLIGATOR_")}
    path = list(sys.path)
    try:
        return CliRunner(**apart).invoke(
            main, arguments, answer, {**without, **env}, prog_name="latergator"
        )
    finally:
        sys.path[:] = path
