"""Fixtures for the tests of isolation."""

from pathlib import Path

import pytest

from alligator import Gator


@pytest.fixture
def gator(dsn: str) -> Gator:
    return Gator(dsn)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alligator.workers.isolation.parent.GRACE_SECONDS", 0.4)
