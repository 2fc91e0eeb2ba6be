"""The tables of the SQLite store, and all SQL statements.

The statements need SQLite 3.24. There is no RETURNING, because systems with SQLite 3.34 are in use.
"""

from typing import Final

from ...constants import LEVELS

VERSION_1: Final = (
    # `at`: the time since when a task is ready or dead, or until when it is scheduled or leased.
    # `due`: the time at which the task is due; a lease keeps it.
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
    # Every query reads from one end of one range of this index.
    "CREATE INDEX task_order ON task (queue, state, at)",
    # The counts are updated with each write, because counting rows is slow for a long backlog.
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
    # The tasks of a commit have a `seq` above `after` and up to `last`; both are 0 once it is aborted.
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
    # The time of the last write, and its number.
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
    # A ring buffer: the place follows from the time, and a new sample overwrites an old one.
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

VERSION_3: Final = (
    # When a newer task takes the id of a leased or dead one, the older task gets a made-up `id`, and
    # this column keeps the id that it was pushed under.
    "ALTER TABLE task ADD COLUMN alias_of TEXT",
    # `alone`: its lease was the only one of its step. `suspect`: one of its leases was lost.
    "ALTER TABLE task ADD COLUMN alone INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE task ADD COLUMN suspect INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX task_alias ON task (queue, alias_of) WHERE alias_of IS NOT NULL",
    # The positions of the commit's tasks that were duplicates.
    "ALTER TABLE pushed ADD COLUMN duplicates TEXT NOT NULL DEFAULT ''",
)

# NULL in older samples.
VERSION_4: Final = ("ALTER TABLE sample ADD COLUMN dropped INTEGER",)

VERSION_5: Final = (
    "ALTER TABLE queue ADD COLUMN expired INTEGER NOT NULL DEFAULT 0",
    # When the queue is resumed.
    "ALTER TABLE queue ADD COLUMN paused INTEGER NOT NULL DEFAULT 0",
)

VERSION_6: Final = (
    # `last` and `ran` are moments in seconds since 1970, by the clocks of the workers.
    """
    CREATE TABLE schedule (
        name TEXT PRIMARY KEY,
        about TEXT NOT NULL,
        last INTEGER NOT NULL,
        ran INTEGER NOT NULL,
        seen INTEGER NOT NULL,
        gone INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
)

VERSION_7: Final = (
    # From now on, the `at` of a ready task is shifted by its priority, see LEVEL; its `due` is not.
    "ALTER TABLE task ADD COLUMN priority INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX task_scheduled ON task (queue, priority, at) WHERE state = 'scheduled'",
)

VERSIONS: Final = (*(VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6, VERSION_7),)
"""The statements for each version of the tables. To change the tables, add an entry."""

LEVEL: Final = 2**60
"""For each level of priority, the `at` of a ready task is earlier by so much: so `task_order` has the
ready tasks in the order in which they are reserved. It is more than any time."""

NO_END: Final = 2**62
"""A queue that is paused until this time is paused without an end."""

COUNTS: Final = (
    *("ready", "scheduled", "leased", "dead"),
    *("pushed", "succeeded", "retried", "lost", "canceled", "dropped", "failed", "died"),
    "expired",
)

SAMPLED: Final = (
    *("ready", "scheduled", "leased", "dead"),
    *("pushed", "succeeded", "failed", "dropped"),
)

# Every write.

CLOCK = "SELECT now, turn FROM clock"

SET_CLOCK = "UPDATE clock SET now = ?, turn = ?"

PING = (
    "REPLACE INTO figure (queue, name, number) VALUES ('', 'ping', 0)",
    "DELETE FROM figure WHERE queue = '' AND name = 'ping'",
)

SHIFT = (
    "UPDATE task SET at = at - :by, due = due - :by WHERE state <> 'dead'",
    "UPDATE worker SET seen = seen - :by, gone = gone - :by",
    "UPDATE schedule SET seen = seen - :by, gone = gone - :by",
    f"UPDATE queue SET paused = paused - :by WHERE paused BETWEEN 1 AND {NO_END - 1}",  # noqa: S608
)

COUNT = f"""
    INSERT INTO queue (name, {", ".join(COUNTS)}) VALUES (?{", ?" * len(COUNTS)})
    ON CONFLICT (name) DO UPDATE SET {", ".join(f"{c} = {c} + excluded.{c}" for c in COUNTS)}
"""  # noqa: S608 - names of our own columns

# Push.

PUSH = """
    INSERT INTO task (queue, id, state, at, due, data, priority) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (queue, id) DO NOTHING
"""

HAS_ALIASES = "SELECT EXISTS (SELECT 1 FROM task WHERE alias_of IS NOT NULL)"

FIND_WAITING_ALIAS = """
    SELECT 1 FROM task WHERE queue = ? AND alias_of = ? AND state IN ('ready', 'scheduled')
"""

FIND_ID = "SELECT seq, state FROM task WHERE queue = ? AND id = ?"

# No task id contains a control character, so the new id is unique.
GIVE_ALIAS = "UPDATE task SET alias_of = id, id = id || char(31) || seq WHERE seq = ?"

UNDO_PUSH = "DELETE FROM task WHERE seq > ? AND +queue = ? AND +state = ?"

LAST_SEQ = "SELECT ifnull(max(seq), 0) FROM task"

FIND_COMMIT = "SELECT after, last, duplicates FROM pushed WHERE id = ?"

REMEMBER_COMMIT = """
    REPLACE INTO pushed (id, at, after, last, duplicates) VALUES (?, ?, ?, ?, ?)
"""

FORGET_COMMITS = """
    DELETE FROM pushed WHERE id IN (SELECT id FROM pushed WHERE at < ? ORDER BY at LIMIT 10)
"""

FIND_PUSHED = """
    SELECT seq, queue, state FROM task
    WHERE seq > ? AND seq <= ? AND state IN ('ready', 'scheduled') AND token = 0
"""

# Apply outcomes and reserve.

NEXT = """
    SELECT
        (SELECT now FROM clock),
        ifnull((SELECT CAST(paused AS INTEGER) FROM queue WHERE name = :queue), 0),
        EXISTS (SELECT 1 FROM task WHERE queue = :queue AND state = 'ready'),
        (SELECT min(at) FROM task WHERE queue = :queue AND state = 'scheduled'),
        (SELECT min(at) FROM task WHERE queue = :queue AND state = 'leased')
"""

PAUSED_UNTIL = "SELECT CAST(paused AS INTEGER) FROM queue WHERE name = ?"

PAUSE = "UPDATE queue SET paused = ? WHERE name = ?"

FIND = "SELECT state, due, token, lost FROM task WHERE seq = ?"

# The newest task of that id. The + keeps SQLite from scanning all tasks of one state.
FIND_WAITING = """
    SELECT seq, state, data, lost FROM task
    WHERE queue = :queue AND id = :id AND +state IN ('ready', 'scheduled')
    UNION ALL
    SELECT seq, state, data, lost FROM task
    WHERE queue = :queue AND alias_of = :id AND +state IN ('ready', 'scheduled')
    ORDER BY seq DESC LIMIT 1
"""

# The task of that id that died last.
FIND_DEAD = """
    SELECT seq, at FROM task WHERE queue = :queue AND id = :id AND +state = 'dead'
    UNION ALL
    SELECT seq, at FROM task WHERE queue = :queue AND alias_of = :id AND +state = 'dead'
    ORDER BY at DESC, seq DESC LIMIT 1
"""

FIND_EXPIRED = """
    SELECT seq, lost, alone FROM task
    WHERE queue = ? AND state = 'leased' AND at <= ? ORDER BY at, seq LIMIT ?
"""

_DUE = """
    SELECT seq FROM (
        SELECT seq FROM task INDEXED BY task_scheduled
        WHERE queue = :queue AND priority = {} AND state = 'scheduled' AND at <= :now
        ORDER BY at, seq LIMIT :limit
    )
"""

# Of each priority: a task must not wait for others that are reserved later.
MAKE_READY = f"""
    UPDATE task SET state = 'ready', at = at - priority * {LEVEL}
    WHERE seq IN ({" UNION ALL ".join(_DUE.format(level) for level in LEVELS.values())})
"""  # noqa: S608 - our own numbers

FIND_READY = """
    SELECT seq, ifnull(alias_of, id), data, lost, due, suspect OR lost > 0 FROM task
    WHERE queue = ? AND state = 'ready' ORDER BY at, seq LIMIT ?
"""

# The same tasks that FIND_READY returned, in one statement.
TAKE_READY = """
    UPDATE task SET state = 'leased', at = ?, token = ?, alone = ? WHERE seq IN (
        SELECT seq FROM task WHERE queue = ? AND state = 'ready' ORDER BY at, seq LIMIT ?
    )
"""

TAKE = "UPDATE task SET state = 'leased', at = ?, token = ?, alone = 1 WHERE seq = ?"

EXTEND = "UPDATE task SET at = ? WHERE seq = ? AND state = 'leased' AND token = ?"

PUT_BACK = f"""
    UPDATE task SET state = :state, due = :due, lost = :lost, reason = '', traceback = '',
        at = :due - CASE :state WHEN 'ready' THEN priority * {LEVEL} ELSE 0 END,
        data = ifnull(:data, data), suspect = ifnull(:suspect, suspect)
    WHERE seq = :seq
"""  # noqa: S608 - our own number

MAKE_DEAD = """
    UPDATE task SET state = 'dead', at = ?, lost = ?, reason = ?, traceback = ?,
        data = ifnull(?, data)
    WHERE seq = ?
"""

FIND_OLDEST_DEAD = """
    SELECT seq, at, (SELECT dead FROM queue WHERE name = :queue) FROM task
    WHERE queue = :queue AND state = 'dead' ORDER BY at, seq LIMIT :most
"""

# Delete.

DELETE = "DELETE FROM task WHERE seq = ?"

# A lower token belongs to an older, deleted file of this path, because tokens never decrease.
DELETE_LEASED = "DELETE FROM task WHERE seq = ? AND state = 'leased' AND token >= ?"

DROP_ALL = "DELETE FROM task WHERE queue = ? AND state = ?"

# Queries.

MOST_COUNTED: Final = 10_000
"""How many due tasks that no step has made ready yet are counted at most."""

OLDEST_READY = "SELECT min(at) FROM task WHERE queue = :queue AND state = 'ready'"

STATS = f"""
    SELECT {", ".join(COUNTS)},
        (SELECT count(*) FROM (
            SELECT 1 FROM task
            WHERE queue = :queue AND state = 'scheduled' AND at <= :now LIMIT {MOST_COUNTED}
        )),
        min(
            ifnull(({OLDEST_READY} AND at < 0) + {LEVEL}, :now),
            ifnull(({OLDEST_READY} AND at BETWEEN 0 AND {LEVEL}), :now),
            ifnull(({OLDEST_READY} AND at > {LEVEL}) - {LEVEL}, :now),
            ifnull((SELECT min(at) FROM task WHERE queue = :queue AND state = 'scheduled'), :now)
        ),
        CAST(paused AS INTEGER)
    FROM queue WHERE name = :queue
"""  # noqa: S608 - names of our own columns

QUEUE_NAMES = "SELECT name FROM queue ORDER BY name"

SCHEDULED_TASKS = """
    SELECT ifnull(alias_of, id), data, at FROM task
    WHERE queue = ? AND state = 'scheduled' AND at > ? ORDER BY at, seq LIMIT ?
"""

PEEK = """
    SELECT seq, ifnull(alias_of, id), data, state FROM task
    WHERE queue = ? AND state <> 'leased' AND seq > ? ORDER BY seq LIMIT ?
"""

DEAD_LETTERS = """
    SELECT queue, ifnull(alias_of, id), data, reason, traceback, at FROM task
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
