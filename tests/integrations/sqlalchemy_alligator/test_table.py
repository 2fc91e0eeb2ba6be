"""The table of the outbox, in the metadata of a project and in the migrations of Alembic."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import URL, MetaData, create_engine, inspect, text
from sqlalchemy.orm import sessionmaker

from alligator import Gator, Worker
from alligator.commits.databases import ddl
from alligator.exceptions import ConfigurationError
from sqlalchemy_alligator import enlist, outbox_table
from tests.harness.databases import Order, note
from tests.harness.programs import environment

MODELS = """
from sqlalchemy import MetaData
from sqlalchemy_alligator import outbox_table

metadata = MetaData()
outbox_table(metadata)
"""


def columns(url: URL) -> dict[str, tuple[str, bool]]:
    """Return the columns of the table, with the kinds of their types, and whether they may be null."""
    engine = create_engine(url)
    found = {
        each["name"]: (type(each["type"]).__name__.upper(), bool(each["nullable"]))
        for each in inspect(engine).get_columns("alligator_outbox")
    }
    engine.dispose()
    return found


def drop(url: URL) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for table in ("alligator_outbox", "alembic_version"):
            connection.execute(text(f"DROP TABLE IF EXISTS {table}"))
    engine.dispose()


def test_metadata_has_the_table_once() -> None:
    metadata = MetaData()

    assert outbox_table(metadata) is outbox_table(metadata)
    assert outbox_table(metadata, schema="shared").fullname == "shared.alligator_outbox"


def test_table_of_the_metadata_is_that_of_the_printed_statement(url: URL) -> None:
    metadata = MetaData()
    outbox_table(metadata)
    engine = create_engine(url)
    drop(url)
    metadata.create_all(engine)
    created = columns(url)
    drop(url)
    with engine.begin() as connection:
        connection.execute(text(ddl(url.get_backend_name())))
    engine.dispose()

    assert columns(url) == created


@pytest.mark.parametrize("url", ["sqlite", "postgresql", "mysql"], indirect=True)
def test_missing_table_is_an_error_before_anything_is_committed(url: URL) -> None:
    drop(url)
    engine = create_engine(url)
    Order.__table__.create(engine)  # type: ignore[attr-defined]
    make = sessionmaker(engine)
    wanted = f"latergator outbox sql --dialect {url.get_backend_name()}"
    with Gator("locmem://") as gator:
        enlist(gator, make)
        [relay] = gator.relays

        with pytest.raises(ConfigurationError, match=wanted), make() as session:
            session.add(Order(name="a"))
            session.flush()
            gator.task(note, "a")
            session.commit()
        with pytest.raises(ConfigurationError, match=wanted):
            Worker(gator, burst=True).run_forever()
        relay.close()
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT count(*) FROM orders")).scalar()
    engine.dispose()

    assert rows == 0


@pytest.mark.timeout(180)
def test_alembic_creates_the_table_and_then_finds_no_difference(url: URL, tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODELS)
    drop(url)

    def alembic(*words: str) -> str:
        paths = [str(tmp_path), *sys.path]
        done = subprocess.run(
            [sys.executable, "-m", "alembic", *words],
            cwd=tmp_path,
            env={**environment(), "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    alembic("init", "migrations")
    env = tmp_path / "migrations" / "env.py"
    env.write_text(
        env.read_text().replace(
            "target_metadata = None", "import models\ntarget_metadata = models.metadata"
        )
    )
    ini = tmp_path / "alembic.ini"
    shown = url.render_as_string(hide_password=False).replace("%", "%%")
    ini.write_text(
        "\n".join(
            f"sqlalchemy.url = {shown}" if line.startswith("sqlalchemy.url") else line
            for line in ini.read_text().splitlines()
        )
    )
    alembic("revision", "--autogenerate", "-m", "outbox")
    alembic("upgrade", "head")
    created = columns(url)
    said = alembic("check")
    alembic("downgrade", "base")
    engine = create_engine(url)
    left = inspect(engine).has_table("alligator_outbox")
    engine.dispose()
    drop(url)

    assert set(created) == {
        *("id", "commit_id", "at", "data", "failures", "not_before", "error"),
    }
    assert "No new upgrade operations detected" in said
    assert not left
