"""Flask-SQLAlchemy: its session ends with the application context."""

from collections.abc import Iterator
from pathlib import Path

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

from alligator import Gator
from flask_alligator import Alligator
from sqlalchemy_alligator import enlist, outbox_table
from tests.harness.databases import note


class Site:
    """An application with Flask-SQLAlchemy whose session is enlisted."""

    def __init__(self, folder: Path, gator: Gator) -> None:
        self.gator = gator
        self.app = flask.Flask("shop")
        self.app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{folder / 'shop.db'}"
        self.db = db = SQLAlchemy(self.app)
        Alligator(self.app, gator=gator)
        outbox_table(db.metadata)
        enlist(gator, db.session)

        class Order(db.Model):  # type: ignore[name-defined, misc]
            id = db.Column(db.Integer, primary_key=True)
            name = db.Column(db.String)

        def add() -> None:
            order = Order()
            order.name = "a"
            db.session.add(order)
            db.session.flush()
            gator.task(note, f"order {order.id}")

        @self.app.post("/commit/<int:code>")
        def commit(code: int) -> tuple[str, int]:
            add()
            db.session.commit()
            return "", code

        @self.app.post("/forget/<int:code>")
        def forget(code: int) -> tuple[str, int]:
            add()
            return "", code

        @self.app.post("/rollback/<int:code>")
        def rollback(code: int) -> tuple[str, int]:
            add()
            db.session.rollback()
            gator.task(note, "after")
            return "", code

        @self.app.post("/read/<int:code>")
        def read(code: int) -> tuple[str, int]:
            db.session.execute(text("SELECT 1"))
            gator.task(note, "read")
            return "", code

        @self.app.post("/stream/<int:code>")
        def stream(code: int) -> flask.Response:
            add()

            def body() -> Iterator[str]:
                yield "a"
                db.session.commit()
                yield "b"

            return flask.Response(flask.stream_with_context(body()), code)

        with self.app.app_context():
            db.create_all()

    def state(self) -> tuple[int, list[str]]:
        """Return the number of rows, and the tasks."""
        from tests.harness.databases import Shop

        with self.app.app_context():
            shop = Shop.__new__(Shop)
            shop.engine, shop.gator = self.db.engine, self.gator
            shop.has_outbox = True
            tasks = shop.tasks()
            with self.db.engine.connect() as connection:
                rows = connection.execute(text('SELECT count(*) FROM "order"')).scalar_one()
        return rows, tasks


@pytest.mark.parametrize(
    ("path", "rows", "tasks"),
    [
        ("/commit/200", 1, ["order 1"]),
        ("/commit/500", 1, ["order 1"]),
        ("/forget/200", 0, []),
        ("/forget/500", 0, []),
        ("/rollback/200", 0, ["after"]),
        ("/rollback/404", 0, []),
        ("/read/200", 0, ["read"]),
        ("/read/404", 0, []),
    ],
)
def test_row_and_its_task_exist_together(
    tmp_path: Path, path: str, rows: int, tasks: list[str]
) -> None:
    with Gator("locmem://") as gator:
        site = Site(tmp_path, gator)

        site.app.test_client().post(path, buffered=True)

        assert site.state() == (rows, tasks)
        with site.app.app_context():
            site.db.engine.dispose()


def test_commit_of_a_stream_is_that_of_its_own_session(tmp_path: Path) -> None:
    with Gator("locmem://") as gator:
        site = Site(tmp_path, gator)

        site.app.test_client().post("/stream/200", buffered=True)

        rows, tasks = site.state()
        assert rows == len(tasks)  # either both or none, which depends on the version of Flask
        with site.app.app_context():
            site.db.engine.dispose()
