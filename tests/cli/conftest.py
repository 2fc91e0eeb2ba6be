"""A store for the tests of the command line."""

import os
import sys
from pathlib import Path

import pytest

from alligator import Gator


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a command's changes to the import path, and variables of the environment, out of tests."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in list(os.environ):
        if name.startswith("ALLIGATOR_"):
            monkeypatch.delenv(name)


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    """The DSN of a store that exists and is empty."""
    dsn = f"sqlite://{tmp_path}/queue.db"
    Gator(dsn).client.ping()
    return dsn


@pytest.fixture
def gator(dsn: str) -> Gator:
    return Gator(dsn)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The file that tasks write to."""
    return tmp_path / "out"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The file for a worker's stderr."""
    return tmp_path / "log"
