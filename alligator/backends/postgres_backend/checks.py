"""What in a PostgreSQL server could lose tasks, or make it slow."""

from collections.abc import Iterator
from typing import Final

from ...exceptions import BackendUnavailable
from .sessions import Sessions
from .statements import statement

OLD_SECONDS: Final = 60.0
"""The age of a transaction at which health warns: dead rows cannot be removed meanwhile."""

DEAD_ROWS: Final = 1_000_000
"""The number of dead rows in the table of tasks at which health warns."""

WRITABLE = statement(
    "SELECT pg_is_in_recovery(), current_setting('transaction_read_only'),"
    " has_table_privilege($1, 'INSERT')",
    "text",
)

SETTINGS = statement(
    "SELECT name, setting FROM pg_settings"
    " WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')"
)

# The oldest of what keeps dead rows from being removed. Users see the transactions of others only with
# pg_monitor.
OLDEST = statement(
    """
    SELECT
        (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8
            FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
                AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)),
        (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - prepared)), 0)::float8
            FROM pg_prepared_xacts WHERE database = current_database()),
        (SELECT coalesce(string_agg(slot_name::text, ', '), '') FROM pg_replication_slots
            WHERE NOT active AND (xmin IS NOT NULL OR catalog_xmin IS NOT NULL)),
        (SELECT coalesce(max(n_dead_tup), 0) FROM pg_stat_user_tables
            WHERE schemaname = $1 AND relname = 'task')
    """,
    "text",
)

LOSSES: Final = {
    "fsync": "PostgreSQL may lose all tasks when its machine fails: set fsync = on",
    "full_page_writes": "PostgreSQL may damage its tables when its machine fails: set "
    "full_page_writes = on",
    "synchronous_commit": "PostgreSQL may lose the tasks of the last second when it crashes: set "
    "synchronous_commit = on for the user of the DSN",
}


def check_writable(sessions: Sessions) -> None:
    """Raise `BackendError` if the server would reject a push."""
    table = f'"{sessions.schema}".task'
    [(is_standby, is_read_only, may_insert)] = sessions.call(WRITABLE, [table])
    if is_standby or is_read_only == "on":
        raise BackendUnavailable(
            f"{sessions.store} is a standby or read-only, and accepts no writes: name the primary"
        )
    if not may_insert:
        raise BackendUnavailable(
            f"{sessions.store} does not let its user write to {table}: grant the rights on the schema"
        )


def configuration_warnings(sessions: Sessions) -> list[str]:
    """Return what could lose tasks or makes the server slow, as sentences."""
    settings: dict[str, str] = {row[0]: row[1] for row in sessions.call(SETTINGS, [])}
    found = [message for name, message in LOSSES.items() if settings.get(name) == "off"]
    return [*found, *_brakes(sessions)]


def _brakes(sessions: Sessions) -> Iterator[str]:
    [(transaction, prepared, slots, dead_rows)] = sessions.call(OLDEST, [sessions.schema])
    if transaction > OLD_SECONDS:
        yield (
            f"A transaction in PostgreSQL has been open for {transaction:.0f} s: dead rows cannot be "
            "removed meanwhile, and queues become slow. Find it in pg_stat_activity and end it"
        )
    if prepared > OLD_SECONDS:
        yield (
            f"A prepared transaction in PostgreSQL is {prepared:.0f} s old: dead rows cannot be removed "
            "meanwhile, and queues become slow. Find it in pg_prepared_xacts and end it"
        )
    if slots:
        yield (
            f"Replication slots of PostgreSQL are not in use and keep dead rows ({slots}): drop "
            "them, or start their standby"
        )
    if dead_rows > DEAD_ROWS:
        yield (
            f"PostgreSQL has {dead_rows:,} dead rows in the table of tasks, and queues become slow: see "
            "whether autovacuum is on, and what keeps it from removing them"
        )
