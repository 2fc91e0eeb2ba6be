"""A SQLite file, and a client of it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from alligator.backends.sqlite_backend import Client

TIMEOUT = 30
"""Seconds, far more than any call needs, so that a busy machine makes no difference."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that does not exist yet."""
    return tmp_path / "queue.db"


@pytest.fixture
def client(path: Path) -> Iterator[Client]:
    """Return a client of that file."""
    with closing(Client(f"sqlite://{path}?timeout={TIMEOUT}")) as client:
        yield client
