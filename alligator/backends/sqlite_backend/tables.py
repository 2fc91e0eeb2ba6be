"""The tables of the SQLite store, version by version."""

from typing import Final

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

VERSION_8: Final = (
    # The unique key of a task that is not dead, whether it is free at the start, and until when it is
    # held at least (0: no such time).
    "ALTER TABLE task ADD COLUMN unique_key TEXT",
    "ALTER TABLE task ADD COLUMN until_start INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE task ADD COLUMN key_until INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX task_key ON task (queue, unique_key) WHERE unique_key IS NOT NULL",
    # The keys of tasks that are done, which are held for some time.
    """
    CREATE TABLE held_key (
        queue TEXT NOT NULL,
        unique_key TEXT NOT NULL,
        id TEXT NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (queue, unique_key)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX held_key_order ON held_key (until)",
)

VERSION_9: Final = (
    # At most `at_once` tasks of the queue are leased, and `starts` are reserved within `span`.
    """
    CREATE TABLE queue_limit (
        queue TEXT PRIMARY KEY,
        at_once INTEGER,
        starts INTEGER,
        span INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    # When the last tasks of such a queue were reserved, as many as `starts`.
    """
    CREATE TABLE begun (
        queue TEXT NOT NULL,
        number INTEGER NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (queue, number)
    ) WITHOUT ROWID
    """,
)

VERSION_10: Final = (
    # Which batch counts the task until it is settled, and which batch it was the follow-up of.
    "ALTER TABLE task ADD COLUMN batch INTEGER",
    "ALTER TABLE task ADD COLUMN follows INTEGER",
    "CREATE INDEX task_follows ON task (follows) WHERE follows IS NOT NULL",
    # The tasks of a commit that has follow-ups: how many there were, are not settled, did not succeed.
    """
    CREATE TABLE batch (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        tasks INTEGER NOT NULL,
        left INTEGER NOT NULL,
        dead INTEGER NOT NULL
    )
    """,
    """
    CREATE TABLE follow_up (
        batch INTEGER NOT NULL,
        place INTEGER NOT NULL,
        queue TEXT NOT NULL,
        id TEXT NOT NULL,
        data TEXT NOT NULL,
        priority INTEGER NOT NULL,
        PRIMARY KEY (batch, place)
    ) WITHOUT ROWID
    """,
    "ALTER TABLE pushed ADD COLUMN batch INTEGER",
    # The row of the task that has replaced this one, whose state is 'replaced'.
    "ALTER TABLE task ADD COLUMN replaced_by INTEGER",
    "CREATE INDEX task_replaced ON task (replaced_by) WHERE replaced_by IS NOT NULL",
)

IN_LINE: Final = 2**62
"""The `at` of a ready task with a limit key, which is in a line, is more by so much: no query for the
others has to look at it."""

_JOIN_LINE: Final = """
    INSERT INTO line (queue, key, rank, until)
        SELECT NEW.queue, NEW.limit_key, -NEW.priority, 0
        WHERE NEW.state = 'ready' AND NOT EXISTS (
            SELECT 1 FROM line
            WHERE queue = NEW.queue AND key = NEW.limit_key AND rank = -NEW.priority
        );
"""

_OPEN_LINES: Final = """
    UPDATE line SET until = 0
    WHERE queue = OLD.queue AND key = OLD.limit_key AND until > 0 AND OLD.state = 'leased';
"""

VERSION_11: Final = ()
VERSION_12: Final = ()
"""There were these while 2.0 was developed. A file of one of them gets an error."""

VERSION_13: Final = (
    "ALTER TABLE task ADD COLUMN limit_key TEXT",
    "ALTER TABLE follow_up ADD COLUMN limit_key TEXT",
    # Whether the queue had limits of keys when the task was leased, or got one since.
    "ALTER TABLE task ADD COLUMN is_limited INTEGER NOT NULL DEFAULT 0",
    """
    CREATE INDEX task_line ON task (queue, limit_key, at)
    WHERE state = 'ready' AND limit_key IS NOT NULL
    """,
    """
    CREATE INDEX task_limited ON task (queue, limit_key) WHERE state = 'leased' AND is_limited
    """,
    # A line of each key and rank, which is the negative priority. `until`: when it may have turns
    # again; 0 if it has some.
    """
    CREATE TABLE line (
        queue TEXT NOT NULL,
        key TEXT NOT NULL,
        rank INTEGER NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (queue, key, rank)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX line_order ON line (queue, until, rank, key)",
    # The key that had the last turn of each priority; empty for the tasks without one.
    "ALTER TABLE queue ADD COLUMN turn_high TEXT",
    "ALTER TABLE queue ADD COLUMN turn_normal TEXT",
    "ALTER TABLE queue ADD COLUMN turn_low TEXT",
    f"""
    CREATE TRIGGER task_is_new AFTER INSERT ON task
    WHEN NEW.limit_key IS NOT NULL AND NEW.state = 'ready' BEGIN {_JOIN_LINE} END
    """,
    f"""
    CREATE TRIGGER task_changes AFTER UPDATE OF state ON task
    WHEN NEW.state <> 'leased' AND NEW.limit_key IS NOT NULL
    BEGIN
        UPDATE task SET at = at + {IN_LINE} WHERE seq = NEW.seq AND state = 'ready';
        {_JOIN_LINE}
        {_OPEN_LINES}
    END
    """,  # noqa: S608 - our own number
    f"""
    CREATE TRIGGER task_is_done AFTER DELETE ON task
    WHEN OLD.state = 'leased' AND OLD.limit_key IS NOT NULL
        AND EXISTS (SELECT 1 FROM line WHERE queue = OLD.queue AND until > 0)
    BEGIN {_OPEN_LINES} END
    """,  # noqa: S608 - our own statement
    # The limits of keys; '*' is each key without one of its own.
    """
    CREATE TABLE key_limit (
        queue TEXT NOT NULL,
        key TEXT NOT NULL,
        at_once INTEGER,
        starts INTEGER,
        span INTEGER NOT NULL,
        PRIMARY KEY (queue, key)
    ) WITHOUT ROWID
    """,
    # When their tasks were reserved, and for how long this counts.
    """
    CREATE TABLE key_begun (
        queue TEXT NOT NULL,
        key TEXT NOT NULL,
        number INTEGER NOT NULL,
        at INTEGER NOT NULL,
        span INTEGER NOT NULL,
        PRIMARY KEY (queue, key, number)
    ) WITHOUT ROWID
    """,
    # The last row that was looked at, to forget those that count no longer. There is no index for
    # this, because it would cost each step as much as the table.
    "ALTER TABLE clock ADD COLUMN swept_queue TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE clock ADD COLUMN swept_key TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE clock ADD COLUMN swept_number INTEGER NOT NULL DEFAULT 0",
)

VERSIONS: Final = (
    *(VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6, VERSION_7, VERSION_8),
    *(VERSION_9, VERSION_10, VERSION_11, VERSION_12, VERSION_13),
)
"""The statements for each version of the tables. To change the tables, add an entry."""
