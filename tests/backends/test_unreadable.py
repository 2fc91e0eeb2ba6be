"""Records that somebody has changed by hand: they are shown as such, and hide nothing else."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from click.testing import CliRunner

from alligator import Gator
from alligator.backends.base import Message, WorkerInfo
from alligator.cli import main
from alligator.monitoring.metrics import Metrics
from alligator.monitoring.stats import measure
from alligator.monitoring.stores import find_stores
from alligator.web.dashboard.view import View
from alligator.web.endpoint import Endpoint
from alligator.web.http import Request
from tests.harness.requirements import needed
from tests.harness.store_servers import valkey_server

Damage = Callable[[str], None]
"""Changes one kind of record in a store."""

KINDS = ("reason", "counter", "figure", "sample", "worker", "queue name", "payload")

SQL = {
    "reason": "UPDATE task SET reason = x'ff00', traceback = 7 WHERE state = 'dead'",
    "counter": "UPDATE queue SET pushed = 'many'",
    "figure": "INSERT INTO figure VALUES ('all', 'run:1', 'many')",
    "sample": "UPDATE sample SET ready = 'many', at = 'then'",
    "worker": "UPDATE worker SET said = '{\"queues\": 7}'",
    "queue name": "INSERT INTO queue SELECT CAST(x'6dff' AS TEXT), 1, 0, 0, 0, 1" + 12 * ", 0",
    "payload": "UPDATE task SET data = x'ff00'",
}

# Its columns have types, so what they hold can be read, but it may make no sense.
POSTGRES = {
    "reason": "UPDATE task SET reason = NULL, traceback = NULL WHERE state = 'd'",
    "counter": "INSERT INTO tally (queue, waiting, dead, pushed) VALUES ('all', -50, -50, -50)",
    "figure": "INSERT INTO figure VALUES ('all', 'run:1', 9223372036854775807)",
    "sample": "UPDATE sample SET at = '-infinity', ready = 9223372036854775807",
    "worker": "UPDATE worker SET record = '{\"queues\": 7}'",
    "queue name": "INSERT INTO tally (queue, waiting) VALUES (E'm\\x1b\\n', 1)",
    "payload": "UPDATE task SET data = '\\xff00'",
}

COMMANDS: dict[str, tuple[Any, ...]] = {
    "reason": ("HSET", "{alligator}:all:why", "dead", "no JSON"),
    "counter": ("HSET", "{alligator}:all:cnt", "pushed", "many"),
    "figure": ("HSET", "{alligator}:all:sum", "run:1", "many"),
    "sample": ("HSET", "{alligator}:all:past", "7", "many"),
    "worker": ("HSET", "{alligator}:worker", "host:1:ab", '1 {"queues": 7}'),
    "queue name": ("SADD", "{alligator}:queues", b"m\xff"),
    "payload": ("HSET", "{alligator}:all:job", "dead", b"\xff\x00"),
}


@pytest.fixture(params=["sqlite", "valkey", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Damage]]:
    """Yield the DSN of a store, and a way to damage it."""
    if request.param == "postgres":
        schema = f"test_{uuid4().hex}"
        server = request.getfixturevalue("postgres")

        def run_in_schema(kind: str) -> None:
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f"SET search_path TO {schema}".encode())
                assert connection.execute(POSTGRES[kind].encode()).rowcount > 0

        yield f"{server}?schema={schema}", run_in_schema
        return
    if request.param == "sqlite":
        path = tmp_path / "queue.db"

        def run_sql(kind: str) -> None:
            with sqlite3.connect(path) as connection:
                assert connection.execute(SQL[kind]).rowcount > 0
            connection.close()

        yield f"sqlite://{path}", run_sql
        return
    with needed(), valkey_server() as server:

        def run_command(kind: str) -> None:
            gator = Gator(str(server))
            conn: Any = gator.client.conn  # type: ignore[attr-defined]
            conn.execute_command(*COMMANDS[kind])
            gator.client.close()

        yield str(server), run_command


@pytest.fixture
def gator(store: tuple[str, Damage]) -> Iterator[Gator]:
    """A gator with a ready task, a dead one, a worker and a sample."""
    gator = Gator(store[0])
    gator.client.push_many([Message("all", "dead", "{}")])
    gator.client.dead_letter(gator.client.reserve("all")[0], reason="no luck")
    gator.client.push_many([Message("all", "ready", "{}"), Message("mail", "a", "{}")])
    gator.client.beat(WorkerInfo("host:1:ab", ["all"]), 60)
    gator.client.note({}, ["all"])
    yield gator
    gator.client.close()


def skip_if_typed(dsn: str) -> None:
    if dsn.startswith("postgres"):
        pytest.skip("the columns have types")


@pytest.mark.parametrize("kind", KINDS)
def test_record_that_was_damaged_breaks_no_page_and_no_command(
    gator: Gator, store: tuple[str, Damage], kind: str
) -> None:
    dsn, damage = store
    damage(kind)
    endpoint = Endpoint(gator, details=True)

    statuses = [
        endpoint.respond(Request("GET", path, True)).status
        for path in ("/", "/stats", "/metrics", "/health")
    ]
    commands = [
        CliRunner().invoke(main, [*command.split(), dsn]).exit_code
        for command in ("stats", "health", "dead list")
    ]

    gator.client.note({}, ["all"])  # as workers do with their heartbeat

    assert statuses == [200, 200, 200, 200]
    assert commands == [0, 0, 0]
    assert len(gator.client.dead_letters("all")) == 1
    assert b"alligator_queue_tasks{backend=" in Metrics(gator).write()[1]


def test_reason_that_cannot_be_read_is_marked(gator: Gator, store: tuple[str, Damage]) -> None:
    skip_if_typed(store[0])
    store[1]("reason")

    (letter,) = gator.client.dead_letters("all")

    assert letter.task_id == "dead"
    assert letter.reason.startswith("unreadable record: ")


def test_counter_that_is_no_number_is_not_told(gator: Gator, store: tuple[str, Damage]) -> None:
    skip_if_typed(store[0])
    store[1]("counter")

    all_queue, _ = measure(gator)["stores"][0]["queues"]

    assert gator.client.stats("all").unreadable == ("pushed",)
    assert all_queue["counters"]["pushed"] is None
    assert all_queue["dead"] == 1


def test_worker_whose_record_cannot_be_read_is_shown_as_one(
    gator: Gator, store: tuple[str, Damage]
) -> None:
    store[1]("worker")

    (worker,) = gator.client.workers()

    assert worker.name == 'unreadable record: {"queues": 7}'


def test_queue_of_another_kind_hides_no_other(gator: Gator, store: tuple[str, Damage]) -> None:
    if not store[0].startswith("redis"):
        pytest.skip("the columns of a table have no kinds")
    conn: Any = gator.client.conn  # type: ignore[attr-defined]
    conn.set("{alligator}:mail:due", "no sorted set")
    stores = find_stores(gator)

    view = View(stores, measure(gator), "", details=False)

    assert [(row.name, row.stats["ready"]) for row in view.queues] == [("all", 1), ("mail", None)]
