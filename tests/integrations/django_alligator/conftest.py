"""Django projects in files, and a database of each kind in turn whose transactions tasks follow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alligator import Gator
from tests.harness.django_databases import USING, Shop, add_database
from tests.harness.django_files import DjangoProject
from tests.harness.django_settings import settings_of, use_pymysql
from tests.harness.mysql_servers import mysql_server
from tests.harness.postgres_servers import postgres_server
from tests.harness.requirements import needed


@pytest.fixture
def project(tmp_path: Path) -> DjangoProject:
    return DjangoProject(tmp_path)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Give the DSN of a PostgreSQL that runs as long as the tests do."""
    with needed(), postgres_server() as server:
        yield server.dsn


@pytest.fixture(scope="session")
def mysql() -> Iterator[str]:
    """Give the URL of a MariaDB that runs as long as the tests do."""
    pytest.importorskip("pymysql")
    use_pymysql()
    with needed(), mysql_server() as server:
        yield server.url


def settings_for(request: pytest.FixtureRequest, kind: str, folder: Path) -> dict[str, Any]:
    """Return the settings of a database of that kind."""
    if kind == "sqlite":
        return settings_of(f"sqlite:///{folder / 'shop.db'}")
    return settings_of(request.getfixturevalue({"postgresql": "postgres"}.get(kind, kind)))


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work as outside of tests, although pytest-django has set up Django's test environment."""
    monkeypatch.setattr("django_alligator.outbox.is_in_test", lambda: False)


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def shop(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    production: None,
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Shop]:
    """Return a shop with a database of each kind, whose relay must not fail."""
    connection = add_database(USING, **settings_for(request, request.param, tmp_path))
    with Gator("locmem://") as gator:
        yield Shop(gator)
    connection.close()
    assert "cannot be relayed" not in caplog.text
