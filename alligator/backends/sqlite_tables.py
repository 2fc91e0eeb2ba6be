"""Describe the tables of the embedded store, and all that is asked of them.

Nothing here is newer than SQLite 3.24, so there is no RETURNING: systems with 3.34 are in use.
"""

from typing import Final

VERSION_1: Final = (
    # `at`: since when it is ready or dead, until when it is scheduled or leased.
    # `due`: when it was to run, which a lease must not forget.
    """
    CREATE TABLE task (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        queue TEXT NOT NULL,
        id TEXT NOT NULL,
        state TEXT NOT NULL,
        at INTEGER NOT NULL,
        due INTEGER NOT NULL,
        token INTEGER NOT NULL DEFAULT 0,
        lost INTEGER NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT '',
        traceback TEXT NOT NULL DEFAULT '',
        data TEXT NOT NULL,
        UNIQUE (queue, id)
    )
    """,
    # Every question is answered from one end of one of its ranges.
    "CREATE INDEX task_order ON task (queue, state, at)",
    # Kept up with each write, for to count a backlog takes the longer the longer it is.
    """
    CREATE TABLE queue (
        name TEXT PRIMARY KEY,
        ready INTEGER NOT NULL,
        scheduled INTEGER NOT NULL,
        leased INTEGER NOT NULL,
        dead INTEGER NOT NULL,
        pushed INTEGER NOT NULL,
        succeeded INTEGER NOT NULL,
        retried INTEGER NOT NULL,
        lost INTEGER NOT NULL,
        canceled INTEGER NOT NULL,
        dropped INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    # The tasks that a commit brought are numbered above `after` up to `last`: 0 once it is undone.
    """
    CREATE TABLE pushed (
        id TEXT PRIMARY KEY,
        at INTEGER NOT NULL,
        after INTEGER NOT NULL,
        last INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX pushed_order ON pushed (at)",
    """
    CREATE TABLE worker (
        name TEXT PRIMARY KEY,
        seen INTEGER NOT NULL,
        gone INTEGER NOT NULL,
        started_at REAL NOT NULL,
        queues TEXT NOT NULL,
        running TEXT NOT NULL
    ) WITHOUT ROWID
    """,
    # The moment of the last write, and its number.
    "CREATE TABLE clock (now INTEGER NOT NULL, turn INTEGER NOT NULL)",
    "INSERT INTO clock VALUES (0, 0)",
)

VERSION_2: Final = (
    "ALTER TABLE queue ADD COLUMN failed INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE queue ADD COLUMN died INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE worker ADD COLUMN said TEXT NOT NULL DEFAULT ''",
    """
    CREATE TABLE figure (
        queue TEXT NOT NULL,
        name TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (queue, name)
    ) WITHOUT ROWID
    """,
    # A ring: each has its place for its time, and takes that of one long ago.
    """
    CREATE TABLE sample (
        queue TEXT NOT NULL,
        place INTEGER NOT NULL,
        at INTEGER NOT NULL,
        ready INTEGER NOT NULL,
        scheduled INTEGER NOT NULL,
        leased INTEGER NOT NULL,
        dead INTEGER NOT NULL,
        pushed INTEGER NOT NULL,
        succeeded INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        PRIMARY KEY (queue, place)
    ) WITHOUT ROWID
    """,
)

VERSIONS: Final = (VERSION_1, VERSION_2)
"""What leads from one version of the tables to the next: to change them, add an entry."""

COUNTS: Final = (
    *("ready", "scheduled", "leased", "dead"),
    *("pushed", "succeeded", "retried", "lost", "canceled", "dropped", "failed", "died"),
)

SAMPLED: Final = ("ready", "scheduled", "leased", "dead", "pushed", "succeeded", "failed")

# Every write.

CLOCK = "SELECT now, turn FROM clock"

SET_CLOCK = "UPDATE clock SET now = ?, turn = ?"

SHIFT = (
    "UPDATE task SET at = at - :by, due = due - :by WHERE state <> 'dead'",
    "UPDATE worker SET seen = seen - :by, gone = gone - :by",
)

COUNT = f"""
    INSERT INTO queue (name, {", ".join(COUNTS)}) VALUES (?{", ?" * len(COUNTS)})
    ON CONFLICT (name) DO UPDATE SET {", ".join(f"{c} = {c} + excluded.{c}" for c in COUNTS)}
"""  # noqa: S608 - names of our own columns

# Tasks come.

PUSH = """
    INSERT INTO task (queue, id, state, at, due, data) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (queue, id) DO NOTHING
"""

LAST_SEQ = "SELECT ifnull(max(seq), 0) FROM task"

FIND_COMMIT = "SELECT after, last FROM pushed WHERE id = ?"

REMEMBER_COMMIT = "REPLACE INTO pushed (id, at, after, last) VALUES (?, ?, ?, ?)"

FORGET_COMMITS = """
    DELETE FROM pushed WHERE id IN (SELECT id FROM pushed WHERE at < ? ORDER BY at LIMIT 10)
"""

FIND_PUSHED = """
    SELECT seq, queue, state FROM task
    WHERE seq > ? AND seq <= ? AND state IN ('ready', 'scheduled')
"""

# Tasks are worked on.

NEXT = """
    SELECT
        (SELECT now FROM clock),
        EXISTS (SELECT 1 FROM task WHERE queue = :queue AND state = 'ready'),
        (SELECT min(at) FROM task WHERE queue = :queue AND state = 'scheduled'),
        (SELECT min(at) FROM task WHERE queue = :queue AND state = 'leased')
"""

FIND = "SELECT seq, state, due, token, lost FROM task WHERE queue = ? AND id = ?"

FIND_WAITING = """
    SELECT seq, state, data, lost FROM task
    WHERE queue = ? AND id = ? AND state IN ('ready', 'scheduled')
"""

FIND_EXPIRED = """
    SELECT seq, lost + 1 FROM task
    WHERE queue = ? AND state = 'leased' AND at <= ? ORDER BY at, seq LIMIT ?
"""

FIND_DUE = """
    UPDATE task SET state = 'ready' WHERE seq IN (
        SELECT seq FROM task
        WHERE queue = ? AND state = 'scheduled' AND at <= ? ORDER BY at, seq LIMIT ?
    )
"""

FIND_READY = """
    SELECT id, data, lost, at FROM task
    WHERE queue = ? AND state = 'ready' ORDER BY at, seq LIMIT ?
"""

# Those that were found, one after the other in one statement.
TAKE_READY = """
    UPDATE task SET state = 'leased', at = ?, token = ? WHERE seq IN (
        SELECT seq FROM task WHERE queue = ? AND state = 'ready' ORDER BY at, seq LIMIT ?
    )
"""

TAKE = "UPDATE task SET state = 'leased', at = ?, token = ? WHERE seq = ?"

EXTEND = """
    UPDATE task SET at = ? WHERE queue = ? AND id = ? AND state = 'leased' AND token = ?
"""

PUT_BACK = """
    UPDATE task SET state = ?, at = ?, due = ?, lost = ?, reason = '', traceback = '',
        data = ifnull(?, data)
    WHERE seq = ?
"""

BURY = """
    UPDATE task SET state = 'dead', at = ?, lost = ?, reason = ?, traceback = ?,
        data = ifnull(?, data)
    WHERE seq = ?
"""

FIND_OLDEST_DEAD = """
    SELECT seq, at, (SELECT dead FROM queue WHERE name = :queue) FROM task
    WHERE queue = :queue AND state = 'dead' ORDER BY at, seq LIMIT :most
"""

# Tasks go.

DELETE = "DELETE FROM task WHERE seq = ?"

DELETE_LEASED = "DELETE FROM task WHERE queue = ? AND id = ? AND state = 'leased'"

DROP_ALL = "DELETE FROM task WHERE queue = ? AND state = ?"

# Questions.

MOST_COUNTED: Final = 10_000
"""How many of the tasks that are due, but were not found due by a step yet, are counted."""

STATS = f"""
    SELECT {", ".join(COUNTS)},
        (SELECT count(*) FROM (
            SELECT 1 FROM task
            WHERE queue = :queue AND state = 'scheduled' AND at <= :now LIMIT {MOST_COUNTED}
        )),
        min(
            ifnull((SELECT min(at) FROM task WHERE queue = :queue AND state = 'ready'), :now),
            ifnull((SELECT min(at) FROM task WHERE queue = :queue AND state = 'scheduled'), :now)
        )
    FROM queue WHERE name = :queue
"""  # noqa: S608 - names of our own columns

QUEUE_NAMES = "SELECT name FROM queue ORDER BY name"

SCHEDULED_TASKS = """
    SELECT id, data, at FROM task
    WHERE queue = ? AND state = 'scheduled' AND at > ? ORDER BY at, seq LIMIT ?
"""

DEAD_LETTERS = """
    SELECT queue, id, data, reason, traceback, at FROM task
    WHERE queue = ? AND state = 'dead' ORDER BY at DESC, seq DESC LIMIT ?
"""

BEAT = """
    REPLACE INTO worker (name, seen, gone, started_at, queues, running, said)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""

FORGET_WORKERS = "DELETE FROM worker WHERE gone <= ?"

WORKERS = "SELECT seen, said FROM worker WHERE gone > ? AND said <> '' ORDER BY name"

NOTE = """
    INSERT INTO figure (queue, name, number) VALUES (?, ?, ?)
    ON CONFLICT (queue, name) DO UPDATE SET number = number + excluded.number
"""

FIGURES = "SELECT name, number FROM figure WHERE queue = ?"

FIND_SAMPLE = "SELECT at FROM sample WHERE queue = ? AND place = ?"

SAMPLE = f"""
    REPLACE INTO sample (queue, place, at, {", ".join(SAMPLED)})
    VALUES (?, ?, ?{", ?" * len(SAMPLED)})
"""  # noqa: S608 - names of our own columns

HISTORY = f"""
    SELECT at, {", ".join(SAMPLED)} FROM sample WHERE queue = ? AND at > ? AND at <= ? ORDER BY at
"""  # noqa: S608 - names of our own columns
