"""Several workers of a program; see also tests/workers/test_prefork.py."""

import os
from pathlib import Path
from typing import Any

import click
import pytest

from alligator import Gator
from alligator.cli.processes import run_workers
from alligator.exceptions import BackendUnavailable

OPTIONS: dict[str, Any] = {
    "burst": True,
    "queues": (),
    "log_level": "info",
    "shutdown_timeout": 5.0,
    "max_tasks": 0,
    "health_file": None,
    "health_port": None,
    "health_host": "127.0.0.1",
}


def test_one_process_is_this_one(tmp_path: Path) -> None:
    gator = Gator(f"sqlite://{tmp_path / 'queue.db'}")
    gator.task(record_pid, str(tmp_path / "out"))

    assert run_workers(gator, 1, **OPTIONS) == 0

    assert (tmp_path / "out").read_text() == str(os.getpid())


def record_pid(path: str) -> None:
    Path(path).write_text(str(os.getpid()))


def test_unreachable_store_is_reported_before_processes_start() -> None:
    with pytest.raises((BackendUnavailable, click.ClickException)):
        run_workers(Gator("redis://127.0.0.1:1/0"), 2, **OPTIONS)
