"""The demo with PostgreSQL: the commit of an order writes its tasks, also if the server is killed."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from threading import Thread
from time import sleep
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import psycopg

from alligator import Gator
from examples.processes import PATIENCE, Process, own_environ, serving, working

from .screen import Screen
from .stage import until

EXAMPLE = "orders_fastapi"
KILLS = 5
CLIENTS = 3


class Shop:
    """The server of the example, in a schema of its own, which others may look into meanwhile."""

    def __init__(self, dsn: str, folder: Path) -> None:
        url = urlsplit(dsn)
        if url.scheme not in ("postgresql", "postgres"):
            raise ValueError(f"PG must be the DSN of a PostgreSQL database, not of {url.scheme}:")
        self.schema = f"demo_{token_hex(4)}"
        self.queue_schema = f"{self.schema}_queue"
        query = f"{url.query}&" if url.query else ""
        path = quote(f"-csearch_path={self.schema}")
        shop = url._replace(scheme="postgresql", query=f"{query}options={path}")
        self.connection: psycopg.Connection[Any] = psycopg.connect(shop.geturl(), autocommit=True)
        self.connection.execute(f"CREATE SCHEMA {self.schema}".encode())
        self.queue = url._replace(
            scheme="postgresql", query=f"{query}schema={self.queue_schema}"
        ).geturl()
        self.environ = {
            **own_environ(),
            "DATA": str(folder),
            "DATABASE_URL": shop._replace(scheme="postgresql+psycopg").geturl(),
            "ALLIGATOR_CONN": self.queue,
        }
        self.folder = folder
        self.gator = Gator(self.queue)
        self._stack = ExitStack()
        self.server: Process | None = None
        self.start()

    def start(self) -> None:
        """Start the server, also after it was killed."""
        self.server, self.url = self._stack.enter_context(
            serving(EXAMPLE, self.folder / f"log-{token_hex(2)}", self.environ)
        )

    def start_worker(self) -> Process:
        """Start a worker."""
        log = self.folder / "worker.log"
        return self._stack.enter_context(working(log, self.environ, EXAMPLE))

    def kill(self) -> None:
        """Kill the server, which has no time to do anything."""
        assert self.server is not None
        os.kill(self.server.pid, signal.SIGKILL)
        self.server.wait()

    def order(self, item: str, pieces: int) -> httpx.Response:
        """Place an order."""
        new = {"item": item, "pieces": pieces, "email": "ann@example.org"}
        return httpx.post(f"{self.url}/orders", json=new, timeout=PATIENCE, trust_env=False)

    def ask(self, sql: str) -> Any:
        """Return the only value of a query."""
        query = sql.replace("{queue}", self.queue_schema)
        [value] = self.connection.execute(query.encode()).fetchone() or [None]
        return value

    def close(self) -> None:
        """Stop the processes, and remove the schemas."""
        self._stack.close()
        self.gator.close()
        for schema in (self.schema, self.queue_schema):
            self.connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())
        self.connection.close()


@contextmanager
def shop(dsn: str) -> Iterator[Shop]:
    """Start the server of the example in a database; remove everything at the end."""
    with (
        TemporaryDirectory(prefix="alligator-") as folder,
        closing(Shop(dsn, Path(folder))) as opened,
    ):
        yield opened


class OrdersStory:
    """Runs the story, prints it, and checks the guarantees."""

    def __init__(self, shop: Shop, screen: Screen) -> None:
        self.shop = shop
        self.screen = screen

    def play(self) -> None:
        """Run the story from the beginning to the end."""
        self.an_order_and_its_tasks()
        self.an_order_that_fails()
        self.a_server_that_is_killed()
        self.a_worker()

    def an_order_and_its_tasks(self) -> None:
        """Place an order, and see which transaction wrote what."""
        screen, shop = self.screen, self.shop
        screen.step(
            "An order and its tasks",
            "An order starts two tasks: a receipt, and a look at the stock. The queue is in the same "
            "database, so the commit of the order writes them, too.",
        )
        before = shop.gator.stats()
        response = shop.order("apples", 1)
        screen.saw(response)
        screen.queue(before, shop.gator.stats())
        order = shop.ask("SELECT xmin::text FROM orders")
        tasks = shop.ask("SELECT string_agg(DISTINCT xmin::text, ' ') FROM {queue}.task")
        rows = shop.ask("SELECT count(*) FROM alligator_outbox")
        screen.facts(
            "who wrote what",
            {
                "the order": f"transaction {order}",
                "its two tasks": f"transaction {tasks}",
                "the outbox": f"{rows} rows: it is not needed here",
            },
        )
        screen.check(response.status_code == 201, "The client sees a success,")
        screen.check(order == tasks, "and one transaction has written the order and its tasks.")

    def an_order_that_fails(self) -> None:
        """Order more than there is."""
        screen, shop = self.screen, self.shop
        screen.step(
            "An order that fails",
            "The view inserts the order and starts both tasks, before it finds that there are only "
            "three pears. The database rolls back.",
        )
        before = shop.gator.stats()
        response = shop.order("pears", 4)
        after = shop.gator.stats()
        screen.saw(response)
        screen.queue(before, after)
        screen.check(response.status_code == 409, "The client sees a failure,")
        screen.check(shop.ask("SELECT count(*) FROM orders") == 1, "the order is gone,")
        screen.check(after.pushed == before.pushed, "and so are its tasks.")

    def a_server_that_is_killed(self) -> None:
        """Kill the server again and again while clients place orders."""
        screen, shop = self.screen, self.shop
        screen.step(
            "A server that is killed",
            f"{CLIENTS} clients place orders, and kill -9 ends the server {KILLS} times: before its "
            "commit, during it, after it. Each time it is started again.",
        )
        shop.ask("UPDATE stock SET pieces = 1000000 WHERE item = 'apples' RETURNING pieces")
        answers = self._kill_often()
        orders, pushed = shop.ask("SELECT count(*) FROM orders"), shop.gator.stats().pushed
        screen.facts(
            "what is there",
            {
                "clients": f"{answers} successes",
                "orders": f"{orders} rows",
                "tasks": f"{pushed}, two for each order",
            },
        )
        screen.check(answers <= orders, "Each success that a client saw is an order,")
        screen.check(pushed == 2 * orders, "each order has its tasks, and each task its order.")

    def _kill_often(self) -> int:
        """Return how many successes clients saw meanwhile, with that of the first order."""
        shop, succeeded, ended = self.shop, [1], False

        def keep_ordering() -> None:
            while not ended:
                with suppress(httpx.HTTPError):
                    succeeded.append(shop.order("apples", 1).status_code == 201)

        clients = [Thread(target=keep_ordering) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        with self.screen.waiting("The server is killed and started again..."):
            for number in range(KILLS):
                seen = len(succeeded)
                until(lambda seen=seen: len(succeeded) > seen + 5)  # type: ignore[misc]
                sleep(number / 200)
                shop.kill()
                shop.start()
        ended = True
        for client in clients:
            client.join()
        return sum(succeeded)

    def a_worker(self) -> None:
        """Start a worker, and count the receipts."""
        screen, shop = self.screen, self.shop
        screen.step("A worker", "It has waited long enough: latergator --app shop:gator")
        before = shop.gator.stats()
        shop.start_worker()
        with screen.waiting("The worker writes the receipts..."):
            in_time = until(lambda: shop.gator.stats().succeeded >= before.pushed)
        screen.queue(before, shop.gator.stats())
        letters = (shop.folder / "letters.txt").read_text().splitlines()
        receipts = {
            line.partition("order ")[2].partition(",")[0] for line in letters if "order " in line
        }
        orders = {str(row[0]) for row in shop.connection.execute("SELECT id FROM orders")}
        screen.check(in_time, "The worker has done the tasks,")
        screen.check(receipts == orders, "and each order has its receipt.")
