-- The tables of the PostgreSQL store, version 1. {s} is the quoted name of their schema.
--
-- Names are compared byte by byte (COLLATE "C"): this is faster, and a new version of the operating
-- system does not change the order of an index.

CREATE SCHEMA IF NOT EXISTS {s};

-- One row: the version of these tables, and the identity of this set of queues.
CREATE TABLE {s}.store (
    version int NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid()
);

-- `state` is w (waits), l (leased) or d (dead). A scheduled task becomes ready by the clock, without a
-- write. `delayed` means that the tally counts it as scheduled, if it waits.
-- `at` is the time at which a task is due, at which its lease ends, or at which it died. `due` keeps
-- its place in the queue during a lease. While a task waits, its `at` is shifted by its priority (1, 0 or
-- -1), so that each priority is a range of the primary key: see `shift`. `due` is not.
-- `token` is 0 until the first lease.
-- `unique_key` is NULL if the task has none any more: it was dead. See held_key.
-- With a `limit_key`, `at` is shifted further while the task waits, behind all others: see line, `line_shift`.
-- A lease is `counted` if it was given while keys of its queue had limits: an index of all others would cost more.
-- `batch` is NULL if no batch counts the task; it is negative if it has counted the task, which is dead.
CREATE TABLE {s}.task (
    queue text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    state "char" NOT NULL,
    delayed boolean NOT NULL,
    alone boolean NOT NULL DEFAULT false,
    suspect boolean NOT NULL DEFAULT false,
    priority smallint NOT NULL DEFAULT 0,
    lost int NOT NULL DEFAULT 0,
    at timestamptz NOT NULL,
    due timestamptz NOT NULL,
    token bigint NOT NULL DEFAULT 0,
    reason text,
    traceback text,
    data bytea NOT NULL,
    unique_key text COLLATE "C",
    batch bigint,
    limit_key text COLLATE "C",
    counted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (queue, state, at, seq)
) WITH (
    fillfactor = 90,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 5000,
    toast.autovacuum_vacuum_cost_delay = 0
);
-- An id identifies at most one task that waits and was never leased. A task that returned to its queue
-- may wait beside a newer one of its id. The id comes first because most ids differ: then the queue is not
-- compared, and no plan reads the index of a whole queue.
CREATE UNIQUE INDEX task_new ON {s}.task (id, queue) WHERE token = 0;
CREATE INDEX task_leased ON {s}.task (id, queue) WHERE token <> 0;
CREATE INDEX task_delayed ON {s}.task (queue, due) WHERE delayed AND state = 'w';
-- The tasks of lines, and the leases of limit keys. Their conditions fit no other index: so no plan reads the tasks
-- of a whole queue instead.
CREATE INDEX task_line ON {s}.task (queue, limit_key, at, seq) WHERE at >= '8000-01-01 UTC';
CREATE INDEX task_busy ON {s}.task (queue, limit_key)
WHERE counted AND state <> 'w' AND state <> 'd';

