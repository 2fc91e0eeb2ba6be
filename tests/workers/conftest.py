"""Fixtures for the tests of workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from alligator import Gator
from tests.harness.workers import traces_cleaned


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/queue.db"


@pytest.fixture(autouse=True)
def clean_traces() -> Iterator[None]:
    with traces_cleaned():
        yield
