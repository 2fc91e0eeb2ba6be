"""Faults of a web server with Django, whose ``atomic()`` commits rows and tasks together."""

from tests.faults.cases.databases import kill_during_requests, kill_in_the_store
from tests.faults.catalogue import fault
from tests.faults.harness import Harness
from tests.harness.mysql_servers import mysql_server
from tests.harness.postgres_servers import postgres_server


@fault("sqlite", "redis-always", quick=True)
def database_django(harness: Harness) -> None:
    """Kill the web server (Django, SQLite) while atomic() commits rows and tasks together."""
    kill_during_requests(harness, "django_atomic")


@fault("redis-always")
def database_django_postgresql(harness: Harness) -> None:
    """The same with PostgreSQL."""
    with postgres_server(fsync="on") as server:
        url = server.dsn.replace("postgresql:", "postgresql+psycopg:")
        kill_during_requests(harness, "django_atomic", url)


@fault("redis-always")
def database_django_mariadb(harness: Harness) -> None:
    """The same with MariaDB (PyMySQL)."""
    with mysql_server() as server:
        kill_during_requests(harness, "django_atomic", server.url)


@fault("postgres")
def database_django_same(harness: Harness) -> None:
    """The same in the database of the store: atomic() writes its tables."""
    kill_in_the_store(harness, "django_atomic")


@fault("sqlite", "redis-always")
def database_django_not_enlisted(harness: Harness) -> None:
    """The same where no database is enlisted: rows lose their tasks."""
    harness.forgets = harness.lossy = True
    kill_during_requests(harness, "django_not_enlisted")
