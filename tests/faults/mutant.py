"""One mistake in the code of a store, made in memory, and whether a test detects it."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from hashlib import sha1
from pathlib import Path
from types import FunctionType, ModuleType
from typing import NamedTuple

import pytest

from alligator.backends import open_client, redis_backend, sqlite_backend
from alligator.backends.base import Client
from alligator.backends.postgres_backend import schema as postgres_schema
from alligator.backends.redis_backend import commits as redis_commits
from alligator.backends.redis_backend import limits as redis_limits
from alligator.backends.redis_backend.protocol import Script
from alligator.backends.sqlite_backend import (
    batches,
    key_limits,
    keys,
    limits,
    lines,
    replaced,
    schema,
    tables,
    writes,
)
from tests.backends.test_model import compare

Judge = Callable[[Client], object]


def model(client: Client) -> None:
    """Compare the store with the model, always over the same histories.

    They are more than in the test of the model: a mistake may show only in few of them.
    """
    compare(client, examples=400, derandomize=True)


class Mutant(NamedTuple):
    """A mistake: in this file, *right* is replaced by *wrong*."""

    name: str
    file: str
    right: str
    wrong: str
    judge: Judge = model

    @property
    def is_of_sqlite(self) -> bool:
        return self.file.startswith("sqlite_")

    @property
    def is_of_postgres(self) -> bool:
        return self.file.endswith(".sql")


MODULES: dict[str, ModuleType] = {
    "redis_backend/commits.py": redis_commits,
    "sqlite_backend/writes.py": writes,
    "sqlite_backend/keys.py": keys,
    "sqlite_backend/limits.py": limits,
    "sqlite_backend/key_limits.py": key_limits,
    "sqlite_backend/lines.py": lines,
    "sqlite_backend/tables.py": tables,
    "sqlite_backend/batches.py": batches,
    "sqlite_backend/replaced.py": replaced,
    "sqlite_backend/schema.py": schema,
}
"""The files that are Python."""

SQL = postgres_schema.script

OF_SCRIPTS = (redis_commits, redis_limits, redis_backend)
"""The modules that load scripts."""

USERS: list[tuple[ModuleType, str]] = [
    *((sqlite_backend, "WriteTransaction"), (writes, "Turns"), (schema, "VERSIONS")),
    (redis_backend, "Pusher"),
]
"""The modules that have imported a name from one of these."""


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """Apply the mistake during the block."""
    with pytest.MonkeyPatch.context() as patch:
        source = changed(mutant)
        if mutant.file.endswith(".lua"):
            script = script_of(mutant)
            patch.setattr(script, "source", source)
            patch.setattr(script, "sha", sha1(source.encode()).hexdigest())
        elif mutant.is_of_postgres:
            patch.setattr(postgres_schema, "script", partial(mistaken_sql, mutant))
        else:
            module = MODULES[mutant.file]
            mistaken: dict[str, object] = {
                "__name__": module.__name__,
                "__package__": module.__package__,
            }
            exec(source, mistaken)
            for name in mistaken.keys() & vars(module).keys():
                if name.isupper() or isinstance(mistaken[name], FunctionType | type):
                    patch.setattr(module, name, mistaken[name])
            for user, name in USERS:
                if name in mistaken and hasattr(module, name):
                    patch.setattr(user, name, mistaken[name])
        yield


def mistaken_sql(mutant: Mutant, schema: str, *, with_schema: bool = True) -> str:
    """Return the SQL that creates the tables and functions, with the mistake."""
    right, wrong = (
        text.replace("{s}", postgres_schema.quoted(schema)) for text in (mutant.right, mutant.wrong)
    )
    return SQL(schema, with_schema=with_schema).replace(right, wrong)


def script_of(mutant: Mutant) -> Script:
    """Return the script that has the mistake."""
    name = mutant.file.removesuffix(".lua").upper()
    script: Script = next(getattr(each, name) for each in OF_SCRIPTS if hasattr(each, name))
    return script


def changed(mutant: Mutant) -> str:
    """Return the source with the mistake; fails if its place is not there, or more than once."""
    if mutant.file.endswith(".lua"):
        source = script_of(mutant).source
    elif mutant.is_of_postgres:
        folder = Path(str(postgres_schema.__file__)).parent / "sql"
        source = (folder / mutant.file).read_text("utf-8")
    else:
        source = Path(str(MODULES[mutant.file].__file__)).read_text("utf-8")
    assert source.count(mutant.right) == 1, f"{mutant.file} does not have it once: {mutant.right}"
    return source.replace(mutant.right, mutant.wrong)


def survives(mutant: Mutant, dsn: str) -> bool:
    """Return whether no test detects the mistake, in a new, empty store."""
    with applied(mutant), closing(open_client(dsn)) as client:
        try:
            mutant.judge(client)
        except (Exception, pytest.fail.Exception):
            return False
    return True
