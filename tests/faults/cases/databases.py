"""Faults of a web server whose requests commit rows and tasks together."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from threading import Thread
from time import sleep

from sqlalchemy import create_engine, text

from tests.faults.audit import Answer
from tests.faults.catalogue import fault
from tests.faults.harness import SITES, Broken, Harness, eventually
from tests.harness.mysql_servers import mysql_server
from tests.harness.postgres_servers import pgbouncer, postgres_server

KILLS = int(os.environ.get("KILLS", "25"))
"""How often the web server is killed; for the record 500 times."""

CLIENTS = 3

AWAY_SECONDS = float(os.environ.get("AWAY_SECONDS", "2"))
"""For how long the store is away; for the record three minutes."""


class Shop:
    """A web server with a database, which is killed and started again."""

    def __init__(
        self, harness: Harness, kind: str, url: str = "", *, has_outbox: bool = True
    ) -> None:
        self.harness = harness
        self.has_outbox = has_outbox
        self.url = url or f"sqlite:///{harness.folder / 'shop.db'}"
        self.names: list[str] = []
        self._numbers = count(1)
        self._ended = False
        self.answered = self.succeeded = 0
        harness.environ.update(SHOP=kind, SHOP_DATABASE=self.url)
        harness.site = "shop"
        SITES["shop"] = "tests.faults.shop"
        os.environ.setdefault("ALLIGATOR_CONN", harness.dsn)
        from tests.faults import shop  # makes a gator, which needs a DSN

        engine = create_engine(self.url)
        shop.metadata().create_all(engine)
        if not has_outbox:
            shop.OUTBOX.drop(engine)
        engine.dispose()

    def ask(self) -> int:
        """Send a request, and remember the names of its rows."""
        name = f"k{next(self._numbers)}"
        fate = self.harness.random.choices(
            ["commit", "500", "rollback", "savepoint"], [4, 2, 2, 3]
        )[0]
        self.names += [name, f"{name}-s"]
        return self.harness.request("POST", f"/?id={name}&fate={fate}")

    @contextmanager
    def traffic(self) -> Iterator[None]:
        """Send requests during the block."""
        clients = [Thread(target=self._keep_asking) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._ended = True
            for client in clients:
                client.join()

    def wait_for_answers(self, number: int) -> None:
        """Wait until so many more requests were answered."""
        end = self.answered + number
        eventually(lambda: self.answered >= end, "the server serves", 60)

    def _keep_asking(self) -> None:
        while not self._ended:
            status = self.ask()
            if status > 0:
                self.answered += 1
                self.succeeded += status == 201
            else:
                sleep(0.01)

    def kill_often(self, kills: int) -> None:
        """Kill the process that serves, at random moments during requests."""
        with self.traffic():
            while self.harness.injections < kills:
                self.wait_for_answers(1)
                sleep(self.harness.random.uniform(0, 0.05))
                self.kill()

    def kill(self) -> None:
        """Kill the process that serves; the process that forked it forks another one."""
        _, *children = self.harness.web_pids
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
                self.harness.injections += 1

    def audit(self) -> None:
        """Record each row as accepted, and each row that is missing as refused."""
        engine = create_engine(self.url)
        with engine.connect() as connection:
            rows = {name for (name,) in connection.execute(text("SELECT id FROM shop_rows"))}
        engine.dispose()
        for name in self.names:
            status = 201 if name in rows else 500
            self.harness.audit_log.answers.append(Answer((name,), status))
        self.harness.notes.append(
            f"{self.harness.injections} kills, {len(self.names) // 2} requests, {len(rows)} rows"
        )

    def is_empty(self) -> bool:
        """Return whether the outbox is empty."""
        if not self.has_outbox:
            return True
        engine = create_engine(self.url)
        with engine.connect() as connection:
            left = connection.execute(text("SELECT count(*) FROM alligator_outbox")).scalar()
        engine.dispose()
        return not left


def kill_during_requests(
    harness: Harness, kind: str, url: str = "", *, has_outbox: bool = True
) -> None:
    """Kill the web server, and compare rows and tasks after a worker's relay has done its work."""
    shop = Shop(harness, kind, url, has_outbox=has_outbox)
    harness.web()
    shop.kill_often(KILLS)
    harness.end_web()
    harness.mark()
    harness.worker()
    eventually(shop.is_empty, "the worker relays what was left", 120)
    shop.audit()


@fault("sqlite", "redis-always", quick=True)
def database_fastapi(harness: Harness) -> None:
    """Kill the web server (FastAPI, SQLAlchemy) while it commits rows and tasks in one transaction."""
    kill_during_requests(harness, "fastapi_sync")


@fault("sqlite", "redis-always")
def database_asyncio(harness: Harness) -> None:
    """The same with coroutines and an asynchronous session."""
    kill_during_requests(harness, "fastapi_async")


@fault("sqlite", "redis-always")
def database_flask(harness: Harness) -> None:
    """The same with Flask-SQLAlchemy."""
    kill_during_requests(harness, "flask_sqlalchemy")


@fault("sqlite", "redis-always")
def database_plain(harness: Harness) -> None:
    """The same with a plain connection of sqlite3."""
    kill_during_requests(harness, "plain_sqlite3")


@fault("sqlite", "redis-always")
def database_plain_aiosqlite(harness: Harness) -> None:
    """The same with coroutines and a plain connection of aiosqlite."""
    kill_during_requests(harness, "plain_aiosqlite")


