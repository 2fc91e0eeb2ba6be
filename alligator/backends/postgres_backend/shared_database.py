"""The tables of the store, as a transaction of the application writes to them.

An identity shows whether both are in one database. It consists of the id that is kept in the schema,
the number of the database in its server, and the moment at which that server was started. A copy of
the database differs in the last two. Each statement that queues tasks compares the identity again, so
a connection that leads elsewhere by then never writes to a wrong store.
"""

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from typing import Final

from ..base import Message, bounded
from ..shared_database import Query, Written
from ..unique import Held, read_duplicates
from .schema import quoted
from .sessions import Sessions

ELSEWHERE: Final = "elsewhere"
"""The result of `enqueue` if the connection leads to another server, or to another database."""

# It reads only catalogs, which each role may read. It does not fail: that would end the transaction of
# the application.
PROBE: Final = """
SELECT concat_ws(' ',
    coalesce((
        SELECT CASE
            WHEN NOT has_schema_privilege(n.oid, 'USAGE') THEN 'denied'
            WHEN NOT EXISTS (
                SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = n.oid AND p.proname = 'enqueue')
            THEN 'missing' ELSE 'usable' END
        FROM pg_catalog.pg_namespace n WHERE n.nspname = '{schema}'), 'missing'),
    (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database()),
    to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS'),
    quote_ident(current_user))
"""


class SharedDatabase:
    """Implements `alligator.backends.shared_database.SharedDatabase`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._schema = quoted(sessions.schema)
        self._probe = Query(PROBE.format(schema=sessions.schema))

    def identify(self) -> str:
        statements, seconds = self._sessions.statements, self._sessions.timeout
        [(identity,)] = self._sessions.call(statements.server, [], seconds=seconds)
        return str(identity)

    def probe(self) -> Query:
        return self._probe

    def why_not(self, answer: str, identity: str) -> str:
        access, database, started, role = answer.split(" ", 3)
        if identity.split(" ")[:2] != [database, started] or access == "missing":
            return "the store is in another database"
        if access == "denied":
            return (
                f"the store is in the same database, but its role may not use it: GRANT USAGE ON SCHEMA "
                f"{self._schema} TO {role}"
            )
        return ""

    def enqueue(self, identity: str, messages: Sequence[Message]) -> Query:
        # In one order in all transactions: see `push` in the SQL.
        ordered = sorted(
            enumerate(messages, 1),
            key=lambda each: (each[1].queue_name.encode(), each[1].task_id.encode()),
        )
        # In base64, the payload does not depend on the encoding of the database.
        tasks = [
            (
                place,
                message.queue_name,
                message.task_id,
                bounded(message.delay),
                b64encode(message.data.encode()).decode(),
                message.priority,
                *_keys_of(message),
            )
            for place, message in ordered
        ]
        has_keys = any(message.unique or message.follows for message in messages)
        sql = f"SELECT {self._schema}.enqueue{'_with_keys' if has_keys else ''}(?, ?)"
        return Query(sql, (identity, json.dumps(tasks, separators=(",", ":"))))

    def read(self, answer: str, messages: Sequence[Message]) -> Written | None:
        if answer == ELSEWHERE:
            return None
        transaction, _, places = answer.partition(" ")
        numbers = Counter(message.queue_name for message in messages)
        found = read_duplicates(places) or ()
        duplicates = sorted(
            Held(place - 1, place.task_id) if isinstance(place, Held) else place - 1
            for place in found
        )
        return Written(transaction, numbers, duplicates or None)

    def wake(self, written: Sequence[Written]) -> list[int]:
        queues = [
            (of, queue, number)
            for of, each in enumerate(written, 1)
            for queue, number in each.numbers.items()
        ]
        values = [
            [each.transaction for each in written],
            *([row[column] for row in queues] for column in range(3)),
        ]
        statement = self._sessions.statements.wake_after
        [(unfinished,)] = self._sessions.call(statement, values)
        return [number - 1 for number in unfinished]


def _keys_of(message: Message) -> tuple[str | float | None, ...]:
    """Return what follows the other elements of a task; see `read_tasks` in the SQL."""
    if message.follows:
        keys: tuple[str | float | None, ...] = (None, None, None, None, True)
    else:
        keys = tuple(message.unique or ())
    if message.limit_key is None:
        return keys
    return (*keys, *(None,) * (5 - len(keys)), message.limit_key)