-- The tasks of a queue, priority and limit key that wait are a line, in the order of their `at` and `seq`. Of a line,
-- `at` is when its next task may begin, infinite until a lease of the limit key ends; the line with the lowest
-- one is the next. `after` and `seq` are where that task is among those of the line. All of these may be too
-- early: a step looks, and corrects them. A line without tasks has a row until its turn. A step takes from a
-- line only while it has its row locked, and looks for its tasks after that.
CREATE TABLE {s}.line (
    queue text COLLATE "C" NOT NULL,
    limit_key text COLLATE "C" NOT NULL,
    priority smallint NOT NULL,
    at timestamptz NOT NULL,
    after timestamptz NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (queue, limit_key, priority)
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX line_turn ON {s}.line (queue, priority, at, seq);

-- The lines that have to be placed: those of one priority that tasks have joined, and the first of these; or without
-- a priority all lines of limit keys of which a lease has ended. A row for each time, so that no two transactions
-- wait for the same one.
CREATE TABLE {s}.changed_line (
    queue text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    priority smallint,
    limit_keys text[] COLLATE "C" NOT NULL,
    afters timestamptz[],
    seqs bigint[]
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX changed_line_order ON {s}.changed_line (queue, at);
ALTER TABLE {s}.changed_line REPLICA IDENTITY FULL;

-- The queues that have, or had, tasks with limit keys. A queue may be here more than once.
CREATE TABLE {s}.lined_queue (queue text COLLATE "C" NOT NULL);

-- When a task without a limit key had the last turn.
CREATE TABLE {s}.plain_turn (
    queue text COLLATE "C" NOT NULL,
    priority smallint NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (queue, priority)
) WITH (fillfactor = 50);

-- Which task has taken a unique key last. It holds the key until `until` if it is `done`; otherwise while it
-- waits or is leased, until the first lease with `until_start`, but not before `until`. So the key is free
-- when that task is dead, or is gone without being done.
CREATE TABLE {s}.held_key (
    queue text COLLATE "C" NOT NULL,
    unique_key text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    until_start boolean NOT NULL,
    until timestamptz NOT NULL,
    done boolean NOT NULL DEFAULT false,
    PRIMARY KEY (queue, unique_key)
) WITH (
    fillfactor = 90,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX held_key_done ON {s}.held_key (until) WHERE done;

-- The tasks that others have replaced, for as long as these may be aborted. `replaced_by` is a seq.
CREATE TABLE {s}.replaced (
    seq bigint PRIMARY KEY,
    replaced_by bigint NOT NULL,
    since timestamptz NOT NULL,
    queue text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    delayed boolean NOT NULL,
    priority smallint NOT NULL,
    due timestamptz NOT NULL,
    data bytea NOT NULL,
    unique_key text COLLATE "C" NOT NULL,
    limit_key text COLLATE "C"
);
CREATE INDEX replaced_by ON {s}.replaced (replaced_by);
CREATE INDEX replaced_order ON {s}.replaced (since);

-- The commits of the last five minutes, or of a day: see `push`. The tasks of a commit have a `seq` of
-- base * 1000 + position, from 1. A base of 0 means that the commit was aborted.
CREATE SEQUENCE {s}.base;
CREATE TABLE {s}.pushed (
    id text COLLATE "C" PRIMARY KEY,
    base bigint NOT NULL,
    at timestamptz NOT NULL,
    duplicates text
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX pushed_order ON {s}.pushed (at);

-- The tasks of a commit that has follow-ups: how many were queued, how many of them are not settled, and
-- how many did not succeed. The id is the base of the commit.
CREATE TABLE {s}.batch (
    id bigint PRIMARY KEY,
    tasks int NOT NULL,
    remaining int NOT NULL,
    dead int NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- Their `place` is that in their commit: once queued, a follow-up has a `seq` of its commit.
CREATE TABLE {s}.follow_up (
    batch bigint NOT NULL,
    place int NOT NULL,
    queue text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    priority smallint NOT NULL,
    data bytea NOT NULL,
    limit_key text COLLATE "C",
    PRIMARY KEY (batch, place)
);

-- The counters are a ledger: each transaction adds rows of differences, so that no two wait for the
-- same row. `fold` adds up old rows.
CREATE TABLE {s}.tally (
    queue text COLLATE "C" NOT NULL,
    waiting bigint NOT NULL DEFAULT 0,
    delayed bigint NOT NULL DEFAULT 0,
    leased bigint NOT NULL DEFAULT 0,
    dead bigint NOT NULL DEFAULT 0,
    pushed bigint NOT NULL DEFAULT 0,
    succeeded bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    retried bigint NOT NULL DEFAULT 0,
    lost bigint NOT NULL DEFAULT 0,
    canceled bigint NOT NULL DEFAULT 0,
    dropped bigint NOT NULL DEFAULT 0,
    died bigint NOT NULL DEFAULT 0,
    expired bigint NOT NULL DEFAULT 0
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_threshold = 100000
);
ALTER TABLE {s}.tally REPLICA IDENTITY FULL;
ALTER TABLE {s}.store REPLICA IDENTITY FULL;

-- The leases that were canceled in the last five minutes, for their workers.
CREATE TABLE {s}.canceled (
    seq bigint NOT NULL,
    token bigint NOT NULL,
    at timestamptz NOT NULL
);

-- The queues that are, or were, paused.
CREATE TABLE {s}.paused (
    queue text COLLATE "C" PRIMARY KEY,
    until timestamptz NOT NULL
);

-- The limits of queues, whose limit_key is empty, and of limit keys: see `limited_until`. NULL is any number.
CREATE TABLE {s}.queue_limit (
    queue text COLLATE "C" NOT NULL,
    limit_key text COLLATE "C" NOT NULL DEFAULT '',
    at_once int,
    starts int,
    seconds float8 NOT NULL,
    PRIMARY KEY (queue, limit_key)
);

-- When the last tasks of a queue or a limit key with a number of starts were reserved: of a queue, as many as that
-- number; of a limit key, at least those until `over`, when this does not count any more. `over` is NULL for a queue.
CREATE TABLE {s}.begun (
    queue text COLLATE "C" NOT NULL,
    limit_key text COLLATE "C" NOT NULL DEFAULT '',
    number bigint NOT NULL,
    at timestamptz NOT NULL,
    over timestamptz,
    PRIMARY KEY (queue, limit_key, number)
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX begun_over ON {s}.begun (over) WHERE over IS NOT NULL;

CREATE TABLE {s}.worker (
    name text COLLATE "C" PRIMARY KEY,
    seen timestamptz NOT NULL,
    gone timestamptz NOT NULL,
    record text NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE {s}.figure (
    queue text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (queue, name)
) WITH (fillfactor = 50);

-- A ring buffer: the place follows from the time, and a new sample overwrites an old one.
CREATE TABLE {s}.sample (
    queue text COLLATE "C" NOT NULL,
    place int NOT NULL,
    at timestamptz NOT NULL,
    ready bigint NOT NULL,
    scheduled bigint NOT NULL,
    leased bigint NOT NULL,
    dead bigint NOT NULL,
    pushed bigint NOT NULL,
    succeeded bigint NOT NULL,
    failed bigint NOT NULL,
    dropped bigint NOT NULL,
    PRIMARY KEY (queue, place)
) WITH (fillfactor = 50);

-- `last` and `ran` are moments in seconds since 1970, by the clocks of the workers.
CREATE TABLE {s}.schedule (
    name text COLLATE "C" PRIMARY KEY,
    about text NOT NULL,
    last bigint NOT NULL,
    ran bigint NOT NULL DEFAULT 0,
    seen timestamptz NOT NULL,
    gone timestamptz NOT NULL
) WITH (fillfactor = 50);
