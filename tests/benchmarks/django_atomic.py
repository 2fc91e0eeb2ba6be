"""How long Django's transactions with tasks take: ``python -m tests.benchmarks.django_atomic``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import click
from django.db import transaction

from alligator import Gator
from tests.harness.django_databases import USING, Shop, add_database
from tests.harness.django_settings import settings_of
from tests.harness.postgres_servers import postgres_server

STORES = {
    "PostgreSQL, outbox": ("postgresql", "locmem://"),
    "PostgreSQL, the store in the same database": ("postgresql", ""),
    "SQLite, outbox": ("sqlite", "locmem://"),
}
"""The kind of the database, and the DSN of the store; empty for that of the database."""


def only_rows(shop: Shop, number: int) -> None:
    """Insert rows, each with its statement."""
    for each in range(number):
        shop.insert(f"{each}")


def twice_the_rows(shop: Shop, number: int) -> None:
    """Insert as many rows again."""
    only_rows(shop, 2 * number)


def tasks_one_by_one(shop: Shop, number: int) -> None:
    """Start a task for each row."""
    for each in range(number):
        shop.order(f"{each}")


def tasks_together(shop: Shop, number: int) -> None:
    """Start the tasks on the named connection, which writes them with one statement."""
    with shop.gator.transaction(on=shop.connection):
        tasks_one_by_one(shop, number)


WAYS: dict[str, Callable[[Shop, int], None]] = {
    "{n} rows": only_rows,
    "{n} rows, {n} more rows": twice_the_rows,
    "{n} rows, {n} tasks": tasks_one_by_one,
    "{n} rows, {n} tasks with on=connection": tasks_together,
}


@contextmanager
def shops(name: str, folder: Path) -> Iterator[Shop]:
    """Open a database, and a gator whose tasks follow its transactions."""
    kind, dsn = STORES[name]
    with postgres_server(fsync="on") as server:
        url = server.dsn if kind == "postgresql" else f"sqlite:///{folder / 'shop.db'}"
        connection = add_database(USING, **settings_of(url))
        with Gator(dsn or f"{server.dsn}?schema=queue") as gator:
            gator.client.ping()
            yield Shop(gator)
        connection.close()


@click.command()
@click.option("--rows", default=10, help="Rows, and tasks, of a transaction.")
@click.option("--repeats", default=200, help="Transactions of each kind.")
def main(rows: int, repeats: int) -> None:
    """Print the median time of a transaction, in milliseconds."""
    for name in STORES:
        print(name)
        with TemporaryDirectory() as folder, shops(name, Path(folder)) as shop:
            seconds: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(repeats):  # by turns, because the machine has other work, too
                for way, run in WAYS.items():
                    begin = perf_counter()
                    with transaction.atomic(USING):
                        run(shop, rows)
                    seconds[way].append(perf_counter() - begin)
        for way, values in seconds.items():
            print(f"  {way.format(n=rows):<40} {1000 * median(values):6.1f} ms")


if __name__ == "__main__":
    main()