@fault("redis-always")
def database_postgresql(harness: Harness) -> None:
    """The same with FastAPI and PostgreSQL (psycopg)."""
    with postgres_server(fsync="on") as server:
        url = server.dsn.replace("postgresql:", "postgresql+psycopg:")
        kill_during_requests(harness, "fastapi_sync", url)


@fault("redis-always")
def database_asyncpg(harness: Harness) -> None:
    """The same with coroutines and PostgreSQL (asyncpg); tables are made with psycopg."""
    with postgres_server(fsync="on") as server:
        url = server.dsn.replace("postgresql:", "postgresql+psycopg:")
        kill_during_requests(harness, "fastapi_async", url)


@fault("redis-always")
def database_mariadb(harness: Harness) -> None:
    """The same with FastAPI and MariaDB (PyMySQL), where the relays lock rows beside the inserts."""
    with mysql_server() as server:
        kill_during_requests(harness, "fastapi_sync", server.url)


def kill_in_the_store(harness: Harness, kind: str) -> None:
    """Kill the web server of an application in the database of the store, which has no outbox."""
    url = harness.dsn.replace("postgresql:", "postgresql+psycopg:")
    kill_during_requests(harness, kind, url, has_outbox=False)


@fault("postgres", quick=True)
def database_same(harness: Harness) -> None:
    """The same with FastAPI in the database of the store: commits write its tables (psycopg)."""
    kill_in_the_store(harness, "fastapi_sync")


@fault("postgres")
def database_same_asyncpg(harness: Harness) -> None:
    """The same with coroutines in the database of the store (asyncpg)."""
    kill_in_the_store(harness, "fastapi_async")


@fault("postgres")
def database_same_psycopg_async(harness: Harness) -> None:
    """The same with coroutines in the database of the store (psycopg)."""
    harness.environ["SHOP_ASYNC_DRIVER"] = "psycopg_async"
    kill_in_the_store(harness, "fastapi_async")


@fault("postgres")
def database_same_plain_psycopg(harness: Harness) -> None:
    """The same with a plain connection of psycopg in the database of the store."""
    kill_in_the_store(harness, "plain_psycopg")


@fault("postgres")
def database_same_plain_asyncpg(harness: Harness) -> None:
    """The same with a plain connection of asyncpg in the database of the store."""
    kill_in_the_store(harness, "plain_asyncpg")


@fault("postgres")
def database_same_pgbouncer(harness: Harness) -> None:
    """The same, where application and queue use a PgBouncer in transaction mode (psycopg)."""
    with pgbouncer(harness.postgres.server) as bouncer:
        harness.dsn = bouncer.dsn
        kill_in_the_store(harness, "plain_psycopg")
        harness.drain()


@fault("postgres")
def database_same_crashed(harness: Harness) -> None:
    """Crash PostgreSQL, which has rows and tasks, while requests commit both together."""
    harness.forgets_reports = True
    server = harness.postgres.server
    url = harness.dsn.replace("postgresql:", "postgresql+psycopg:")
    shop = Shop(harness, "fastapi_sync", url, has_outbox=False)
    harness.web()
    harness.worker()
    with shop.traffic():
        for _ in range(5):
            shop.wait_for_answers(20)
            with harness.outage():
                server.crash()
                harness.injections += 1
                harness.pause(0, 0.3)
                server.start()
    harness.mark()
    shop.audit()


@fault("redis-always")
def database_crashed(harness: Harness) -> None:
    """Crash PostgreSQL, the application's database, while requests commit rows and tasks."""
    with postgres_server(fsync="on", full_page_writes="on") as server:
        url = server.dsn.replace("postgresql:", "postgresql+psycopg:")
        shop = Shop(harness, "fastapi_sync", url)
        harness.web()
        harness.worker()
        with shop.traffic():
            for _ in range(5):
                shop.wait_for_answers(20)
                server.crash()
                harness.injections += 1
                harness.pause(0, 0.3)
                server.start()
        harness.mark()
        eventually(shop.is_empty, "the relays relay what was left", 120)
        shop.audit()


@fault("redis-always", quick=True)
def database_store_away(harness: Harness) -> None:
    """Kill the store while requests commit rows and tasks: they succeed, and the tasks come later.

    Meanwhile the web server is killed, and so are workers with their relays.
    """
    shop = Shop(harness, "fastapi_sync")
    harness.web()
    harness.worker()
    with shop.traffic():
        shop.wait_for_answers(5)
        with harness.outage():
            harness.kill_valkey()
            before = shop.succeeded
            for _ in range(4):
                shop.wait_for_answers(10)
                sleep(AWAY_SECONDS / 4)
                shop.kill()
                harness.signal_worker(harness.workers[-1])
                harness.worker()
            harness.notes.append(f"{shop.succeeded - before} requests succeeded meanwhile")
            if shop.succeeded == before:
                raise Broken("I5: no request succeeded while the store was away")
            harness.valkey.server.start()
    harness.mark()
    eventually(shop.is_empty, "the relays relay what was left", 120)
    shop.audit()


@fault("sqlite", "redis-always")
def database_not_enlisted(harness: Harness) -> None:
    """Kill the web server of an application whose session is not enlisted: rows lose their tasks."""
    harness.forgets = harness.lossy = True
    kill_during_requests(harness, "not_enlisted")
