"""The statements that a client sends, with the types of their parameters."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .codec import ENCODERS, Value


class Statement(NamedTuple):
    """A statement and how its parameters are written."""

    name: bytes
    """The name under which it is prepared; empty if it is sent as it is each time."""
    sql: bytes
    oids: list[int]
    """The types of its parameters."""
    encoders: Sequence[Callable[[Value], bytes]]

    def encode(self, values: Sequence[Value]) -> list[bytes | None]:
        """Return *values* in the format of the server."""
        return [
            None if value is None else encode(value)
            for encode, value in zip(self.encoders, values, strict=True)
        ]


def statement(sql: str, types: str = "", name: str = "") -> Statement:
    """Return the statement *sql*; *types* are the names of the types of its parameters."""
    parameters = [ENCODERS[each] for each in types.split()]
    oids, encoders = [oid for oid, _ in parameters], [encode for _, encode in parameters]
    return Statement(name.encode(), sql.encode(), oids, encoders)


class Statements:
    """The statements for the tables of one schema, whose name is quoted."""

    def __init__(self, schema: str) -> None:
        def own(sql: str, types: str = "", name: str = "") -> Statement:
            return statement(sql.replace("{s}", schema), types, name)

        def call(function: str, types: str, *, prepare: bool = False) -> Statement:
            marks = ", ".join(f"${n}" for n in range(1, len(types.split()) + 1))
            name = f"alligator_{function}" if prepare else ""
            return own(f"SELECT * FROM {{s}}.{function}({marks})", types, name)  # noqa: S608

        tasks = "text[] bool[] int4[] int4[] text[] text[] float8[] bytea[] int4[] text text[]"
        self.push: Statement = own(
            "CALL {s}.push_and_wake($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL, NULL)",
            f"float8 {tasks}",
            "alligator_push",
        )
        self.settle: Statement = call("settle", "text[]")
        self.server: Statement = call("server", "")
        self.wake_after: Statement = call("wake_after", "text[] int4[] text[] int4[]")
        self.abort: Statement = call("abort", "text text[] text[]")
        marks = "text[] timestamptz[] timestamptz[] timestamptz"
        outcomes = "text[] text[] text[] int8[] int8[] float8[] bytea[] text[] text[]"
        self.step: Statement = call(
            "step",
            f"{marks} int4 float8 int4 int8 text[] text[] int8[] int4 float8 bool {outcomes}",
            prepare=True,
        )
        self.sleep: Statement = call("sleep", marks, prepare=True)
        self.pause: Statement = call("pause", marks)
        self.wake_up: Statement = statement("SELECT pg_advisory_unlock_all()")
        self.extend: Statement = call("extend", "text[] text[] int8[] int8[] float8", prepare=True)
        self.lease: Statement = call("lease", "text text float8 int8")
        self.cancel: Statement = call("cancel", "text text")
        self.canceled: Statement = own("SELECT seq, token FROM {s}.canceled")
        self.drop_some: Statement = call("drop_some", "text int4")
        self.retry_dead: Statement = own("CALL {s}.retry_dead($1, $2, NULL)", "text text")
        self.pause_queue: Statement = own("CALL {s}.pause_queue($1, $2)", "text float8")
        self.limit_queue: Statement = own(
            "CALL {s}.limit_queue($1, $2, $3, $4, $5)", "text text int4 int4 float8"
        )
        self.key_limits: Statement = own(
            """
            SELECT limit_key, at_once, starts, seconds FROM {s}.queue_limit
            WHERE queue = $1 AND limit_key > '' ORDER BY limit_key LIMIT $2
            """,
            "text int4",
        )
        # Of each priority: the lines that have turns, those that have none until a time, and those that
        # have none until a lease ends. One with a due task, but without turns, waits for its limit.
        self.key_stats: Statement = own(
            """
            SELECT q.name, w.waiting, coalesce(w.limited, '{}'), l.keys, l.at_once, l.starts, l.seconds
            FROM unnest($1) q (name), clock_timestamp() AS now
            CROSS JOIN LATERAL (
                SELECT count(DISTINCT f.limit_key) AS waiting,
                    array_agg(DISTINCT f.limit_key) FILTER (WHERE f.at > now) AS limited
                FROM (VALUES (1::int2), (0::int2), (-1::int2)) p (priority)
                CROSS JOIN LATERAL (
                    (SELECT limit_key, at FROM {s}.line
                    WHERE queue = q.name AND priority = p.priority AND at <= now
                    ORDER BY at LIMIT $2)
                    UNION ALL
                    (SELECT limit_key, at FROM {s}.line
                    WHERE queue = q.name AND priority = p.priority AND at > now AND at < 'infinity'
                    ORDER BY at LIMIT $2)
                    UNION ALL
                    (SELECT limit_key, at FROM {s}.line
                    WHERE queue = q.name AND priority = p.priority AND at = 'infinity' LIMIT $2)
                    UNION ALL
                    (SELECT unnest(limit_keys), timestamptz '-infinity' FROM {s}.changed_line
                    WHERE queue = q.name AND priority = p.priority LIMIT $2)) f
                CROSS JOIN LATERAL (
                    SELECT FROM {s}.task
                    WHERE queue = q.name AND limit_key = f.limit_key AND at >= '8000-01-01 UTC'
                        AND at >= timestamptz '1900-01-01 UTC' + {s}.line_shift(p.priority)
                        AND at <= now + {s}.line_shift(p.priority) LIMIT 1) ready) w
            CROSS JOIN LATERAL (
                SELECT array_agg(limit_key) AS keys, array_agg(at_once) AS at_once,
                    array_agg(starts) AS starts, array_agg(seconds) AS seconds
                FROM (
                    SELECT * FROM {s}.queue_limit WHERE queue = q.name AND limit_key > ''
                    ORDER BY limit_key LIMIT $2) k) l
            """,
            "text[] int4",
        )
        self.drop_dead: Statement = call("drop_dead", "text text")
        self.fold: Statement = call("fold", "")
        self.stats: Statement = call("stats", "text[]")
        self.beat: Statement = call("beat", "text float8 text")
        self.note: Statement = call("note", "text text[] text[] int8[] text[] float8 int4")
        self.queue_names: Statement = own("SELECT DISTINCT queue FROM {s}.tally")
        self.scheduled: Statement = own(
            """
            SELECT id, data, extract(epoch FROM due - clock_timestamp())::float8 FROM {s}.task
            WHERE queue = $1 AND state = 'w' AND delayed AND due > (SELECT clock_timestamp())
            ORDER BY due, seq LIMIT $2
            """,
            "text int4",
        )
        # From page to page along the primary key.
        self.dead_letters: Statement = own(
            """
            SELECT id, data, coalesce(reason, ''), coalesce(traceback, ''),
                extract(epoch FROM at)::float8
            FROM {s}.task
            WHERE queue = $1 AND state = 'd' ORDER BY at DESC, seq DESC LIMIT $2
            """,
            "text int4",
        )
        self.peek: Statement = own(
            """
            SELECT at, seq, id, data, due <= clock_timestamp() FROM {s}.task
            WHERE queue = $1 AND state = $2::"char" AND (at, seq) > ($3, $4)
            ORDER BY at, seq LIMIT $5
            """,
            "text text timestamptz int8 int4",
        )
        self.workers: Statement = own(
            """
            SELECT extract(epoch FROM clock_timestamp() - seen)::float8, record FROM {s}.worker
            WHERE gone > clock_timestamp() ORDER BY name
            """
        )
        self.figures: Statement = own(
            "SELECT name, number FROM {s}.figure WHERE queue = $1", "text"
        )
        self.history: Statement = own(
            """
            SELECT extract(epoch FROM clock_timestamp() - at)::float8, ready, scheduled, leased, dead,
                pushed, succeeded, failed, dropped
            FROM {s}.sample
            WHERE queue = $1 AND at > clock_timestamp() - $2 * interval '1 s'
                AND at <= clock_timestamp()
            ORDER BY at
            """,
            "text float8",
        )
        self.announce: Statement = call("announce", "int8 text[] text[] float8[]")
        self.push_tick: Statement = own(
            "CALL {s}.push_tick($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULL)",
            "text int8 float8 text text float8 bytea int4 text text[]",
        )
        self.forget_schedule: Statement = call("forget_schedule", "text")
        self.schedules: Statement = own(
            """
            SELECT name, about, last, ran, extract(epoch FROM clock_timestamp() - seen)::float8
            FROM {s}.schedule WHERE gone > clock_timestamp() ORDER BY name
            """
        )
