-- The functions of the PostgreSQL store, version 1. {s} is the quoted name of their schema, {key} the
-- same name as the beginning of a text.
--
-- A function is never changed once it was released, because programs of the old and of the new version
-- run side by side during an upgrade: a new version adds one under another name.
-- All use clock_timestamp(), because now() is the beginning of the transaction. A time by which an index has to find
-- rows is put in a variable first: no index is used for the result of a volatile function.
-- All are in PL/pgSQL, because functions in SQL are planned at each call before PostgreSQL 18. The settings of
-- the planner exclude plans that read a whole table: statistics are often missing or old, as queues grow and
-- shrink fast.
-- Where many tasks are looked up by their ids, a join may read a whole index, with all dead entries that
-- an old transaction keeps. So each is looked up in a subquery with LIMIT 1, which is never joined, and
-- without a condition on the state that would fit the primary key.

-- Priorities.

-- Return what is added to when a task is due, for its `at` while it waits: 3,000 years for each level. The
-- scans compare with times from the year 1900 on, and shift them in the same way. In hours: so many seconds
-- are out of range before PostgreSQL 15, and days depend on the time zone.
CREATE FUNCTION {s}.shift(p_priority int) RETURNS interval LANGUAGE sql IMMUTABLE AS
$$ SELECT p_priority * interval '-26280000 h' $$;

-- The same for tasks with a limit key. The `at` of each of them is after the year 8000.
CREATE FUNCTION {s}.line_shift(p_priority int) RETURNS interval LANGUAGE sql IMMUTABLE AS
$$ SELECT interval '105120000 h' + p_priority * interval '-26280000 h' $$;

-- The same for a task with this limit key, or without one.
CREATE FUNCTION {s}.shift(p_priority int, p_limit_key text) RETURNS interval LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN p_limit_key IS NULL THEN {s}.shift(p_priority) ELSE {s}.line_shift(p_priority) END $$;

-- Return when the first task without a limit key that waits is due, or was; NULL if there is none. The p_n-th
-- three of p_after tell where to begin among those of each priority, the highest first.
CREATE FUNCTION {s}.first_due(p_queue text, p_after timestamptz[], p_n int)
RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
    RETURN least(
        (SELECT due FROM {s}.task
        WHERE queue = p_queue AND state = 'w' AND at >= p_after[3 * p_n - 2] + {s}.shift(1)
            AND at < '1000-01-01 UTC' ORDER BY at LIMIT 1),
        (SELECT due FROM {s}.task
        WHERE queue = p_queue AND state = 'w' AND at >= p_after[3 * p_n - 1]
            AND at < '4000-01-01 UTC' ORDER BY at LIMIT 1),
        (SELECT due FROM {s}.task
        WHERE queue = p_queue AND state = 'w' AND at >= p_after[3 * p_n] + {s}.shift(-1)
            AND at < '8000-01-01 UTC' ORDER BY at LIMIT 1));
END $$;

-- Waking. A worker that sleeps holds a shared advisory lock for each of its queues. Other sessions see
-- it at once, it ends with its session, and it writes nothing.

CREATE FUNCTION {s}.lock_key(p_queue text) RETURNS int LANGUAGE sql IMMUTABLE AS
$$ SELECT hashtext('{key}.' || p_queue) $$;

-- Wake up to p_limit workers that sleep on the queue. Call it in a transaction that begins after the
-- commit of the tasks: then it sees the worker, or the worker sees the tasks before it sleeps.
CREATE FUNCTION {s}.wake(p_queue text, p_limit int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_key int := {s}.lock_key(p_queue);
    v_pid int;
BEGIN
    IF pg_try_advisory_lock(1634494569, v_key) AND pg_advisory_unlock(1634494569, v_key) THEN
        RETURN;  -- no worker sleeps
    END IF;
    -- NOTIFY holds a lock of the whole cluster until its transaction ends: no fsync in between.
    PERFORM set_config('synchronous_commit', 'off', true);
    FOR v_pid IN
        SELECT pid FROM pg_locks
        WHERE locktype = 'advisory' AND classid = 1634494569 AND objsubid = 2 AND granted
            AND objid = v_key::oid AND mode = 'ShareLock'
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        ORDER BY random() LIMIT p_limit
    LOOP
        PERFORM pg_notify('alligator_' || v_pid, '');
    END LOOP;
END $$;

-- Return for each commit 'aborted', or the positions of its duplicates, from 0. For each of those whose
-- unique key is held, chr(31), the position, a space and the id of the task that holds it follow.
CREATE FUNCTION {s}.results(p_commits text[]) RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
        SELECT array_agg(CASE WHEN p.base = 0 THEN 'aborted' ELSE coalesce(p.duplicates, '') END
            ORDER BY c.n)
        FROM unnest(p_commits) WITH ORDINALITY AS c(id, n) LEFT JOIN {s}.pushed p ON p.id = c.id);
END $$;

-- Remember these commits; return the base of each, NULL for one that is known. p_chosen tells for each whether
-- somebody chose its id: then an earlier abort is ignored. A chosen id that begins with day- counts as newer, so
-- that it is remembered for a day. Without settings of its own: those of its caller apply.
CREATE FUNCTION {s}.remember(p_commits text[], p_chosen boolean[], p_now timestamptz) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    v_bases bigint[];
    v_number int;
BEGIN
    IF cardinality(p_commits) = 1 THEN
        v_bases := ARRAY[nextval('{s}.base')];
        IF p_chosen[1] AND starts_with(p_commits[1], 'day-') THEN
            p_now := p_now + interval '86100 s';
        END IF;
        INSERT INTO {s}.pushed (id, base, at) VALUES (p_commits[1], v_bases[1], p_now)
        ON CONFLICT (id) DO NOTHING;
        IF NOT FOUND THEN
            UPDATE {s}.pushed SET base = v_bases[1], at = p_now, duplicates = NULL
            WHERE id = p_commits[1] AND base = 0 AND p_chosen[1];
        END IF;
        RETURN CASE WHEN FOUND THEN v_bases ELSE ARRAY[NULL::bigint] END;
    END IF;
    v_bases := ARRAY(SELECT nextval('{s}.base') FROM unnest(p_commits));
    INSERT INTO {s}.pushed (id, base, at)
    SELECT id, base,
        CASE WHEN chosen AND starts_with(id, 'day-') THEN p_now + interval '86100 s' ELSE p_now END
    FROM unnest(p_commits, p_chosen, v_bases) AS c(id, chosen, base) ORDER BY id COLLATE "C"
    ON CONFLICT (id) DO NOTHING;
    GET DIAGNOSTICS v_number = ROW_COUNT;
    IF v_number < cardinality(p_commits) THEN
        UPDATE {s}.pushed p SET base = c.base, duplicates = NULL,
            at = CASE WHEN starts_with(c.id, 'day-') THEN p_now + interval '86100 s' ELSE p_now END
        FROM unnest(p_commits, p_chosen, v_bases) AS c(id, chosen, base)
        WHERE p.id = c.id AND p.base = 0 AND c.chosen;
        v_bases := ARRAY(
            SELECT CASE WHEN p.base = c.base THEN c.base END
            FROM unnest(p_commits, v_bases) WITH ORDINALITY AS c(id, base, n)
            LEFT JOIN {s}.pushed p ON p.id = c.id ORDER BY c.n);
    END IF;
    RETURN v_bases;
END $$;

-- Push several commits: each all or none, and only once. p_of and p_places give for each task the
-- number of its commit and its position there, from 1. For p_chosen see `remember`. The tasks are sorted by
-- queue and id, byte by byte: all transactions take the locks of the index in one order, and none waits for
-- another in a circle. Returns NULL if all tasks are queued, or else the `results`. If some have unique keys or are
-- follow-ups, p_keys is JSON with [key, until_start, seconds, replace, follows] or null for each task. p_limit_keys is
-- NULL if there are none.
CREATE FUNCTION {s}.push(
    p_commits text[], p_chosen boolean[], p_of int[], p_places int[],
    p_queues text[], p_ids text[], p_delays float8[], p_datas bytea[], p_priorities int[],
    p_keys text DEFAULT NULL, p_limit_keys text[] DEFAULT NULL
) RETURNS text[] LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_due timestamptz;
    v_bases bigint[];
    v_number int;
BEGIN
    IF p_keys IS NOT NULL THEN
        RETURN {s}.push_with_keys(p_commits, p_chosen, p_of, p_places, p_queues, p_ids, p_delays, p_datas,
            p_priorities, p_keys::json, p_limit_keys);
    END IF;
    v_bases := {s}.remember(p_commits, p_chosen, v_now);
    IF cardinality(p_commits) = 1 AND v_bases[1] IS NULL THEN
        RETURN {s}.results(p_commits);
    END IF;
    IF cardinality(p_commits) = 1 AND cardinality(p_ids) = 1 THEN  -- most requests start one task
        PERFORM FROM {s}.task
        WHERE queue = p_queues[1] AND id = p_ids[1] AND token <> 0 AND state <> 'l' AND state <> 'd'
        LIMIT 1;
        IF NOT FOUND THEN
            v_due := v_now + p_delays[1] * interval '1 s';
            INSERT INTO {s}.task (queue, id, seq, state, delayed, at, due, data, priority, limit_key)
            VALUES (p_queues[1], p_ids[1], v_bases[1] * 1000 + 1, 'w', v_due > v_now,
                v_due + {s}.shift(p_priorities[1], p_limit_keys[1]), v_due, p_datas[1], p_priorities[1], p_limit_keys[1])
            ON CONFLICT (queue, id) WHERE token = 0 DO NOTHING;
            IF FOUND THEN
                INSERT INTO {s}.tally (queue, waiting, delayed, pushed)
                VALUES (p_queues[1], 1, (v_due > v_now)::int, 1);
                IF p_limit_keys IS NOT NULL THEN
                    PERFORM {s}.change_line(p_queues[1], p_limit_keys[1], p_priorities[1],
                        v_due + {s}.line_shift(p_priorities[1]), v_bases[1] * 1000 + 1);
                END IF;
                RETURN NULL;
            END IF;
        END IF;
        UPDATE {s}.pushed SET duplicates = '0' WHERE id = p_commits[1];
        RETURN ARRAY['0'];
    END IF;
    -- Ids that wait already are rare. One query for all of them takes less time than one for each.
    SELECT count(*) INTO v_number FROM {s}.task
    WHERE id = ANY (p_ids) AND token <> 0 AND state <> 'l' AND state <> 'd';
    -- In the order of the arrays, which unnest keeps.
    INSERT INTO {s}.task (queue, id, seq, state, delayed, at, due, data, priority, limit_key)
    SELECT t.queue, t.id, v_bases[t.of] * 1000 + t.place, 'w', t.delay > 0,
        v_now + t.delay * interval '1 s' + {s}.shift(t.priority, t.limit_key),
        v_now + t.delay * interval '1 s', t.data, t.priority, t.limit_key
    FROM unnest(p_of, p_places, p_queues, p_ids, p_delays, p_datas, p_priorities, p_limit_keys)
        AS t(of, place, queue, id, delay, data, priority, limit_key)
    WHERE v_bases[t.of] IS NOT NULL AND (v_number = 0 OR (
        SELECT true FROM {s}.task old
        WHERE old.queue = t.queue AND old.id = t.id AND old.token <> 0
            AND old.state <> 'l' AND old.state <> 'd'
        LIMIT 1) IS NULL)
    ON CONFLICT (queue, id) WHERE token = 0 DO NOTHING;
    GET DIAGNOSTICS v_number = ROW_COUNT;
    IF p_limit_keys IS NOT NULL THEN
        PERFORM {s}.change_lines(v_now, p_queues, p_priorities, p_limit_keys, p_delays, ARRAY(
            SELECT v_bases[t.of] * 1000 + t.place FROM unnest(p_of, p_places) AS t(of, place)));
    END IF;
    IF v_number = cardinality(p_ids) THEN
        IF p_queues[1] = p_queues[v_number] AND NOT 0 < ANY (p_delays) THEN  -- the usual case, in less time
            INSERT INTO {s}.tally (queue, waiting, pushed) VALUES (p_queues[1], v_number, v_number);
        ELSE
            INSERT INTO {s}.tally (queue, waiting, delayed, pushed)
            SELECT queue, count(*), count(*) FILTER (WHERE delay > 0), count(*)
            FROM unnest(p_queues, p_delays) AS t(queue, delay) GROUP BY queue;
        END IF;
        RETURN NULL;
    END IF;
    WITH sent AS MATERIALIZED (
        SELECT t.of, t.place, t.queue, t.delay,
            (SELECT true FROM {s}.task k WHERE k.queue = t.queue AND k.id = t.id AND k.token = 0
                AND k.seq = v_bases[t.of] * 1000 + t.place LIMIT 1) IS NOT NULL AS is_queued
        FROM unnest(p_of, p_places, p_queues, p_ids, p_delays) AS t(of, place, queue, id, delay)
        WHERE v_bases[t.of] IS NOT NULL),
    counted AS (
        INSERT INTO {s}.tally (queue, waiting, delayed, pushed)
        SELECT queue, count(*), count(*) FILTER (WHERE delay > 0), count(*)
        FROM sent WHERE is_queued GROUP BY queue)
    UPDATE {s}.pushed p SET duplicates = d.places
    FROM (
        SELECT p_commits[of] AS id, string_agg((place - 1)::text, ' ' ORDER BY place) AS places
        FROM sent WHERE NOT is_queued GROUP BY of) d
    WHERE p.id = d.id;
    RETURN {s}.results(p_commits);
END $$;

-- Batches.

-- Queue the follow-ups of a batch of which no task remains; return their queues.
CREATE FUNCTION {s}.queue_follow_ups(p_batch bigint, p_now timestamptz) RETURNS text[] LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_queues text[] := '{}';
    v_numbers bytea;
    f record;
BEGIN
    DELETE FROM {s}.batch WHERE id = p_batch
    RETURNING convert_to('batch:' || tasks || ',' || dead || ' ', 'UTF8') INTO v_numbers;
    FOR f IN SELECT * FROM {s}.follow_up WHERE batch = p_batch ORDER BY place LOOP
        PERFORM FROM {s}.task
        WHERE queue = f.queue AND id = f.id AND token <> 0 AND state <> 'l' AND state <> 'd' LIMIT 1;
        CONTINUE WHEN FOUND;
        INSERT INTO {s}.task (queue, id, seq, state, delayed, at, due, data, priority, limit_key)
        VALUES (f.queue, f.id, p_batch * 1000 + f.place, 'w', false, p_now + {s}.shift(f.priority), p_now,
            v_numbers || f.data, f.priority, f.limit_key)
        ON CONFLICT (queue, id) WHERE token = 0 DO NOTHING;
        CONTINUE WHEN NOT FOUND;
        INSERT INTO {s}.tally (queue, waiting, pushed) VALUES (f.queue, 1, 1);
        v_queues := v_queues || f.queue;
    END LOOP;
    DELETE FROM {s}.follow_up WHERE batch = p_batch;
    RETURN v_queues;
END $$;

-- Count tasks as settled, each with the batch that counts it; return the queues of the follow-ups that
-- were queued. All batches are locked here, in one order, so that no two wait for each other in a circle.
CREATE FUNCTION {s}.settle_batches(p_batches bigint[], p_dead boolean[], p_now timestamptz)
RETURNS text[] LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_queues text[] := '{}';
    v_remaining int;
    b record;
BEGIN
    FOR b IN
        SELECT s.id, count(*) AS settled, count(*) FILTER (WHERE s.dead) AS dead
        FROM unnest(p_batches, p_dead) AS s(id, dead) WHERE s.id > 0 GROUP BY s.id ORDER BY s.id
    LOOP
        UPDATE {s}.batch SET remaining = remaining - b.settled, dead = dead + b.dead WHERE id = b.id
        RETURNING remaining INTO v_remaining;
        IF FOUND AND v_remaining = 0 THEN
            v_queues := v_queues || {s}.queue_follow_ups(b.id, p_now);
        END IF;
    END LOOP;
    RETURN v_queues;
END $$;

-- Unique keys.

-- Let no other transaction decide on these keys before this one ends.
CREATE FUNCTION {s}.lock_keys(p_queues text[], p_keys text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_lock bigint;
BEGIN
    FOR v_lock IN
        SELECT DISTINCT hashtextextended('{key}.' || queue || chr(31) || key, 0) AS lock
        FROM unnest(p_queues, p_keys) AS k(queue, key) WHERE key IS NOT NULL ORDER BY lock
    LOOP
        PERFORM pg_advisory_xact_lock(v_lock);
    END LOOP;
END $$;

-- Return the id of the task that holds a key; NULL if it is free. Call it after `lock_keys`. With p_keep,
-- the task is locked, so that it stays where it is until the transaction ends.
CREATE FUNCTION {s}.holder(p_queue text, p_key text, p_keep boolean) RETURNS text LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_id text;
    v_tid tid;
BEGIN
    LOOP
        -- In one statement, which sees a task and its key at one moment.
        SELECT h.id, t.tid INTO v_id, v_tid
        FROM {s}.held_key h LEFT JOIN LATERAL (
            SELECT k.ctid AS tid, k.token FROM {s}.task k
            WHERE k.queue = h.queue AND k.id = h.id AND k.token = 0 AND k.seq = h.seq
                AND k.unique_key = h.unique_key
            UNION ALL
            SELECT k.ctid AS tid, k.token FROM {s}.task k
            WHERE k.queue = h.queue AND k.id = h.id AND k.token <> 0 AND k.seq = h.seq
                AND k.unique_key = h.unique_key
            LIMIT 1) t ON true
        WHERE h.queue = p_queue AND h.unique_key = p_key AND CASE
            WHEN h.until > clock_timestamp() THEN h.done OR t.tid IS NOT NULL
            ELSE t.tid IS NOT NULL AND (t.token = 0 OR NOT h.until_start) END;
        IF v_tid IS NULL OR NOT p_keep THEN
            RETURN v_id;
        END IF;
        PERFORM FROM {s}.task WHERE ctid = v_tid FOR UPDATE;
        -- A worker may have changed it before: look again. If it was found, it cannot change any more.
        p_keep := NOT FOUND;
    END LOOP;
END $$;

-- Replace the task that holds a key only until its start, if it waits, by one of that seq, which is about to
-- be queued; return its seq and its batch. Call it after `holder` has locked it.
CREATE FUNCTION {s}.put_aside(
    p_queue text, p_key text, p_id text, p_by bigint, OUT o_seq bigint, OUT o_batch bigint
) LANGUAGE plpgsql SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    WITH removed AS (
        DELETE FROM {s}.task
        WHERE queue = p_queue AND id = p_id AND token = 0 AND unique_key = p_key AND EXISTS (
            SELECT FROM {s}.held_key h
            WHERE h.queue = p_queue AND h.unique_key = p_key AND h.until_start
                AND h.until <= clock_timestamp())
        RETURNING *),
    kept AS (
        INSERT INTO {s}.replaced (seq, replaced_by, since, queue, id, delayed, priority, due, data, unique_key,
            limit_key)
        SELECT seq, p_by, clock_timestamp(), queue, id, delayed, priority, due, data, unique_key, limit_key
        FROM removed),
    counted AS (
        INSERT INTO {s}.tally (queue, waiting, delayed, canceled)
        SELECT queue, -1, -delayed::int, 1 FROM removed)
    SELECT seq, batch INTO o_seq, o_batch FROM removed;
END $$;

-- Put back the tasks that were replaced by aborted ones, which are removed by now. Their keys are locked.
CREATE FUNCTION {s}.put_back(p_by bigint[]) RETURNS void LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    r record;
BEGIN
    FOR r IN DELETE FROM {s}.replaced WHERE replaced_by = ANY (p_by) RETURNING * LOOP
        CONTINUE WHEN {s}.find_waiting(r.queue, r.id) IS NOT NULL;
        INSERT INTO {s}.task (queue, id, seq, state, delayed, at, due, data, priority, unique_key, limit_key)
        VALUES (r.queue, r.id, r.seq, 'w', r.delayed, r.due + {s}.shift(r.priority), r.due, r.data,
            r.priority, r.unique_key, r.limit_key)
        ON CONFLICT (queue, id) WHERE token = 0 DO NOTHING;
        IF FOUND THEN
            PERFORM {s}.hold_key(r.queue, r.unique_key, r.id, r.seq, true, 0);
            INSERT INTO {s}.tally (queue, waiting, delayed, canceled)
            VALUES (r.queue, 1, r.delayed::int, -1);
        END IF;
    END LOOP;
END $$;

-- Forget the tasks of an aborted commit that were replaced.
CREATE FUNCTION {s}.forget_replaced(p_base bigint) RETURNS void LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    r record;
BEGIN
    FOR r IN
        WITH gone AS (
            DELETE FROM {s}.replaced WHERE seq > p_base * 1000 AND seq <= p_base * 1000 + 1000
            RETURNING *)
        SELECT * FROM gone ORDER BY seq
    LOOP
        UPDATE {s}.replaced SET replaced_by = r.replaced_by WHERE replaced_by = r.seq;
        INSERT INTO {s}.tally (queue, pushed, canceled) VALUES (r.queue, -1, -1);
    END LOOP;
END $$;

-- Give a key to a task that is being queued.
CREATE FUNCTION {s}.hold_key(
    p_queue text, p_key text, p_id text, p_seq bigint, p_until_start boolean, p_seconds float8
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {s}.held_key AS h (queue, unique_key, id, seq, until_start, until)
    VALUES (p_queue, p_key, p_id, p_seq, p_until_start, clock_timestamp() + p_seconds * interval '1 s')
    ON CONFLICT (queue, unique_key) DO UPDATE SET id = excluded.id, seq = excluded.seq,
        until_start = excluded.until_start, until = excluded.until, done = false;
END $$;

-- Free the key of a task that is dead. A row that is locked is about to go to a newer task; to wait for it
-- could be to wait in a circle.
CREATE FUNCTION {s}.free_key(p_queue text, p_key text, p_seq bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM {s}.held_key WHERE ctid = (
        SELECT ctid FROM {s}.held_key
        WHERE queue = p_queue AND unique_key = p_key AND seq = p_seq FOR UPDATE SKIP LOCKED);
END $$;

-- Free the key of a task that is done, or keep it for some time. What removes a task that is not done frees
-- its key in the same statement, and so before this.
CREATE FUNCTION {s}.finish_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {s}.held_key SET done = true WHERE ctid = (
        SELECT ctid FROM {s}.held_key
        WHERE queue = OLD.queue AND unique_key = OLD.unique_key AND seq = OLD.seq
            AND until > clock_timestamp() FOR UPDATE SKIP LOCKED);
    IF NOT FOUND THEN
        PERFORM {s}.free_key(OLD.queue, OLD.unique_key, OLD.seq);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER task_done AFTER DELETE ON {s}.task FOR EACH ROW WHEN (OLD.unique_key IS NOT NULL)
EXECUTE FUNCTION {s}.finish_key();

-- The same as `push`, one task after the other, where some have keys or are follow-ups.
CREATE FUNCTION {s}.push_with_keys(
    p_commits text[], p_chosen boolean[], p_of int[], p_places int[],
    p_queues text[], p_ids text[], p_delays float8[], p_datas bytea[], p_priorities int[], p_keys json,
    p_limit_keys text[]
) RETURNS text[] LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_now timestamptz;
    v_keys text[];
    v_until_start boolean[];
    v_seconds float8[];
    v_replace boolean[];
    v_follows boolean[];
    v_old bigint;
    v_batch bigint;
    v_settled bigint[] := '{}';
    v_sizes int[] := array_fill(NULL::int, ARRAY[cardinality(p_commits)]);
    v_bases bigint[];
    v_places text[] := array_fill(''::text, ARRAY[cardinality(p_commits)]);
    v_holders text[] := array_fill(''::text, ARRAY[cardinality(p_commits)]);
    v_holder text;
    v_due timestamptz;
    t record;
BEGIN
    -- First of all, in one order in all transactions, so that no two wait for each other in a circle.
    SELECT array_agg(k->>0 ORDER BY n), array_agg((k->>1)::boolean ORDER BY n),
        array_agg((k->>2)::float8 ORDER BY n), array_agg((k->>3)::boolean ORDER BY n),
        array_agg((k->>4)::boolean ORDER BY n)
    INTO v_keys, v_until_start, v_seconds, v_replace, v_follows
    FROM json_array_elements(p_keys) WITH ORDINALITY AS e(k, n);
    PERFORM {s}.lock_keys(p_queues, v_keys);
    v_now := clock_timestamp();
    v_bases := {s}.remember(p_commits, p_chosen, v_now);
    FOR t IN  -- of those with follow-ups, the number of queued tasks
        SELECT DISTINCT s.of FROM unnest(p_of, v_follows) AS s(of, follows)
        WHERE s.follows AND v_bases[s.of] IS NOT NULL
    LOOP
        v_sizes[t.of] := 0;
    END LOOP;
    FOR t IN
        SELECT * FROM unnest(p_of, p_places, p_queues, p_ids, p_delays, p_datas, p_priorities, v_keys,
            v_until_start, v_seconds, v_replace, v_follows, p_limit_keys)
            AS s(of, place, queue, id, delay, data, priority, key, until_start, seconds, replace, follows,
                limit_key)
        WHERE v_bases[s.of] IS NOT NULL ORDER BY s.of, s.place
    LOOP
        IF t.follows THEN
            INSERT INTO {s}.follow_up (batch, place, queue, id, priority, data, limit_key)
            VALUES (v_bases[t.of], t.place, t.queue, t.id, t.priority, t.data, t.limit_key);
            CONTINUE;
        END IF;
        v_holder := NULL;
        PERFORM FROM {s}.task
        WHERE queue = t.queue AND id = t.id AND token = 0 LIMIT 1;
        IF NOT FOUND THEN
            PERFORM FROM {s}.task
            WHERE queue = t.queue AND id = t.id AND token <> 0 AND state <> 'l' AND state <> 'd' LIMIT 1;
        END IF;
        IF NOT FOUND THEN
            IF t.key IS NOT NULL THEN
                v_holder := {s}.holder(t.queue, t.key, t.replace);
            END IF;
            IF v_holder IS NOT NULL AND t.replace THEN
                SELECT * INTO v_old, v_batch FROM {s}.put_aside(t.queue, t.key, v_holder,
                    v_bases[t.of] * 1000 + t.place);
                IF v_old IS NOT NULL THEN
                    v_holder := NULL;
                    IF v_batch = v_bases[t.of] THEN  -- it is of the same commit, and does not count
                        v_sizes[t.of] := v_sizes[t.of] - 1;
                    ELSE
                        v_settled := v_settled || v_batch;
                    END IF;
                END IF;
            END IF;
            IF v_holder IS NULL THEN
                v_due := v_now + t.delay * interval '1 s';
                INSERT INTO {s}.task
                    (queue, id, seq, state, delayed, at, due, data, priority, unique_key, batch, limit_key)
                VALUES (t.queue, t.id, v_bases[t.of] * 1000 + t.place, 'w', t.delay > 0,
                    v_due + {s}.shift(t.priority), v_due, t.data, t.priority, t.key,
                    CASE WHEN v_sizes[t.of] IS NOT NULL THEN v_bases[t.of] END, t.limit_key)
                ON CONFLICT (queue, id) WHERE token = 0 DO NOTHING;
                IF FOUND THEN
                    IF t.key IS NOT NULL THEN
                        PERFORM {s}.hold_key(t.queue, t.key, t.id, v_bases[t.of] * 1000 + t.place,
                            t.until_start, t.seconds);
                    END IF;
                    INSERT INTO {s}.tally (queue, waiting, delayed, pushed)
                    VALUES (t.queue, 1, (t.delay > 0)::int, 1);
                    v_sizes[t.of] := v_sizes[t.of] + 1;  -- NULL remains NULL
                    CONTINUE;
                END IF;
            END IF;
        END IF;
        v_places[t.of] := concat_ws(' ', nullif(v_places[t.of], ''), t.place - 1);
        IF v_holder IS NOT NULL THEN
            v_holders[t.of] := v_holders[t.of] || chr(31) || (t.place - 1) || ' ' || v_holder;
        END IF;
    END LOOP;
    FOR t IN
        SELECT s.base, s.size FROM unnest(v_bases, v_sizes) AS s(base, size) WHERE s.size IS NOT NULL
    LOOP
        INSERT INTO {s}.batch (id, tasks, remaining) VALUES (t.base, t.size, t.size);
        IF t.size = 0 THEN
            PERFORM {s}.queue_follow_ups(t.base, v_now);
        END IF;
    END LOOP;
    IF v_settled <> '{}' THEN
        PERFORM {s}.settle_batches(v_settled, array_fill(true, ARRAY[cardinality(v_settled)]), v_now);
    END IF;
    UPDATE {s}.pushed p SET duplicates = d.places || d.holders
    FROM unnest(p_commits, v_bases, v_places, v_holders) AS d(id, base, places, holders)
    WHERE p.id = d.id AND d.base IS NOT NULL AND d.places <> '';
    RETURN {s}.results(p_commits);
END $$;

-- The same with its commit, then wake workers, in one round trip. The push is refused after p_latest
-- (seconds since 1970 by this server's clock), because its client has given up by then.
CREATE PROCEDURE {s}.push_and_wake(
    p_latest float8, p_commits text[], p_chosen boolean[], p_of int[], p_places int[],
    p_queues text[], p_ids text[], p_delays float8[], p_datas bytea[], p_priorities int[], p_keys text,
    p_limit_keys text[], INOUT p_results text[], INOUT p_clock float8
) LANGUAGE plpgsql AS $$
DECLARE
    v_queue text;
    v_number int;
BEGIN
    p_clock := extract(epoch FROM clock_timestamp());
    IF p_clock > p_latest THEN
        p_results := '{late}';
        RETURN;
    END IF;
    p_results := {s}.push(p_commits, p_chosen, p_of, p_places, p_queues, p_ids, p_delays, p_datas,
        p_priorities, p_keys, p_limit_keys);
    p_clock := extract(epoch FROM clock_timestamp());
    IF p_clock > p_latest THEN
        ROLLBACK;
        p_results := '{late}';
        RETURN;
    END IF;
    COMMIT;
    -- A step places few lines with less work than a transaction of its own for each task.
    IF (p_limit_keys IS NOT NULL OR p_keys IS NOT NULL) AND (cardinality(p_ids) > 5 OR random() < 0.02) THEN
        PERFORM {s}.place_pushed(p_queues);
    END IF;
    IF p_queues[1] = p_queues[cardinality(p_queues)] THEN  -- they are sorted: it is one queue
        PERFORM {s}.wake(p_queues[1], cardinality(p_ids));
    ELSE
        FOR v_queue, v_number IN SELECT q, count(*) FROM unnest(p_queues) q GROUP BY q LOOP
            PERFORM {s}.wake(v_queue, v_number);
        END LOOP;
    END IF;
    IF random() < 0.002 THEN
        COMMIT;
        PERFORM set_config('synchronous_commit', 'off', true);
        PERFORM {s}.fold();
    END IF;
END $$;

-- Inside a transaction of the application.

-- Return the identity of this server and of this set of queues. A copy of the database has the same id,
-- but is in another database or in another server process.
CREATE FUNCTION {s}.server() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN concat_ws(' ',
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS'),
        (SELECT id FROM {s}.store LIMIT 1));
END $$;

-- The elements of p_tasks are [place, queue, id, delay, data in base64, priority], sorted by queue and id, byte
-- by byte: see `push`. Places begin at 1. Of those with a unique key, [key, until_start, seconds, replace] follow;
-- of follow-ups, [null, null, null, null, true]; of those with a limit key, five elements and the limit key.
CREATE FUNCTION {s}.read_tasks(p_tasks json) RETURNS TABLE (
    place int, queue text, id text, delay float8, data bytea, priority int, key text, limit_key text
) LANGUAGE sql IMMUTABLE AS
$$ SELECT (t->>0)::int, t->>1, t->>2, (t->>3)::float8, decode(t->>4, 'base64'), (t->>5)::int, t->>6, t->>11
    FROM json_array_elements(p_tasks) t $$;

-- Lock the tasks of these ids that were leased, and wait again; return the places of these ids.
CREATE FUNCTION {s}.keep_returned(p_tasks json) RETURNS int[] LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY(
        SELECT t.place FROM {s}.read_tasks(p_tasks) t CROSS JOIN LATERAL (
            -- No condition that fits the primary key: each id is looked up in its index.
            SELECT FROM {s}.task k
            WHERE k.queue = t.queue AND k.id = t.id AND k.token <> 0
                AND k.state <> 'l' AND k.state <> 'd'
            LIMIT 1 FOR UPDATE) k);
END $$;

-- Queue those of the tasks whose id does not wait, and lock the others; return the places of the former.
-- With a p_token that is not 0, a task may wait beside another one of its id.
CREATE FUNCTION {s}.enqueue_or_keep(
    p_base bigint, p_now timestamptz, p_token bigint, p_tasks json, p_except int[],
    p_batch bigint DEFAULT NULL
) RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE
    v_places int[];
    v_is_lined boolean;
BEGIN
    WITH queued AS (
        INSERT INTO {s}.task (queue, id, seq, state, delayed, at, due, token, data, priority, unique_key,
            batch, limit_key)
        SELECT DISTINCT ON (t.queue COLLATE "C", t.id COLLATE "C")
            t.queue, t.id, p_base * 1000 + t.place, 'w', t.delay > 0,
            p_now + t.delay * interval '1 s' + {s}.shift(t.priority, t.limit_key), p_now + t.delay * interval '1 s',
            p_token, t.data, t.priority, t.key, p_batch, t.limit_key
        FROM {s}.read_tasks(p_tasks) t WHERE t.place <> ALL (p_except)
        ORDER BY t.queue COLLATE "C", t.id COLLATE "C", t.place
        ON CONFLICT (queue, id) WHERE token = 0 DO UPDATE SET seq = excluded.seq WHERE false
        RETURNING queue, seq, delayed, limit_key),
    counted AS (
        INSERT INTO {s}.tally (queue, waiting, delayed, pushed)
        SELECT queue, count(*), count(*) FILTER (WHERE delayed), count(*) FROM queued GROUP BY queue)
    SELECT array_agg(seq - p_base * 1000), bool_or(limit_key IS NOT NULL) INTO v_places, v_is_lined FROM queued;
    IF v_is_lined THEN
        PERFORM {s}.change_lines(p_now, array_agg(t.queue), array_agg(t.priority), array_agg(t.limit_key),
            array_agg(t.delay), array_agg(p_base * 1000 + t.place))
        FROM {s}.read_tasks(p_tasks) t;
    END IF;
    RETURN coalesce(v_places, '{}');
END $$;

-- Queue tasks in a transaction of the application, if p_server is this server; otherwise return
-- 'elsewhere' and do nothing. Returns the id of the transaction, then the places of duplicates.
--
-- A task that waits under one of the ids stays where it is until the transaction ends: a worker that ran
-- it earlier would not see what the transaction has written. If it is newer than the snapshot of a
-- transaction that is not READ COMMITTED, it cannot be kept. Then both run; the transaction does not fail.
-- A SERIALIZABLE transaction reads no table in which others write, so it cannot conflict with them.
--
-- The role of the application needs only the right to use the schema.
CREATE FUNCTION {s}.enqueue(p_server text, p_tasks text) RETURNS text LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_tasks json;
    v_task json;
    v_base bigint;
    v_now timestamptz := clock_timestamp();
    v_isolation text := current_setting('transaction_isolation');
    v_returned int[] := '{}';
    v_queued int[] := '{}';
    v_detail text;
BEGIN
    IF p_server IS DISTINCT FROM {s}.server() THEN
        RETURN 'elsewhere';
    END IF;
    v_tasks := p_tasks;
    v_base := nextval('{s}.base');
    IF v_isolation = 'read committed' THEN
        v_returned := {s}.keep_returned(v_tasks);
        v_queued := {s}.enqueue_or_keep(v_base, v_now, 0, v_tasks, v_returned);
    ELSE
        IF v_isolation = 'repeatable read' THEN
            BEGIN
                v_returned := {s}.keep_returned(v_tasks);
            EXCEPTION WHEN serialization_failure THEN
                v_returned := '{}';
            END;
        END IF;
        FOR v_task IN SELECT json_build_array(t) FROM json_array_elements(v_tasks) t LOOP
            BEGIN
                v_queued := v_queued || {s}.enqueue_or_keep(v_base, v_now, 0, v_task, v_returned);
            EXCEPTION WHEN serialization_failure THEN
                GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL;
                IF v_detail <> '' THEN  -- between transactions of the application
                    RAISE;
                END IF;
                v_queued := v_queued || {s}.enqueue_or_keep(v_base, v_now, 1, v_task, v_returned);
            END;
        END LOOP;
    END IF;
    IF cardinality(v_queued) = json_array_length(v_tasks) THEN
        RETURN pg_current_xact_id();
    END IF;
    RETURN concat_ws(' ', pg_current_xact_id(), (
        SELECT string_agg(t->>0, ' ') FROM json_array_elements(v_tasks) t
        WHERE (t->>0)::int <> ALL (v_queued)));
END $$;

-- The same, one task after the other, where some have unique keys or are follow-ups. A task that holds the
-- key of one of them stays where it is, too. If that is newer than the snapshot of a transaction that is not
-- READ COMMITTED, both run, and the key remains with the other one. With keys, SERIALIZABLE transactions read
-- what others write, so they may conflict with each other.
CREATE FUNCTION {s}.enqueue_with_keys(p_server text, p_tasks text) RETURNS text LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_tasks json;
    v_task json;
    v_base bigint;
    v_now timestamptz;
    v_isolation text := current_setting('transaction_isolation');
    v_returned int[];
    v_queued int[];
    v_places text := '';
    v_holders text := '';
    v_holder text;
    v_detail text;
    v_batch bigint;
    v_size int := 0;
    v_old bigint;
    v_member bigint;
    v_settled bigint[] := '{}';
    t record;
BEGIN
    IF p_server IS DISTINCT FROM {s}.server() THEN
        RETURN 'elsewhere';
    END IF;
    v_tasks := p_tasks;
    PERFORM {s}.lock_keys(array_agg(r.queue), array_agg(r.key)) FROM {s}.read_tasks(v_tasks) r;
    v_now := clock_timestamp();
    v_base := nextval('{s}.base');
    INSERT INTO {s}.follow_up (batch, place, queue, id, priority, data, limit_key)
    SELECT v_base, (e->>0)::int, e->>1, e->>2, (e->>5)::int, decode(e->>4, 'base64'), e->>11
    FROM json_array_elements(v_tasks) e WHERE (e->>10)::boolean;
    IF FOUND THEN
        v_batch := v_base;
    END IF;
    FOR t IN
        SELECT (e->>0)::int AS place, e->>1 AS queue, e->>2 AS id, e->>6 AS key,
            (e->>7)::boolean AS until_start, (e->>8)::float8 AS seconds,
            (e->>9)::boolean AS replace, e AS task
        FROM json_array_elements(v_tasks) e WHERE (e->>10)::boolean IS NOT TRUE ORDER BY 1
    LOOP
        v_task := json_build_array(t.task);
        v_holder := NULL;
        v_queued := '{}';
        v_returned := '{}';
        BEGIN
            IF t.key IS NOT NULL THEN
                v_holder := {s}.holder(t.queue, t.key, true);
            END IF;
            IF v_holder IS NOT NULL AND t.replace THEN  -- a rollback brings it back
                SELECT * INTO v_old, v_member FROM {s}.put_aside(t.queue, t.key, v_holder,
                    v_base * 1000 + t.place);
                IF v_old IS NOT NULL THEN
                    v_holder := NULL;
                    IF v_member = v_batch THEN
                        v_size := v_size - 1;
                    ELSE
                        v_settled := v_settled || v_member;
                    END IF;
                END IF;
            END IF;
            IF v_holder IS NULL THEN
                IF v_isolation <> 'serializable' THEN
                    v_returned := {s}.keep_returned(v_task);
                END IF;
                v_queued := {s}.enqueue_or_keep(v_base, v_now, 0, v_task, v_returned, v_batch);
                IF t.key IS NOT NULL AND v_queued <> '{}' THEN
                    PERFORM {s}.hold_key(t.queue, t.key, t.id, v_base * 1000 + t.place, t.until_start,
                        t.seconds);
                END IF;
            END IF;
        EXCEPTION WHEN serialization_failure THEN
            GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL;
            IF v_detail <> '' THEN  -- between transactions of the application
                RAISE;
            END IF;
            v_queued := {s}.enqueue_or_keep(v_base, v_now, 1, v_task, '{}', v_batch);
        END;
        IF v_queued = '{}' THEN
            v_places := v_places || ' ' || t.place;
        ELSE
            v_size := v_size + 1;
        END IF;
        IF v_holder IS NOT NULL THEN
            v_holders := v_holders || chr(31) || t.place || ' ' || v_holder;
        END IF;
    END LOOP;
    IF v_batch IS NOT NULL THEN
        INSERT INTO {s}.batch (id, tasks, remaining) VALUES (v_batch, v_size, v_size);
        IF v_size = 0 THEN
            PERFORM {s}.queue_follow_ups(v_batch, v_now);
        END IF;
    END IF;
    IF v_settled <> '{}' THEN
        PERFORM {s}.settle_batches(v_settled, array_fill(true, ARRAY[cardinality(v_settled)]), v_now);
    END IF;
    RETURN pg_current_xact_id() || v_places || v_holders;
END $$;

-- Wake workers for the tasks of transactions that have ended, and return the numbers, from 1, of those
-- that have not. p_of gives for each queue the number of its transaction.
CREATE FUNCTION {s}.wake_after(
    p_transactions text[], p_of int[], p_queues text[], p_numbers int[]
) RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE
    v_snapshot pg_snapshot := pg_current_snapshot();
    v_open int[];
    v_queue text;
    v_number int;
BEGIN
    v_open := ARRAY(
        SELECT n FROM unnest(p_transactions) WITH ORDINALITY AS t(id, n)
        WHERE NOT pg_visible_in_snapshot(t.id::xid8, v_snapshot));
    FOR v_queue, v_number IN  -- in the order in which others lock their lines
        SELECT w.queue, sum(w.number) FROM unnest(p_of, p_queues, p_numbers) AS w(of, queue, number)
        WHERE w.of <> ALL (v_open) GROUP BY w.queue ORDER BY w.queue COLLATE "C"
    LOOP
        PERFORM {s}.place_pushed(ARRAY[v_queue]);
        PERFORM {s}.wake(v_queue, v_number);
    END LOOP;
    RETURN v_open;
END $$;

-- Refuse each commit that is not queued, and return for each what `push` returns for it. This waits for
-- a push that is under way.
CREATE FUNCTION {s}.settle(p_commits text[]) RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {s}.pushed (id, base, at)
    SELECT id, 0, clock_timestamp() FROM unnest(p_commits) id ORDER BY id COLLATE "C"
    ON CONFLICT (id) DO NOTHING;
    RETURN {s}.results(p_commits);
END $$;

-- Remove those of these tasks that the commit of that base has pushed, and that were never leased.
CREATE FUNCTION {s}.remove_pushed(p_base bigint, p_queues text[], p_ids text[]) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_removed bigint[];
BEGIN
    WITH removed AS (
        DELETE FROM {s}.task WHERE ctid = ANY (ARRAY(
            SELECT (SELECT k.ctid FROM {s}.task k
                WHERE k.queue = a.queue AND k.id = a.id AND k.token = 0
                    AND k.seq > p_base * 1000 AND k.seq <= p_base * 1000 + 1000 LIMIT 1 FOR UPDATE)
            FROM unnest(p_queues, p_ids) AS a(queue, id)))
        RETURNING queue, delayed, unique_key, seq),
    freed AS (
        DELETE FROM {s}.held_key h USING removed r
        WHERE h.queue = r.queue AND h.unique_key = r.unique_key AND h.seq = r.seq),
    counted AS (
        INSERT INTO {s}.tally (queue, waiting, delayed, pushed)
        SELECT queue, -count(*), -count(*) FILTER (WHERE delayed), -count(*) FROM removed GROUP BY queue)
    SELECT array_agg(seq) INTO v_removed FROM removed;
    PERFORM {s}.forget_replaced(p_base);
    PERFORM {s}.put_back(v_removed);
END $$;

-- Refuse a commit, or remove those of its tasks that were never leased.
CREATE FUNCTION {s}.abort(p_commit text, p_queues text[], p_ids text[]) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    v_base bigint;
BEGIN
    INSERT INTO {s}.pushed (id, base, at) VALUES (p_commit, 0, clock_timestamp())
    ON CONFLICT (id) DO NOTHING;
    SELECT base INTO v_base FROM {s}.pushed WHERE id = p_commit FOR UPDATE;
    IF v_base = 0 THEN
        RETURN;
    END IF;
    UPDATE {s}.pushed SET base = 0, at = clock_timestamp() WHERE id = p_commit;
    PERFORM {s}.lock_keys(array_agg(queue), array_agg(unique_key)) FROM {s}.replaced
    WHERE replaced_by > v_base * 1000 AND replaced_by <= v_base * 1000 + 1000;
    PERFORM {s}.remove_pushed(v_base, p_queues, p_ids);
    DELETE FROM {s}.batch WHERE id = v_base;
    IF FOUND THEN
        DELETE FROM {s}.follow_up WHERE batch = v_base;
    ELSE  -- a step may have queued the follow-ups meanwhile
        PERFORM {s}.remove_pushed(v_base, p_queues, p_ids);
    END IF;
END $$;

-- Limits.

-- Let no other transaction begin or end tasks of those queues that have limits before this one ends; return these
-- queues. Locks of rows would be writes. Queues that have lines but no limits are returned, too: their lock is
-- shared, so that many take turns at once, but a first limit waits for them. Call it in one order in all
-- transactions, and after the locks of tasks that may wait: so no two wait in a circle.
CREATE FUNCTION {s}.lock_queues(p_queues text[], OUT o_limited text[], OUT o_lined text[], OUT o_shared text[])
LANGUAGE plpgsql AS $$
BEGIN
    SELECT coalesce(array_agg(k.queue) FILTER (WHERE k.is_limited), '{}'),
        coalesce(array_agg(k.queue) FILTER (WHERE k.is_lined), '{}'),
        coalesce(array_agg(k.queue) FILTER (WHERE k.is_lined AND NOT k.is_limited AND NOT k.is_keyed), '{}')
    INTO o_limited, o_lined, o_shared FROM (
        SELECT d.*, CASE
            WHEN d.is_limited OR d.is_keyed
                THEN pg_advisory_xact_lock(hashtextextended('{key}.limit.' || d.queue, 0))::text
            WHEN d.is_lined
                THEN pg_advisory_xact_lock_shared(hashtextextended('{key}.limit.' || d.queue, 0))::text
            END AS locked
        FROM (
            SELECT q.queue,
                EXISTS (SELECT FROM {s}.queue_limit l WHERE l.queue = q.queue AND l.limit_key = '') AS is_limited,
                EXISTS (SELECT FROM {s}.queue_limit l WHERE l.queue = q.queue AND l.limit_key > '') AS is_keyed,
                EXISTS (SELECT FROM {s}.lined_queue l WHERE l.queue = q.queue) AS is_lined
            FROM (SELECT DISTINCT u COLLATE "C" AS queue FROM unnest(p_queues) u) q ORDER BY q.queue OFFSET 0) d
        OFFSET 0) k;
END $$;

-- Return until when the limit of a queue lets no task begin: 'infinity' until a lease ends; NULL if one may
-- begin at p_now. A step calls it after `lock_queues`.
CREATE FUNCTION {s}.limited_until(p_queue text, p_now timestamptz) RETURNS timestamptz LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_is_full boolean;
    v_span interval;
    v_began timestamptz;
BEGIN
    -- In one statement, which is faster.
    SELECT
        CASE WHEN l.at_once IS NOT NULL THEN l.at_once <= (
            SELECT count(*) FROM (
                SELECT FROM {s}.task t WHERE t.queue = p_queue AND t.state = 'l' LIMIT l.at_once) leased) END,
        l.seconds * interval '1 s',
        CASE WHEN l.starts IS NOT NULL THEN (
            SELECT b.at FROM {s}.begun b WHERE b.queue = p_queue AND b.limit_key = ''
                AND b.number = 1 - l.starts + (
                    SELECT max(m.number) FROM {s}.begun m WHERE m.queue = p_queue AND m.limit_key = '')) END
    INTO v_is_full, v_span, v_began
    FROM {s}.queue_limit l WHERE l.queue = p_queue AND l.limit_key = '';
    IF v_is_full THEN
        RETURN 'infinity';
    -- A time to come is that of a clock that was set back.
    ELSIF v_began <= p_now AND v_began + v_span > p_now THEN
        RETURN v_began + v_span;
    END IF;
    RETURN NULL;
END $$;

-- Record that a task of a queue with a limit begins. Call it after `lock_queues`.
CREATE FUNCTION {s}.begin_task(p_queue text, p_now timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_starts int;
    v_number bigint;
BEGIN
    SELECT starts INTO v_starts FROM {s}.queue_limit WHERE queue = p_queue AND limit_key = '';
    IF v_starts IS NOT NULL THEN
        SELECT 1 + coalesce(max(b.number), 0) INTO v_number
        FROM {s}.begun b WHERE b.queue = p_queue AND b.limit_key = '';
        INSERT INTO {s}.begun (queue, number, at) VALUES (p_queue, v_number, p_now);
        -- More than one if the limit is a lower one.
        LOOP
            DELETE FROM {s}.begun WHERE queue = p_queue AND limit_key = '' AND number = v_number - v_starts;
            EXIT WHEN NOT FOUND;
            v_number := v_number - 1;
        END LOOP;
    END IF;
END $$;

-- Where tasks of queues with limits have begun or ended, wake a worker if the next one may begin, or may
-- soon. This worker may be busy then. Call it after `lock_queues`: so a worker that is about to sleep has
-- its locks already, or sees what this transaction has done.
CREATE FUNCTION {s}.wake_limited(p_queues text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_queue text;
BEGIN
    FOREACH v_queue IN ARRAY p_queues LOOP
        IF coalesce({s}.limited_until(v_queue, v_now), v_now) <= v_now + interval '5 s' AND
            least({s}.next_turn(v_queue, array_fill(timestamptz '-infinity', ARRAY[3]), 1, '-infinity'),
                {s}.first_due(v_queue, array_fill(timestamptz '1900-01-01 UTC', ARRAY[3]), 1)) <= v_now
        THEN
            PERFORM {s}.wake(v_queue, 1);
        END IF;
    END LOOP;
END $$;

-- Count the leases of a queue for the limits of its keys. Who holds the lock of the queue waits for no task.
CREATE FUNCTION {s}.count_leases(p_queue text, p_is_locked boolean) RETURNS void LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    IF p_is_locked THEN
        UPDATE {s}.task SET counted = true WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {s}.task
            WHERE queue = p_queue AND state = 'l' AND limit_key IS NOT NULL AND NOT counted FOR UPDATE SKIP LOCKED));
    ELSE
        UPDATE {s}.task SET counted = true
        WHERE queue = p_queue AND state = 'l' AND limit_key IS NOT NULL AND NOT counted;
    END IF;
END $$;

-- Give the queue, or that limit key if it is not empty, a limit in place of the one that it has: none if p_seconds
-- is NULL. Then wake a worker, which wakes others if there are more tasks.
CREATE PROCEDURE {s}.limit_queue(
    p_queue text, p_limit_key text, p_at_once int, p_starts int, p_seconds float8
) LANGUAGE plpgsql AS $$
BEGIN
    IF p_limit_key <> '' THEN
        PERFORM {s}.count_leases(p_queue, false);
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('{key}.limit.' || p_queue, 0));
    IF p_seconds IS NULL THEN
        DELETE FROM {s}.queue_limit WHERE queue = p_queue AND limit_key = p_limit_key;
    ELSE
        INSERT INTO {s}.queue_limit (queue, limit_key, at_once, starts, seconds)
        VALUES (p_queue, p_limit_key, p_at_once, p_starts, p_seconds)
        ON CONFLICT (queue, limit_key) DO UPDATE
        SET at_once = excluded.at_once, starts = excluded.starts, seconds = excluded.seconds;
    END IF;
    IF p_limit_key <> '' THEN
        UPDATE {s}.line SET at = clock_timestamp()
        WHERE queue = p_queue AND at > clock_timestamp() AND p_limit_key IN (limit_key, '*');
        PERFORM {s}.count_leases(p_queue, true);
    ELSIF p_starts IS NULL THEN
        DELETE FROM {s}.begun WHERE queue = p_queue AND limit_key = '';
    END IF;
    INSERT INTO {s}.tally (queue) VALUES (p_queue);  -- the queue is known from now on
    COMMIT;
    PERFORM {s}.wake(p_queue, 1);
END $$;

-- Lines. What a step calls has no settings of its own, because they take time: those of the step apply.

-- Record that a task has joined a line; p_at is its `at`.
CREATE FUNCTION {s}.change_line(p_queue text, p_limit_key text, p_priority int, p_at timestamptz, p_seq bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {s}.changed_line (queue, at, priority, limit_keys, afters, seqs)
    VALUES (p_queue, clock_timestamp(), p_priority, ARRAY[p_limit_key], ARRAY[p_at], ARRAY[p_seq]);
    IF NOT EXISTS (SELECT FROM {s}.lined_queue WHERE queue = p_queue) THEN
        INSERT INTO {s}.lined_queue (queue) VALUES (p_queue);
    END IF;
END $$;

-- Record that those tasks that have limit keys have joined their lines.
CREATE FUNCTION {s}.change_lines(
    p_now timestamptz, p_queues text[], p_priorities int[], p_limit_keys text[], p_delays float8[], p_seqs bigint[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {s}.changed_line (queue, at, priority, limit_keys, afters, seqs)
    SELECT c.queue, p_now, c.priority, array_agg(c.limit_key),
        array_agg(p_now + c.delay * interval '1 s' + {s}.line_shift(c.priority)), array_agg(c.seq)
    FROM (
        SELECT t.queue, t.priority, t.limit_key, min(t.delay) AS delay, min(t.seq) AS seq
        FROM unnest(p_queues, p_priorities, p_limit_keys, p_delays, p_seqs)
            AS t(queue, priority, limit_key, delay, seq)
        WHERE t.limit_key IS NOT NULL AND t.seq IS NOT NULL
        GROUP BY t.queue, t.priority, t.limit_key) c
    GROUP BY c.queue, c.priority;
    INSERT INTO {s}.lined_queue (queue)
    SELECT DISTINCT t.queue FROM unnest(p_queues, p_limit_keys) AS t(queue, limit_key)
    WHERE t.limit_key IS NOT NULL AND NOT EXISTS (SELECT FROM {s}.lined_queue l WHERE l.queue = t.queue);
END $$;

-- Leases of tasks with these limit keys have ended, so that others may begin.
CREATE FUNCTION {s}.free_places(p_queue text, p_limit_keys text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM {s}.queue_limit WHERE queue = p_queue AND limit_key > '') THEN
        INSERT INTO {s}.changed_line (queue, at, limit_keys) VALUES (p_queue, clock_timestamp(), p_limit_keys);
    END IF;
END $$;

-- A lease of a task with a limit key has ended, and the task waits in its line again if p_waits.
CREATE FUNCTION {s}.end_lease(p_task {s}.task, p_waits boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_waits THEN
        PERFORM {s}.change_line(p_task.queue, p_task.limit_key, p_task.priority, p_task.at, p_task.seq);
    END IF;
    PERFORM {s}.free_places(p_task.queue, ARRAY[p_task.limit_key]);
END $$;

-- A task with a limit key is queued: in its line. Statements that queue many tasks do this themselves. For updates
-- there is no trigger, because it would lock each task once more.
CREATE FUNCTION {s}.join_line() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.at := NEW.due + {s}.line_shift(NEW.priority);
    PERFORM {s}.change_line(NEW.queue, NEW.limit_key, NEW.priority, NEW.at, NEW.seq);
    RETURN NEW;
END $$;

CREATE TRIGGER task_queued BEFORE INSERT ON {s}.task FOR EACH ROW
WHEN (NEW.limit_key IS NOT NULL AND NEW.at < '8000-01-01 UTC') EXECUTE FUNCTION {s}.join_line();

-- Give the lines of these limit keys a turn, because leases of them have ended. Call it after `lock_queues`.
CREATE FUNCTION {s}.open_lines(p_queue text, p_now timestamptz, p_keys text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {s}.line SET at = p_now WHERE queue = p_queue AND limit_key = ANY (p_keys) AND at > p_now;
END $$;

-- Place the lines of up to so many changes since p_since, and open those of p_keys, of which leases have ended. If
-- p_keys is NULL, it opens none, and leaves the changes for that. Return whether these were all changes, whether there
-- were any, whether keys of the queue have limits, and whether tasks without a limit key wait. Call it, and what
-- follows, after `lock_queues`.
CREATE FUNCTION {s}.place_lines(
    p_queue text, p_now timestamptz, p_most int, p_since timestamptz, p_keys text[],
    OUT o_all boolean, OUT o_any boolean, OUT o_is_keyed boolean, OUT o_is_mixed boolean
) LANGUAGE plpgsql AS $$
DECLARE
    v_tids tid[];
    v_is_shut boolean;
    v_priorities smallint[];
    v_keys text[];
    v_afters timestamptz[];
    v_seqs bigint[];
BEGIN
    -- In one statement, which is faster.
    SELECT ARRAY(
            SELECT ctid FROM {s}.changed_line
            WHERE queue = p_queue AND at >= p_since AND (p_keys IS NOT NULL OR priority IS NOT NULL)
            ORDER BY at LIMIT p_most FOR UPDATE SKIP LOCKED),
        EXISTS (SELECT FROM {s}.queue_limit WHERE queue = p_queue AND limit_key > ''),
        EXISTS (SELECT FROM {s}.task WHERE queue = p_queue AND state = 'w' AND at < '8000-01-01 UTC'),
        EXISTS (SELECT FROM {s}.line WHERE queue = p_queue AND limit_key = ANY (p_keys) AND at = 'infinity')
    INTO v_tids, o_is_keyed, o_is_mixed, v_is_shut;
    IF v_is_shut THEN
        PERFORM {s}.open_lines(p_queue, p_now, p_keys);
    END IF;
    o_all := cardinality(v_tids) < p_most;
    o_any := v_tids <> '{}';
    IF NOT o_any THEN
        RETURN;
    END IF;
    WITH gone AS (
        DELETE FROM {s}.changed_line WHERE ctid = ANY (v_tids)
        RETURNING priority, limit_keys, afters, seqs)
    SELECT array_agg(g.priority), array_agg(c.key), array_agg(c.after), array_agg(c.seq)
    INTO v_priorities, v_keys, v_afters, v_seqs
    FROM gone g CROSS JOIN LATERAL unnest(g.limit_keys, g.afters, g.seqs) AS c(key, after, seq);
    -- ON CONFLICT locks each line, and waits for a step that looks at it: that may not see these tasks, and would
    -- remove the line. In one order, so that no two wait in a circle; who has taken lines waits for none.
    INSERT INTO {s}.line AS l (queue, limit_key, priority, at, after, seq)
    SELECT DISTINCT ON (c.priority, c.key)
        p_queue, c.key, c.priority, greatest(c.after - {s}.line_shift(c.priority), p_now), c.after, c.seq
    FROM unnest(v_priorities, v_keys, v_afters, v_seqs) AS c(priority, key, after, seq)
    WHERE c.priority IS NOT NULL ORDER BY c.priority, c.key, c.after, c.seq
    ON CONFLICT (queue, limit_key, priority) DO UPDATE SET at = least(l.at, excluded.at),
        after = least(l.after, excluded.after),
        seq = CASE WHEN (l.after, l.seq) < (excluded.after, excluded.seq) THEN l.seq ELSE excluded.seq END
    WHERE l.at > excluded.at OR (l.after, l.seq) > (excluded.after, excluded.seq);
    IF array_position(v_priorities, NULL) IS NOT NULL THEN
        PERFORM {s}.open_lines(p_queue, p_now, ARRAY(
            SELECT c.key FROM unnest(v_priorities, v_keys) AS c(priority, key) WHERE c.priority IS NULL));
    END IF;
END $$;

-- Place the lines of tasks that were queued in queues, so that no step has to, unless one of a queue with limits is
-- under way.
CREATE FUNCTION {s}.place_pushed(p_queues text[]) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_queue text;
BEGIN
    FOR v_queue IN
        SELECT DISTINCT queue FROM {s}.lined_queue WHERE queue = ANY (p_queues) ORDER BY queue
    LOOP
        IF pg_try_advisory_xact_lock_shared(hashtextextended('{key}.limit.' || v_queue, 0)) THEN
            PERFORM set_config('synchronous_commit', 'off', true);
            -- It opens none: others may do the same, and would lock them in another order.
            PERFORM {s}.place_lines(v_queue, clock_timestamp(), 1000, '-infinity', NULL);
        END IF;
    END LOOP;
END $$;

-- Wait until no other step has locked a line, at most 50 ms. A step that skips locked lines may itself hold locks of
-- lines that changed before it could take them, so two steps that wait for longer may wait for each other.
CREATE FUNCTION {s}.wait_for_line(p_place tid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_timeout text := current_setting('lock_timeout');
BEGIN
    BEGIN
        PERFORM set_config('lock_timeout', '50ms', true);
        PERFORM FROM {s}.line WHERE ctid = p_place FOR UPDATE;
        PERFORM set_config('lock_timeout', v_timeout, true);
    EXCEPTION WHEN lock_not_available THEN
        NULL;  -- this ends the setting, too
    END;
END $$;

-- Return when the next task of a line may begin, at the earliest; NULL if there is none. The p_n-th three of
-- p_turns tell where to begin among the lines of each priority, and p_since where among the changes.
CREATE FUNCTION {s}.next_turn(p_queue text, p_turns timestamptz[], p_n int, p_since timestamptz)
RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
    RETURN nullif(least(
        (SELECT timestamptz '-infinity' FROM {s}.changed_line WHERE queue = p_queue AND at >= p_since LIMIT 1),
        (SELECT at FROM {s}.line WHERE queue = p_queue AND priority = 1
            AND at >= coalesce(p_turns[3 * p_n - 2], '-infinity')
        ORDER BY at, seq LIMIT 1),
        (SELECT at FROM {s}.line WHERE queue = p_queue AND priority = 0
            AND at >= coalesce(p_turns[3 * p_n - 1], '-infinity')
        ORDER BY at, seq LIMIT 1),
        (SELECT at FROM {s}.line WHERE queue = p_queue AND priority = -1
            AND at >= coalesce(p_turns[3 * p_n], '-infinity')
        ORDER BY at, seq LIMIT 1)),
        'infinity');
END $$;

-- Forget up to so many starts of limit keys that do not count any more.
CREATE FUNCTION {s}.forget_begun(p_now timestamptz, p_most int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM {s}.begun WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {s}.begun WHERE over < p_now ORDER BY over LIMIT p_most FOR UPDATE SKIP LOCKED));
END $$;

-- Record that a task of each of these limit keys begins, with the number and the end that `key_limits` gave: NULL if
-- starts are not limited. About once in 20 starts, forget up to three times as many that are over, so that these do not
-- accumulate.
CREATE FUNCTION {s}.begin_keys(
    p_queue text, p_now timestamptz, p_keys text[], p_numbers bigint[], p_over timestamptz[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {s}.begun (queue, limit_key, number, at, over)
    SELECT p_queue, u.key, u.number, p_now, u.over
    FROM unnest(p_keys, p_numbers, p_over) AS u(key, number, over) WHERE u.number IS NOT NULL;
    IF random() < cardinality(p_keys) / 20.0 THEN
        PERFORM {s}.forget_begun(p_now, 3 * greatest(20, cardinality(p_keys)));
    END IF;
END $$;

-- Return for each of these limit keys whether it has a limit; until when that lets no task begin, as
-- `limited_until`, and the same after one has begun; and what to record of that.
CREATE FUNCTION {s}.key_limits(
    p_queue text, p_keys text[], p_now timestamptz, OUT o_limited boolean[], OUT o_until timestamptz[],
    OUT o_later timestamptz[], OUT o_numbers bigint[], OUT o_over timestamptz[]
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT array_agg(k.seconds IS NOT NULL),
        array_agg(CASE WHEN k.leased >= k.at_once THEN 'infinity' ELSE k.began + k.span END),
        array_agg(CASE WHEN k.leased + 1 >= k.at_once THEN 'infinity' WHEN k.starts = 1 THEN p_now + k.span
            ELSE k.later_began + k.span END),
        array_agg(k.number + 1), array_agg(p_now + k.span)
    INTO o_limited, o_until, o_later, o_numbers, o_over
    FROM (
        SELECT c.*, c.seconds * interval '1 s' AS span,
            CASE WHEN c.at_once IS NOT NULL THEN (
                SELECT count(*) FROM (
                    SELECT FROM {s}.task t WHERE t.queue = p_queue AND t.limit_key = c.key AND t.counted
                        AND t.state <> 'w' AND t.state <> 'd' LIMIT c.at_once) leased) END AS leased,
            -- A time to come is that of a clock that was set back.
            CASE WHEN c.number >= c.starts THEN (
                SELECT b.at FROM {s}.begun b
                WHERE b.queue = p_queue AND b.limit_key = c.key AND b.number = c.number + 1 - c.starts
                    AND b.at <= p_now AND b.at + c.seconds * interval '1 s' > p_now) END AS began,
            CASE WHEN c.number + 1 >= c.starts THEN (
                SELECT b.at FROM {s}.begun b
                WHERE b.queue = p_queue AND b.limit_key = c.key AND b.number = c.number + 2 - c.starts
                    AND b.at <= p_now AND b.at + c.seconds * interval '1 s' > p_now) END AS later_began
        FROM (
            SELECT l.*, CASE WHEN l.starts IS NOT NULL THEN coalesce((
                SELECT b.number FROM {s}.begun b WHERE b.queue = p_queue AND b.limit_key = l.key
                ORDER BY b.number DESC LIMIT 1), 0) END AS number
            FROM (
                SELECT u.key, q.at_once, q.starts, q.seconds
                FROM unnest(p_keys) AS u(key) LEFT JOIN LATERAL (
                    SELECT e.* FROM {s}.queue_limit e WHERE e.queue = p_queue AND e.limit_key = coalesce((
                        SELECT o.limit_key FROM {s}.queue_limit o
                        WHERE o.queue = p_queue AND o.limit_key = u.key), '*')
                    LIMIT 1) q ON true) l
            OFFSET 0) c
        OFFSET 0) k;
END $$;

-- Do what `take_turns` does, in less time, where one task is asked for and no task without a limit key waits. o_tids is
-- NULL unless the first line may give its first task, and that is no suspect.
CREATE FUNCTION {s}.take_turn(
    p_queue text, p_now timestamptz, p_has_limits boolean, p_turns timestamptz[],
    OUT o_tids tid[], OUT o_first int, OUT o_begun boolean, OUT o_more boolean, OUT o_turns timestamptz[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_line record;
    v_limits record;
    v_later timestamptz;
    v_tasks record;  -- the first one, and the next one
BEGIN
    SELECT f.*, {s}.line_shift(f.priority) AS shift INTO v_line
    FROM (VALUES (1, p_turns[1]), (0, p_turns[2]), (-1, p_turns[3])) p(level, turn)
    CROSS JOIN LATERAL (
        SELECT ctid AS place, limit_key, at, after, seq, priority FROM {s}.line
        WHERE queue = p_queue AND priority = p.level AND at >= p.turn AND at <= p_now + interval '1 us'
        ORDER BY at, seq LIMIT 1 FOR UPDATE SKIP LOCKED) f
    LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF p_has_limits THEN
        v_limits := {s}.key_limits(p_queue, ARRAY[v_line.limit_key], p_now);
        IF v_limits.o_until[1] IS NOT NULL THEN
            RETURN;
        END IF;
        o_begun := v_limits.o_limited[1];
        v_later := v_limits.o_later[1];
    END IF;
    -- See `take_turns`.
    SELECT array_agg(f.tid) AS tids, array_agg(f.at) AS ats, array_agg(f.seq) AS seqs, array_agg(f.suspect) AS suspects
    INTO v_tasks FROM (
        SELECT ctid AS tid, at, seq, suspect FROM {s}.task
        WHERE queue = p_queue AND limit_key = v_line.limit_key AND at >= '8000-01-01 UTC'
            AND (at, seq) >= (v_line.after, v_line.seq)
            AND at < timestamptz '1900-01-01 UTC' + {s}.line_shift(v_line.priority - 1)
        ORDER BY at, seq LIMIT 2) f;
    IF (v_tasks.ats[1] <= p_now + v_line.shift AND NOT v_tasks.suspects[1]) IS NOT TRUE THEN
        RETURN;
    END IF;
    PERFORM FROM {s}.task
    WHERE ctid = v_tasks.tids[1] AND seq = v_tasks.seqs[1] AND at >= '8000-01-01 UTC' FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF v_tasks.ats[2] IS NULL THEN
        DELETE FROM {s}.line WHERE ctid = v_line.place;
    ELSE
        UPDATE {s}.line SET at = greatest(v_tasks.ats[2] - v_line.shift, v_later, p_now + interval '1 us'),
            after = v_tasks.ats[2], seq = v_tasks.seqs[2]
        WHERE ctid = v_line.place;
    END IF;
    IF o_begun THEN
        PERFORM {s}.begin_keys(p_queue, p_now, ARRAY[v_line.limit_key], v_limits.o_numbers, v_limits.o_over);
    END IF;
    o_tids := v_tasks.tids[1 : 1];
    o_more := v_tasks.ats[2] <= p_now + v_line.shift AND v_later IS NULL;
    o_turns := ARRAY[
        CASE v_line.priority WHEN 1 THEN v_line.at ELSE p_now - interval '1 s' END,
        CASE v_line.priority WHEN 0 THEN v_line.at WHEN -1 THEN p_now - interval '1 s' END,
        CASE v_line.priority WHEN -1 THEN v_line.at END];
END $$;

-- Reserve up to p_most tasks of a queue with lines, in turns; return them in order, or NULL if it has no line now.
-- With p_may_wait it waits for another step that has locked the only line. o_first is 1 if the step ends with
-- them, because of a suspect. o_begun tells whether a task with a limit has begun, o_more whether more tasks
-- that may begin are left. p_turns and o_turns tell where the lines of each priority begin for this step, and for the
-- next one.
CREATE FUNCTION {s}.take_turns(
    p_queue text, p_most int, p_now timestamptz, p_is_first boolean, p_has_limits boolean, p_is_mixed boolean,
    p_turns timestamptz[], p_may_wait boolean,
    OUT o_tids tid[], OUT o_first int, OUT o_begun boolean, OUT o_more boolean, OUT o_turns timestamptz[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_closed text[] := '{}';  -- limit keys with limits of which a task was taken
    v_begun text[];  -- those of them of which one is taken now, and what to record of these
    v_numbers bigint[];
    v_over timestamptz[];
    v_kept tid[] := '{}';  -- tasks that other transactions keep where they are
    v_looks int := 0;
    v_plain tid[];
    v_plain_suspects boolean[];
    v_plain_levels int[];
    v_plain_at timestamptz;
    v_plain_place int;  -- among the lines, which have even places
    v_plain_taken int := 0;
    v_plain_left int;
    v_level int;
    v_ready timestamptz;  -- the `at` of a task of a line of this priority that is due now
    v_end timestamptz;
    v_most int;  -- how many to take now
    v_each int;  -- how many of each line
    v_levels int[];
    v_place tid;
    v_places tid[];
    v_keys text[];
    v_ats timestamptz[];
    v_afters timestamptz[];
    v_seqs bigint[];
    v_limits record;
    v_limited boolean[];
    v_until timestamptz[];
    v_later timestamptz[];
    v_of int[];  -- of each task that was found: its line; 0 if it has no limit key
    v_found tid[];
    v_found_seqs bigint[];
    v_found_ats timestamptz[];
    v_suspects boolean[];
    v_is_next boolean[];  -- whether it cannot be taken now
    v_line int;
    v_turns int[];  -- of each line: its last turn; -1 if it has to wait for it
    v_next timestamptz[];  -- and its next task
    v_next_seqs bigint[];
    v_number int;
    v_taken tid[];
    v_taken_seqs bigint[];
    v_locked tid[];
BEGIN
    o_begun := false;
    o_more := false;
    o_turns := array_fill(NULL::timestamptz, ARRAY[3]);
    LOOP
        -- Not more at a time, because plans for more are not better.
        v_most := least(p_most - coalesce(cardinality(o_tids), 0), 100);
        EXIT WHEN o_first IS NOT NULL OR v_most = 0 OR v_looks > 100 + 2 * p_most;
        SELECT array_agg(l.place), array_agg(l.limit_key), array_agg(l.at), array_agg(l.after), array_agg(l.seq),
            array_agg(l.priority)
        INTO v_places, v_keys, v_ats, v_afters, v_seqs, v_levels FROM (
            SELECT f.* FROM (VALUES (1, p_turns[1]), (0, p_turns[2]), (-1, p_turns[3])) p(level, turn)
            CROSS JOIN LATERAL (  -- the later ones are not executed if the earlier ones give enough
                SELECT ctid AS place, limit_key, at, after, seq, priority FROM {s}.line
                WHERE queue = p_queue AND priority = p.level AND at >= p.turn
                    AND at <= p_now + p_most * interval '1 us' AND limit_key <> ALL (v_closed)
                ORDER BY at, seq LIMIT v_most FOR UPDATE SKIP LOCKED) f
            LIMIT v_most) l;
        IF o_tids IS NULL THEN
            IF v_places IS NULL THEN
                IF p_may_wait THEN
                    p_may_wait := false;
                    SELECT ctid INTO v_place FROM {s}.line
                    WHERE queue = p_queue AND priority IN (1, 0, -1)
                        AND at >= least(p_turns[1], p_turns[2], p_turns[3]) AND at <= p_now LIMIT 1;
                    IF FOUND THEN  -- other steps have locked all lines that have turns
                        PERFORM {s}.wait_for_line(v_place);
                        p_now := clock_timestamp();
                        CONTINUE;
                    END IF;
                END IF;
                o_turns := array_fill(p_now - interval '1 s', ARRAY[3]);
                RETURN;
            END IF;
            o_tids := '{}';
            IF p_is_mixed THEN
                SELECT array_agg(r.tid), array_agg(r.suspect), array_agg(r.priority)
                INTO v_plain, v_plain_suspects, v_plain_levels FROM (
                    SELECT f.* FROM (VALUES (1), (0), (-1)) p(level) CROSS JOIN LATERAL (
                        SELECT ctid AS tid, suspect, priority FROM {s}.task
                        WHERE queue = p_queue AND state = 'w'
                            AND at >= timestamptz '1900-01-01 UTC' + {s}.shift(p.level)
                            AND at <= p_now + {s}.shift(p.level)
                        ORDER BY at, seq LIMIT p_most FOR UPDATE SKIP LOCKED) f
                    LIMIT p_most) r;
            END IF;
        END IF;
        v_level := greatest(v_levels[1], v_plain_levels[v_plain_taken + 1]);
        IF v_closed = '{}' THEN  -- or else lines of these keys may have been passed over
            FOR part IN 1 .. coalesce(1 - v_level, 3) LOOP  -- no more tasks of a higher priority
                o_turns[part] := coalesce(o_turns[part], p_now - interval '1 s');
            END LOOP;
        END IF;
        EXIT WHEN v_level IS NULL;
        v_number := cardinality(array_positions(v_levels, v_level));
        IF v_number < cardinality(v_places) THEN
            v_places := v_places[1 : v_number];
            v_keys := v_keys[1 : v_number];
        END IF;
        v_number := coalesce(v_number, 0);
        IF v_number > 0 AND v_closed = '{}' THEN
            o_turns[2 - v_level] := coalesce(o_turns[2 - v_level], v_ats[1]);
        END IF;
        v_plain_place := 0;
        v_plain_left := coalesce(cardinality(array_positions(v_plain_levels[v_plain_taken + 1 :], v_level)), 0);
        IF v_plain_left > 0 THEN
            SELECT at INTO v_plain_at FROM {s}.plain_turn WHERE queue = p_queue AND priority = v_level;
            SELECT 2 * count(*) + 1 INTO v_plain_place FROM unnest(v_ats[1 : v_number]) a WHERE a < v_plain_at;
            -- Lines that were not read may be before them; there will be another round.
            IF v_number = v_most AND v_plain_place > 2 * v_number AND v_looks < 100 THEN
                v_plain_left := 0;
            END IF;
        END IF;
        v_looks := v_looks + v_number + 1;
        v_each := ceil(v_most::float8 / (v_number + (v_plain_left > 0)::int));
        IF p_has_limits THEN
            v_limits := {s}.key_limits(p_queue, v_keys, p_now);
            v_limited := v_limits.o_limited;
            v_until := v_limits.o_until;
            v_later := v_limits.o_later;
        END IF;
        v_ready := p_now + {s}.line_shift(v_level);
        v_end := timestamptz '1900-01-01 UTC' + {s}.line_shift(v_level - 1);
        -- Of each line one more than it may give. Not in one statement with the locks: this one sees what was queued
        -- before a line was locked.
        SELECT array_agg(f.of), array_agg(f.tid), array_agg(f.at), array_agg(f.seq), array_agg(f.suspect),
            array_agg(f.i > v_each OR f.at > v_ready)
        INTO v_of, v_found, v_found_ats, v_found_seqs, v_suspects, v_is_next FROM (
            SELECT u.n::int AS of, h.tid, h.at, h.seq, h.suspect, h.i, 2 * u.n AS place
            FROM unnest(v_keys, v_afters, v_seqs, v_until) WITH ORDINALITY AS u(key, after, seq, until, n)
            CROSS JOIN LATERAL (
                SELECT t.*, row_number() OVER () AS i FROM (
                    SELECT ctid AS tid, at, seq, suspect FROM {s}.task
                    WHERE queue = p_queue AND limit_key = u.key AND at >= '8000-01-01 UTC'
                        AND (at, seq) >= (u.after, u.seq) AND at < v_end AND ctid <> ALL (v_kept)
                    ORDER BY at, seq LIMIT v_each + 1) t) h
            WHERE u.until IS NULL AND u.n <= v_number
            UNION ALL
            SELECT 0, p.tid, NULL, NULL, p.suspect, p.i, v_plain_place
            FROM unnest(
                v_plain[v_plain_taken + 1 : v_plain_taken + least(v_plain_left, v_each)],
                v_plain_suspects[v_plain_taken + 1 : v_plain_taken + least(v_plain_left, v_each)])
                WITH ORDINALITY AS p(tid, suspect, i)
            ORDER BY i, place) f;
        v_turns := array_fill(0, ARRAY[v_number]);
        v_next := array_fill(NULL::timestamptz, ARRAY[v_number]);
        v_next_seqs := array_fill(NULL::bigint, ARRAY[v_number]);
        v_taken := '{}';
        v_taken_seqs := '{}';
        v_begun := '{}';
        v_numbers := '{}';
        v_over := '{}';
        v_plain_left := 0;
        FOR n IN 1 .. coalesce(cardinality(v_of), 0) LOOP
            v_line := v_of[n];
            IF v_line > 0 AND v_next[v_line] IS NOT NULL THEN
                CONTINUE;
            ELSIF v_is_next[n] OR v_line > 0 AND v_turns[v_line] > 0 AND v_limited[v_line] THEN
                v_next[v_line] := v_found_ats[n];
                v_next_seqs[v_line] := v_found_seqs[n];
                o_more := o_more OR v_found_ats[n] <= v_ready AND v_later[v_line] IS NULL;
            ELSIF cardinality(v_taken) < v_most AND v_suspects[n]
                AND NOT (p_is_first AND o_tids = '{}' AND v_taken = '{}')
            THEN
                o_first := 1;
                v_most := 0;
            END IF;
            IF v_line > 0 AND v_next[v_line] IS NOT NULL THEN
                CONTINUE;
            ELSIF cardinality(v_taken) >= v_most THEN
                IF v_line > 0 THEN
                    v_turns[v_line] := CASE WHEN v_turns[v_line] > 0 THEN v_turns[v_line] ELSE -1 END;
                    v_next[v_line] := v_found_ats[n];
                    o_more := true;
                    v_next_seqs[v_line] := v_found_seqs[n];
                END IF;
                CONTINUE;
            END IF;
            v_taken := v_taken || v_found[n];
            v_taken_seqs := v_taken_seqs || v_found_seqs[n];
            IF v_line > 0 THEN
                v_turns[v_line] := cardinality(o_tids) + cardinality(v_taken);
                IF v_limited[v_line] THEN
                    v_begun := v_begun || v_keys[v_line];
                    v_numbers := v_numbers || v_limits.o_numbers[v_line];
                    v_over := v_over || v_limits.o_over[v_line];
                END IF;
            ELSE
                v_plain_left := v_plain_left + 1;
                v_plain_at := p_now + (cardinality(o_tids) + cardinality(v_taken)) * interval '1 us';
            END IF;
            IF v_suspects[n] THEN
                o_first := 1;
                v_most := 0;
            END IF;
        END LOOP;
        v_locked := ARRAY(
            SELECT t.ctid FROM unnest(v_taken, v_taken_seqs) AS u(tid, seq) JOIN {s}.task t
            ON t.ctid = u.tid AND t.seq = u.seq AND t.at >= '8000-01-01 UTC'
            FOR UPDATE OF t SKIP LOCKED);
        IF cardinality(v_locked) + v_plain_left < cardinality(v_taken) THEN
            v_kept := v_kept || ARRAY(
                SELECT u.tid FROM unnest(v_taken, v_taken_seqs) AS u(tid, seq)
                WHERE u.seq IS NOT NULL AND u.tid <> ALL (v_locked));
            o_first := NULL;
            CONTINUE;
        END IF;
        UPDATE {s}.line l SET
            at = coalesce(u.until, greatest(u.next - {s}.line_shift(v_level), u.later, p_now + u.pause)),
            after = CASE WHEN v_kept = '{}' THEN coalesce(u.next, l.after) ELSE l.after END,
            seq = CASE WHEN v_kept = '{}' THEN coalesce(u.next_seq, l.seq) ELSE l.seq END
        FROM (
            SELECT *, CASE WHEN r.turn > 0 AND r.next IS NOT NULL THEN r.turn * interval '1 us'
                ELSE interval '20 ms' END AS pause
            FROM unnest(v_places, v_turns, v_next, v_next_seqs, v_until, v_later)
                AS r(place, turn, next, next_seq, until, later)) u
        WHERE l.ctid = u.place AND u.turn >= 0 AND (u.next IS NOT NULL OR u.until IS NOT NULL OR v_kept <> '{}');
        IF v_kept = '{}' AND array_position(v_next, NULL) IS NOT NULL THEN
            DELETE FROM {s}.line WHERE ctid = ANY (ARRAY(
                SELECT u.place FROM unnest(v_places, v_turns, v_next, v_until) AS u(place, turn, next, until)
                WHERE u.next IS NULL AND u.until IS NULL AND u.turn >= 0));
        END IF;
        IF v_begun <> '{}' THEN
            o_begun := true;
            v_closed := v_closed || v_begun;
            PERFORM {s}.begin_keys(p_queue, p_now, v_begun, v_numbers, v_over);
        END IF;
        IF v_plain_left > 0 THEN
            v_plain_taken := v_plain_taken + v_plain_left;
            UPDATE {s}.plain_turn SET at = v_plain_at WHERE ctid = (
                SELECT ctid FROM {s}.plain_turn WHERE queue = p_queue AND priority = v_level
                FOR UPDATE SKIP LOCKED);
            IF NOT FOUND THEN  -- it is new, or another step writes it
                INSERT INTO {s}.plain_turn (queue, priority, at)
                SELECT p_queue, v_level, v_plain_at
                WHERE NOT EXISTS (SELECT FROM {s}.plain_turn WHERE queue = p_queue AND priority = v_level)
                ON CONFLICT DO NOTHING;
            END IF;
        END IF;
        o_tids := o_tids || v_taken;
    END LOOP;
END $$;

-- Workers.

-- Return the seconds until there is something to do, 0 if there is now. p_after gives for each queue
-- where to begin among the tasks that wait, as for `first_due`, p_turns the same for `next_turn`. Leases are
-- looked at only from the beginning of time: their next end may be behind those of all tasks that were done
-- since. A client that begins later sleeps only until it begins at the beginning again. The tasks of a paused
-- queue wait until it is resumed, those of a queue or a limit key with a limit until one of them may begin.
CREATE FUNCTION {s}.pause(p_queues text[], p_after timestamptz[], p_turns timestamptz[], p_since timestamptz)
RETURNS float8 LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_at timestamptz;
    v_until timestamptz;
    v_next timestamptz := 'infinity';
    v_limited text[] := '{}';
    v_lined text[] := '{}';
BEGIN
    IF EXISTS (SELECT FROM {s}.queue_limit) OR EXISTS (SELECT FROM {s}.lined_queue) THEN
        SELECT o_limited, o_lined INTO v_limited, v_lined FROM {s}.lock_queues(p_queues);
    END IF;
    FOR n IN 1 .. cardinality(p_queues) LOOP
        v_at := {s}.first_due(p_queues[n], p_after, n);
        IF p_queues[n] = ANY (v_lined) THEN
            v_at := least(v_at, {s}.next_turn(p_queues[n], p_turns, n, p_since));
        END IF;
        IF v_at < v_next THEN
            SELECT until INTO v_until FROM {s}.paused WHERE queue = p_queues[n];
            IF p_queues[n] = ANY (v_limited) THEN
                v_until := greatest(v_until, {s}.limited_until(p_queues[n], clock_timestamp()));
            END IF;
            v_next := least(v_next, greatest(v_at, v_until));
        END IF;
        IF p_since = '-infinity' THEN
            SELECT at INTO v_at FROM {s}.task
            WHERE queue = p_queues[n] AND state = 'l' ORDER BY at, seq LIMIT 1;
            v_next := least(v_next, v_at);
        END IF;
    END LOOP;
    RETURN CASE WHEN v_next = 'infinity' THEN 'infinity'
        ELSE greatest(0, extract(epoch FROM v_next - clock_timestamp())) END;
END $$;

-- Take the locks of a worker that sleeps, then look: a push that this does not see will see the locks.
CREATE FUNCTION {s}.sleep(p_queues text[], p_after timestamptz[], p_turns timestamptz[], p_since timestamptz)
RETURNS float8 LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_lock_shared(1634494569, {s}.lock_key(q)) FROM unnest(p_queues) q;
    RETURN {s}.pause(p_queues, p_after, p_turns, p_since);
END $$;

-- Apply the outcomes of tasks other than 'ack'; return the queues of those that died, and their batches.
-- Databases have this function under its old name.
CREATE FUNCTION {s}.settle_outcomes(
    p_verdicts text[], p_queues text[], p_ids text[], p_seqs bigint[], p_tokens bigint[],
    p_delays float8[], p_datas bytea[], p_reasons text[], p_tracebacks text[],
    OUT o_deaths text[], OUT o_batches bigint[]
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_due timestamptz;
    v_task {s}.task;
    o record;
BEGIN
    o_deaths := '{}';
    o_batches := '{}';
    FOR o IN
        SELECT * FROM unnest(
            p_verdicts, p_queues, p_ids, p_seqs, p_tokens, p_delays, p_datas, p_reasons, p_tracebacks)
            AS o(verdict, queue, id, seq, token, delay, data, reason, traceback)
    LOOP
        v_due := CASE WHEN o.verdict = 'retry' OR o.delay > 0
            THEN v_now + o.delay * interval '1 s' END;
        IF o.verdict IN ('dead', 'expired') THEN
            UPDATE {s}.task t SET state = 'd', at = v_now, delayed = false, reason = o.reason,
                traceback = o.traceback, data = coalesce(o.data, t.data), batch = -t.batch
            WHERE queue = o.queue AND id = o.id AND t.token <> 0 AND seq = o.seq
                AND t.token = o.token AND state <> 'w' AND state <> 'd'
            RETURNING t.* INTO v_task;
            IF FOUND THEN
                IF v_task.limit_key IS NOT NULL THEN
                    PERFORM {s}.end_lease(v_task, false);
                END IF;
                IF v_task.unique_key IS NOT NULL THEN
                    PERFORM {s}.free_key(o.queue, v_task.unique_key, o.seq);
                END IF;
                INSERT INTO {s}.tally (queue, leased, dead, died, failed, expired)
                VALUES (o.queue, -1, 1, 1, (o.verdict = 'dead')::int, (o.verdict = 'expired')::int);
                o_deaths := o_deaths || o.queue;
                o_batches := o_batches || -v_task.batch;
            END IF;
        ELSE
            UPDATE {s}.task t SET state = 'w',
                at = coalesce(v_due, due) + {s}.shift(t.priority, t.limit_key), due = coalesce(v_due, due),
                delayed = coalesce(v_due, due) > v_now, data = coalesce(o.data, t.data)
            WHERE queue = o.queue AND id = o.id AND t.token <> 0 AND seq = o.seq
                AND t.token = o.token AND state <> 'w' AND state <> 'd'
            RETURNING t.* INTO v_task;
            IF FOUND THEN
                IF v_task.limit_key IS NOT NULL THEN
                    PERFORM {s}.end_lease(v_task, true);
                END IF;
                INSERT INTO {s}.tally (queue, leased, waiting, delayed, failed, retried)
                VALUES (o.queue, -1, 1, (v_task.due > v_now)::int, (o.verdict = 'retry')::int,
                    (o.verdict = 'retry')::int);
            END IF;
        END IF;
    END LOOP;
END $$;

-- Apply outcomes, reclaim and reserve. The first row of the result has no queue: `o_pause` is the seconds
-- until there is something to do, `o_took` those that the scans took, `o_at` the time by this
-- server's clock, `o_wake` the queues of follow-ups that were queued: their workers have to be woken after
-- the commit. `o_complete` tells whether all tasks that wait after the given marks were found; it is NULL
-- if those of a queue that is paused or has a limit were not looked for. `o_reclaimed` tells whether all
-- expired leases were found. The other rows are leases.
CREATE FUNCTION {s}.step(
    p_queues text[], p_after timestamptz[], p_turns timestamptz[], p_since timestamptz,
    p_limit int, p_lease float8, p_max_lost int, p_token bigint,
    p_ack_queues text[], p_ack_ids text[], p_ack_seqs bigint[],
    p_dead_limit int, p_dead_seconds float8, p_slept boolean,
    p_verdicts text[], p_out_queues text[], p_out_ids text[], p_out_seqs bigint[],
    p_out_tokens bigint[], p_delays float8[], p_datas bytea[], p_reasons text[], p_tracebacks text[]
) RETURNS TABLE (
    o_queue text, o_id text, o_data bytea, o_seq bigint, o_lost int, o_waited float8,
    o_at timestamptz, o_pause float8, o_took float8, o_complete boolean,
    o_reclaimed boolean, o_priority int, o_wake text[], o_turns timestamptz[]
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_now timestamptz;
    v_room int := p_limit;
    v_ended int;
    v_dead int;
    v_deaths text[] := '{}';
    v_tids tid[] := '{}';
    v_found tid[];
    v_suspects boolean[];
    v_dues timestamptz[];
    v_priorities int[];
    v_first int;
    v_last int;
    v_rest timestamptz[] := p_after;  -- where the tasks begin that this step leaves to others
    v_complete boolean := true;
    v_reclaimed boolean := true;
    v_took float8;
    v_pause float8 := 'infinity';
    v_paused text[];
    v_locked record;
    v_limited text[] := '{}';
    v_lined text[] := '{}';
    v_keyed text[] := '{}';  -- those of them whose keys have limits
    v_mixed text[] := '{}';  -- and those in which tasks without a limit key wait
    v_shared text[] := '{}';
    v_placed record;
    v_has_placed boolean := false;  -- then it holds locks of lines, and waits for no other
    v_barred text[] := '{}';
    v_free_keys text[];  -- of the tasks that are done
    v_taken record;
    v_begun boolean;
    v_waits text;  -- a queue of which a line has more tasks that may begin
    v_turns timestamptz[];  -- where the next step may begin among lines
    v_queue text;
    v_changed text[] := p_ack_queues || p_out_queues;  -- where tasks have begun or ended
    v_left_out boolean := false;
    v_most int;
    v_settled bigint[] := '{}';
    v_done int;
    v_died bigint[];
    v_wake text[];
    v_woken text;
BEGIN
    IF p_slept THEN
        PERFORM pg_advisory_unlock_all();
    END IF;
    -- A crash of the server may undo this step: its tasks then run again, as at-least-once allows.
    PERFORM set_config('synchronous_commit', 'off', true);
    IF cardinality(p_ack_seqs) > 0 THEN
        -- A statement of its own: the next one sees what a heartbeat has changed until the lock was given.
        v_found := ARRAY(
            SELECT (SELECT k.ctid FROM {s}.task k
                WHERE k.queue = a.queue AND k.id = a.id AND k.token <> 0 AND k.seq = a.seq
                LIMIT 1 FOR UPDATE)
            FROM unnest(p_ack_queues, p_ack_ids, p_ack_seqs) AS a(queue, id, seq));
        WITH done AS (
            DELETE FROM {s}.task WHERE ctid = ANY (v_found)
            RETURNING queue, state, delayed, batch, limit_key),
        counted AS (
            INSERT INTO {s}.tally (queue, waiting, delayed, leased, dead, succeeded)
            SELECT queue, -count(*) FILTER (WHERE state = 'w'),
                -count(*) FILTER (WHERE state = 'w' AND delayed),
                -count(*) FILTER (WHERE state = 'l'), -count(*) FILTER (WHERE state = 'd'), count(*)
            FROM done GROUP BY queue)
        SELECT coalesce(array_agg(batch) FILTER (WHERE batch > 0), '{}'),
            array_agg(limit_key) FILTER (WHERE limit_key IS NOT NULL AND state = 'l')
        INTO v_settled, v_free_keys FROM done;
    END IF;
    v_done := cardinality(v_settled);
    IF p_verdicts IS NOT NULL THEN
        SELECT * INTO v_deaths, v_died FROM {s}.settle_outcomes(p_verdicts, p_out_queues, p_out_ids,
            p_out_seqs, p_out_tokens, p_delays, p_datas, p_reasons, p_tracebacks);
        v_settled := v_settled || v_died;
    END IF;
    IF EXISTS (SELECT FROM {s}.queue_limit) OR EXISTS (SELECT FROM {s}.lined_queue) THEN
        v_locked := {s}.lock_queues(p_queues || p_ack_queues || p_out_queues);
        v_limited := v_locked.o_limited;
        v_lined := v_locked.o_lined;
        v_shared := v_locked.o_shared;
    END IF;
    v_now := clock_timestamp();
    IF p_limit > 0 THEN
        FOR n IN 1 .. cardinality(p_queues) LOOP
            WITH ended AS (
                UPDATE {s}.task t SET
                    lost = t.lost + t.alone::int, suspect = true, delayed = false,
                    at = v_now + CASE WHEN t.alone AND t.lost + 1 >= p_max_lost THEN interval '0'
                        ELSE {s}.shift(t.priority, t.limit_key) END,
                    due = v_now,
                    state = CASE WHEN t.alone AND t.lost + 1 >= p_max_lost THEN 'd' ELSE 'w' END::"char",
                    reason = CASE WHEN t.alone AND t.lost + 1 >= p_max_lost THEN 'lost ' || (t.lost + 1)
                        || ' times: its worker died or froze while it ran' END,
                    traceback = NULL,
                    unique_key = CASE WHEN t.alone AND t.lost + 1 >= p_max_lost THEN NULL
                        ELSE t.unique_key END,
                    batch = CASE WHEN t.alone AND t.lost + 1 >= p_max_lost THEN -t.batch
                        ELSE t.batch END
                WHERE t.ctid = ANY (ARRAY(
                    SELECT ctid FROM {s}.task
                    WHERE queue = p_queues[n] AND state = 'l' AND at >= p_since AND at <= v_now
                    ORDER BY at, seq LIMIT 250 FOR UPDATE SKIP LOCKED))
                RETURNING t.*),
            counted AS (
                INSERT INTO {s}.tally (queue, leased, waiting, lost, dead, died)
                SELECT p_queues[n], -count(*), count(*) FILTER (WHERE state = 'w'), count(*),
                    count(*) FILTER (WHERE state = 'd'), count(*) FILTER (WHERE state = 'd')
                FROM ended HAVING count(*) > 0
                RETURNING lost, dead)
            SELECT lost, dead, (SELECT array_agg(-batch) FROM ended WHERE state = 'd' AND batch < 0),
                (SELECT count({s}.end_lease(e, state = 'w')) FROM ended e WHERE limit_key IS NOT NULL)
            INTO v_ended, v_dead, v_died FROM counted;
            v_settled := v_settled || v_died;
            IF v_ended = 250 THEN
                v_reclaimed := false;
            END IF;
            IF v_dead > 0 THEN
                v_deaths := v_deaths || array_fill(p_queues[n], ARRAY[v_dead]);
            END IF;
        END LOOP;
    END IF;
    IF v_settled <> '{}' THEN
        v_wake := {s}.settle_batches(v_settled, ARRAY(
            SELECT n > v_done FROM generate_series(1, cardinality(v_settled)) n ORDER BY n), v_now);
    END IF;
    FOREACH v_queue IN ARRAY v_lined LOOP
        v_placed := {s}.place_lines(v_queue, v_now, 100, p_since,
            CASE WHEN v_queue = ANY (v_shared) THEN '{}' ELSE coalesce(v_free_keys, '{}') END);
        v_reclaimed := v_reclaimed AND v_placed.o_all;
        v_has_placed := v_has_placed OR v_placed.o_any;
        IF v_placed.o_is_mixed THEN
            v_mixed := v_mixed || v_queue;
        END IF;
        IF v_placed.o_is_keyed THEN
            v_keyed := v_keyed || v_queue;
            IF v_queue = ANY (v_shared) THEN  -- its first limit is new: the next step has its lock alone
                v_barred := v_barred || v_queue;
            END IF;
        END IF;
    END LOOP;
    IF p_limit > 0 THEN
        v_paused := ARRAY(SELECT queue FROM {s}.paused WHERE queue = ANY (p_queues) AND until > v_now);
        -- A suspect is leased alone: the step ends after it, if it is the first, or else before it.
        FOR n IN 1 .. cardinality(p_queues) LOOP
            v_most := v_room;
            IF p_queues[n] = ANY (v_paused) OR p_queues[n] = ANY (v_barred) THEN
                v_left_out := true;
                CONTINUE;
            ELSIF p_queues[n] = ANY (v_limited) THEN
                v_left_out := true;
                CONTINUE WHEN {s}.limited_until(p_queues[n], v_now) IS NOT NULL;
                v_most := 1;
            END IF;
            IF p_queues[n] = ANY (v_lined) THEN
                v_found := NULL;
                IF v_most = 1 AND p_queues[n] <> ALL (v_mixed) THEN
                    v_taken := {s}.take_turn(p_queues[n], v_now, p_queues[n] = ANY (v_keyed),
                        p_turns[3 * n - 2 : 3 * n]);
                    v_found := v_taken.o_tids;
                END IF;
                IF v_found IS NULL THEN
                    v_taken := {s}.take_turns(p_queues[n], v_most, v_now, v_tids = '{}', p_queues[n] = ANY (v_keyed),
                        p_queues[n] = ANY (v_mixed), p_turns[3 * n - 2 : 3 * n], v_tids = '{}' AND NOT v_has_placed);
                    v_found := v_taken.o_tids;
                END IF;
                v_first := v_taken.o_first;
                v_begun := v_taken.o_begun;
                v_turns := coalesce(v_turns, array_fill(NULL::timestamptz, ARRAY[cardinality(p_turns)]));
                v_turns[3 * n - 2 : 3 * n] := v_taken.o_turns;
            END IF;
            IF p_queues[n] = ANY (v_lined) AND v_found IS NOT NULL THEN
                v_left_out := true;
                IF v_taken.o_more THEN
                    v_waits := p_queues[n];
                END IF;
                IF p_queues[n] = ANY (v_limited) AND cardinality(v_found) > 0 THEN
                    PERFORM {s}.begin_task(p_queues[n], v_now);
                    v_begun := true;
                END IF;
                IF v_begun THEN
                    v_changed := v_changed || p_queues[n];
                END IF;
                v_tids := v_tids || v_found;
                v_room := p_limit - cardinality(v_tids);
                EXIT WHEN v_first IS NOT NULL OR v_room = 0;
                CONTINUE;
            END IF;
            -- The later parts are not executed if the earlier ones give enough.
            SELECT array_agg(r.tid), array_agg(r.suspect), array_agg(r.due), array_agg(r.priority)
            INTO v_found, v_suspects, v_dues, v_priorities FROM (
                SELECT * FROM (
                    SELECT ctid AS tid, suspect, due, priority FROM {s}.task
                    WHERE queue = p_queues[n] AND state = 'w'
                        AND at >= p_after[3 * n - 2] + {s}.shift(1) AND at <= v_now + {s}.shift(1)
                    ORDER BY at, seq LIMIT v_most FOR UPDATE SKIP LOCKED) high
                UNION ALL
                SELECT * FROM (
                    SELECT ctid AS tid, suspect, due, priority FROM {s}.task
                    WHERE queue = p_queues[n] AND state = 'w'
                        AND at >= p_after[3 * n - 1] AND at <= v_now
                    ORDER BY at, seq LIMIT v_most FOR UPDATE SKIP LOCKED) normal
                UNION ALL
                SELECT * FROM (
                    SELECT ctid AS tid, suspect, due, priority FROM {s}.task
                    WHERE queue = p_queues[n] AND state = 'w'
                        AND at >= p_after[3 * n] + {s}.shift(-1) AND at <= v_now + {s}.shift(-1)
                    ORDER BY at, seq LIMIT v_most FOR UPDATE SKIP LOCKED) low
                LIMIT v_most) r;
            v_first := array_position(v_suspects, true);
            IF v_first IS NOT NULL THEN
                v_found := v_found[1 : CASE WHEN v_first = 1 AND v_tids = '{}' THEN 1 ELSE v_first - 1 END];
            END IF;
            IF p_queues[n] = ANY (v_limited) AND cardinality(v_found) > 0 THEN
                PERFORM {s}.begin_task(p_queues[n], v_now);
                v_changed := v_changed || p_queues[n];
            END IF;
            v_tids := v_tids || v_found;
            v_room := p_limit - cardinality(v_tids);
            v_last := 3 * n - 1 - v_priorities[cardinality(v_found)];
            FOR part IN 3 * n - 2 .. 3 * n LOOP
                v_rest[part] := CASE WHEN v_room > 0 OR part < v_last THEN v_now
                    WHEN part = v_last THEN v_dues[cardinality(v_found)] ELSE p_after[part] END;
            END LOOP;
            IF v_first IS NOT NULL OR v_room = 0 THEN
                v_complete := false;
                EXIT;
            END IF;
        END LOOP;
    END IF;
    v_took := extract(epoch FROM clock_timestamp() - v_now);
    IF v_tids <> '{}' THEN
        RETURN QUERY
            WITH taken AS (
                UPDATE {s}.task t SET state = 'l', token = p_token, alone = cardinality(v_tids) = 1,
                    at = v_now + p_lease * interval '1 s',
                    counted = t.limit_key IS NOT NULL AND t.queue = ANY (v_keyed)
                FROM unnest(v_tids) WITH ORDINALITY AS u(tid, n) WHERE t.ctid = u.tid
                RETURNING t.queue, t.id, t.data, t.seq, t.lost, t.due, t.delayed, t.priority, u.n),
            counted AS (
                INSERT INTO {s}.tally (queue, waiting, delayed, leased)
                SELECT queue, -count(*), -count(*) FILTER (WHERE delayed), count(*)
                FROM taken GROUP BY queue)
            SELECT queue, id, data, seq, lost, extract(epoch FROM v_now - due)::float8, due,
                NULL::float8, NULL::float8, NULL::boolean, NULL::boolean, priority::int, NULL::text[],
                NULL::timestamptz[]
            FROM taken ORDER BY n;
        IF v_room = 0 THEN
            -- This worker is busy now: another one takes the next task, or waits until it is due.
            FOR n IN 1 .. cardinality(p_queues) LOOP
                CONTINUE WHEN p_queues[n] = ANY (v_paused);
                CONTINUE WHEN p_queues[n] = ANY (v_limited) AND (p_queues[n] = ANY (v_changed)
                    OR {s}.limited_until(p_queues[n], v_now) > v_now + interval '5 s');
                IF p_queues[n] = v_waits OR p_queues[n] = ANY (v_lined)
                    AND {s}.next_turn(p_queues[n], p_turns, n, p_since) <= v_now + interval '5 s'
                    OR {s}.first_due(p_queues[n], v_rest, n) <= v_now + interval '5 s'
                THEN
                    PERFORM {s}.wake(p_queues[n], 1);
                    v_woken := p_queues[n];
                    EXIT;
                END IF;
            END LOOP;
        END IF;
    ELSIF p_limit > 0 THEN
        v_pause := {s}.pause(p_queues, p_after, p_turns, p_since);
        IF v_pause = 0 THEN  -- another step has locked it, and may fail
            v_pause := 0.02;
        END IF;
    END IF;
    IF cardinality(v_limited) > 0 THEN
        PERFORM {s}.wake_limited(ARRAY(SELECT q FROM unnest(v_limited) q WHERE q = ANY (v_changed)));
    END IF;
    -- Where tasks with limits of their keys have begun or ended, another one may begin.
    FOREACH v_queue IN ARRAY v_keyed LOOP
        IF v_queue = ANY (v_changed) AND v_queue <> ALL (v_limited) AND v_queue IS DISTINCT FROM v_woken
            AND {s}.next_turn(v_queue, p_turns, array_position(p_queues, v_queue), p_since) <= v_now + interval '5 s'
        THEN
            PERFORM {s}.wake(v_queue, 1);
        END IF;
    END LOOP;
    IF cardinality(v_deaths) > 0 THEN
        PERFORM {s}.bound_dead(v_deaths, p_dead_limit, p_dead_seconds);
    END IF;
    IF random() < 0.01 THEN
        PERFORM {s}.fold();
    END IF;
    RETURN QUERY SELECT NULL::text, NULL::text, NULL::bytea, NULL::bigint, NULL::int, NULL::float8,
        v_now, v_pause, v_took, CASE WHEN NOT v_left_out THEN v_complete END, v_reclaimed, NULL::int, v_wake,
        v_turns;
END $$;

-- For each task that died, drop up to two of the oldest dead letters that are too many or too old.
CREATE FUNCTION {s}.bound_dead(p_deaths text[], p_limit int, p_seconds float8)
RETURNS void LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_queue text;
    v_number int;
    v_dead bigint;
BEGIN
    FOR v_queue, v_number IN SELECT q, count(*) FROM unnest(p_deaths) q GROUP BY q LOOP
        SELECT coalesce(sum(dead), 0) INTO v_dead FROM {s}.tally WHERE queue = v_queue;
        WITH oldest AS (
            SELECT tid, at, row_number() OVER (ORDER BY at, seq) AS place FROM (
                SELECT ctid AS tid, at, seq FROM {s}.task WHERE queue = v_queue AND state = 'd'
                ORDER BY at, seq LIMIT 2 * v_number FOR UPDATE SKIP LOCKED) o),
        removed AS (
            DELETE FROM {s}.task WHERE ctid = ANY (ARRAY(
                SELECT tid FROM oldest WHERE place <= v_dead - p_limit
                    OR at < clock_timestamp() - p_seconds * interval '1 s'))
            RETURNING 1)
        INSERT INTO {s}.tally (queue, dead, dropped)
        SELECT v_queue, -count(*), count(*) FROM removed HAVING count(*) > 0;
    END LOOP;
END $$;

-- Add up old rows of the ledger, and forget old commits. What another session has locked stays.
CREATE FUNCTION {s}.fold() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    WITH old AS (
        DELETE FROM {s}.tally WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {s}.tally LIMIT 5000 FOR UPDATE SKIP LOCKED))
        RETURNING *)
    INSERT INTO {s}.tally (queue, waiting, delayed, leased, dead, pushed, succeeded, failed, retried,
        lost, canceled, dropped, died, expired)
    SELECT queue, sum(waiting), sum(delayed), sum(leased), sum(dead), sum(pushed), sum(succeeded),
        sum(failed), sum(retried), sum(lost), sum(canceled), sum(dropped), sum(died), sum(expired)
    FROM old GROUP BY queue;
    DELETE FROM {s}.pushed WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {s}.pushed WHERE at < v_now - interval '300 s'
        ORDER BY at LIMIT 5000 FOR UPDATE SKIP LOCKED));
    DELETE FROM {s}.replaced WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {s}.replaced WHERE since < v_now - interval '300 s'
        ORDER BY since LIMIT 5000 FOR UPDATE SKIP LOCKED));
    PERFORM {s}.forget_begun(v_now, 5000);
    DELETE FROM {s}.held_key WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {s}.held_key WHERE done AND until < v_now
        ORDER BY until LIMIT 5000 FOR UPDATE SKIP LOCKED));
END $$;

-- Return the numbers, from 1, of the leases that are extended.
CREATE FUNCTION {s}.extend(
    p_queues text[], p_ids text[], p_seqs bigint[], p_tokens bigint[], p_lease float8
) RETURNS SETOF bigint LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    RETURN QUERY
        WITH extended AS (
            UPDATE {s}.task SET at = clock_timestamp() + p_lease * interval '1 s'
            WHERE ctid = ANY (ARRAY(
                SELECT (SELECT k.ctid FROM {s}.task k
                    WHERE k.queue = e.queue AND k.id = e.id AND k.token <> 0 AND k.seq = e.seq
                        AND k.token = e.token AND k.state <> 'w' AND k.state <> 'd'
                    LIMIT 1 FOR UPDATE)
                FROM unnest(p_queues, p_ids, p_seqs, p_tokens) AS e(queue, id, seq, token)))
            RETURNING seq, token)
        SELECT e.n FROM unnest(p_seqs, p_tokens) WITH ORDINALITY AS e(seq, token, n)
        WHERE (e.seq, e.token) IN (SELECT x.seq, x.token FROM extended x);
END $$;

-- Single tasks. Of several that wait under one id, the newest is meant: one that was never leased, if
-- there is one.

CREATE FUNCTION {s}.find_waiting(p_queue text, p_id text) RETURNS tid LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_tid tid;
BEGIN
    SELECT ctid INTO v_tid FROM {s}.task WHERE queue = p_queue AND id = p_id AND token = 0 FOR UPDATE;
    IF v_tid IS NULL THEN
        SELECT ctid INTO v_tid FROM {s}.task
        WHERE queue = p_queue AND id = p_id AND token <> 0 AND state = 'w'
        ORDER BY seq DESC LIMIT 1 FOR UPDATE;
    END IF;
    RETURN v_tid;
END $$;

CREATE FUNCTION {s}.lease(p_queue text, p_id text, p_lease float8, p_token bigint)
RETURNS TABLE (o_data bytea, o_seq bigint, o_lost int) LANGUAGE plpgsql AS $$
DECLARE
    v_tid tid := {s}.find_waiting(p_queue, p_id);
BEGIN
    RETURN QUERY
        WITH taken AS (
            UPDATE {s}.task t SET state = 'l', token = p_token, alone = true, counted = t.limit_key IS NOT NULL,
                at = clock_timestamp() + p_lease * interval '1 s'
            WHERE t.ctid = v_tid RETURNING t.data, t.seq, t.lost, t.delayed),
        counted AS (
            INSERT INTO {s}.tally (queue, waiting, delayed, leased)
            SELECT p_queue, -1, -delayed::int, 1 FROM taken)
        SELECT data, seq, lost FROM taken;
END $$;

CREATE FUNCTION {s}.find_leased(p_queue text, p_id text) RETURNS tid LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_tid tid;
BEGIN
    -- One that returns to its queue at this moment is found, too.
    SELECT ctid INTO v_tid FROM {s}.task
    WHERE queue = p_queue AND id = p_id AND token <> 0 AND state <> 'd'
    ORDER BY seq DESC LIMIT 1 FOR UPDATE;
    RETURN v_tid;
END $$;

-- Cancel the task that waits, or else the one that is leased. Also return the queues of follow-ups that were
-- queued, as `step` does; and the queue itself if a lease has ended, because it may have a limit.
CREATE FUNCTION {s}.cancel(
    p_queue text, p_id text, OUT o_data bytea, OUT o_leased boolean, OUT o_wake text[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_tid tid := coalesce({s}.find_waiting(p_queue, p_id), {s}.find_leased(p_queue, p_id));
    v_batch bigint;
    v_limit_key text;
BEGIN
    WITH removed AS (
        DELETE FROM {s}.task t WHERE t.ctid = v_tid
        RETURNING t.data, t.delayed, t.unique_key, t.seq, t.batch, t.token, t.limit_key, t.state = 'l' AS leased),
    freed AS (
        DELETE FROM {s}.held_key h USING removed r
        WHERE h.queue = p_queue AND h.unique_key = r.unique_key AND h.seq = r.seq),
    counted AS (
        INSERT INTO {s}.tally (queue, waiting, delayed, leased, canceled)
        SELECT p_queue, leased::int - 1, -(delayed AND NOT leased)::int, -leased::int, 1 FROM removed),
    remembered AS (
        INSERT INTO {s}.canceled (seq, token, at)
        SELECT seq, token, clock_timestamp() FROM removed WHERE leased)
    SELECT data, leased, batch, limit_key INTO o_data, o_leased, v_batch, v_limit_key FROM removed;
    IF v_batch > 0 THEN
        o_wake := {s}.settle_batches(ARRAY[v_batch], ARRAY[true], clock_timestamp());
    END IF;
    IF o_leased THEN
        o_wake := coalesce(o_wake, '{}') || p_queue;
        PERFORM {s}.free_places(p_queue, ARRAY[v_limit_key]) WHERE v_limit_key IS NOT NULL;
        DELETE FROM {s}.canceled WHERE at < clock_timestamp() - interval '300 s';
    END IF;
END $$;

-- Return how many tasks it dropped, fewer than p_limit if none is left; and the queues of follow-ups that
-- were queued, as `step` does.
CREATE FUNCTION {s}.drop_some(p_queue text, p_limit int, OUT o_dropped bigint, OUT o_wake text[])
LANGUAGE plpgsql SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_batches bigint[];
BEGIN
    WITH removed AS (
        DELETE FROM {s}.task WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {s}.task WHERE queue = p_queue AND state = 'w'
            ORDER BY at, seq LIMIT p_limit FOR UPDATE))
        RETURNING delayed, unique_key, seq, batch),
    freed AS (
        DELETE FROM {s}.held_key h USING removed r
        WHERE h.queue = p_queue AND h.unique_key = r.unique_key AND h.seq = r.seq),
    counted AS (
        INSERT INTO {s}.tally (queue, waiting, delayed, dropped)
        SELECT p_queue, -count(*), -count(*) FILTER (WHERE delayed), count(*)
        FROM removed HAVING count(*) > 0)
    SELECT count(*), array_agg(batch) FILTER (WHERE batch > 0) INTO o_dropped, v_batches FROM removed;
    IF v_batches IS NOT NULL THEN
        o_wake := {s}.settle_batches(v_batches, array_fill(true, ARRAY[cardinality(v_batches)]),
            clock_timestamp());
    END IF;
END $$;

CREATE FUNCTION {s}.find_dead(p_queue text, p_id text) RETURNS tid LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_tid tid;
BEGIN
    SELECT ctid INTO v_tid FROM {s}.task
    WHERE queue = p_queue AND id = p_id AND token <> 0 AND state = 'd'
    ORDER BY at DESC, seq DESC LIMIT 1 FOR UPDATE;
    RETURN v_tid;
END $$;

CREATE PROCEDURE {s}.retry_dead(p_queue text, p_id text, INOUT p_found boolean) LANGUAGE plpgsql AS $$
DECLARE
    v_tid tid := {s}.find_dead(p_queue, p_id);
    v_now timestamptz := clock_timestamp();
    v_task {s}.task;
BEGIN
    UPDATE {s}.task SET state = 'w', lost = 0, suspect = false, delayed = false, unique_key = NULL,
        batch = NULL, at = v_now + {s}.shift(priority, limit_key), due = v_now, reason = NULL,
        traceback = NULL
    WHERE ctid = v_tid RETURNING * INTO v_task;
    p_found := FOUND;
    IF p_found THEN
        IF v_task.limit_key IS NOT NULL THEN
            PERFORM {s}.end_lease(v_task, true);
        END IF;
        INSERT INTO {s}.tally (queue, dead, waiting) VALUES (p_queue, -1, 1);
        COMMIT;
        PERFORM {s}.wake(p_queue, 1);
    END IF;
END $$;

CREATE FUNCTION {s}.drop_dead(p_queue text, p_id text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_tid tid := {s}.find_dead(p_queue, p_id);
BEGIN
    DELETE FROM {s}.task WHERE ctid = v_tid;
    IF FOUND THEN
        INSERT INTO {s}.tally (queue, dead, dropped) VALUES (p_queue, -1, 1);
        RETURN true;
    END IF;
    RETURN false;
END $$;

-- Pause the queue for p_seconds, which may be infinite, or resume it: 0. Then wake a worker, which has to
-- know the new end; it wakes others if there are more tasks.
CREATE PROCEDURE {s}.pause_queue(p_queue text, p_seconds float8) LANGUAGE plpgsql AS $$
DECLARE
    v_until timestamptz := 'infinity';
BEGIN
    IF p_seconds <= 0 THEN
        v_until := '-infinity';
    ELSIF p_seconds < 'infinity' THEN
        v_until := clock_timestamp() + p_seconds * interval '1 s';
    END IF;
    INSERT INTO {s}.paused (queue, until) VALUES (p_queue, v_until)
    ON CONFLICT (queue) DO UPDATE SET until = excluded.until;
    INSERT INTO {s}.tally (queue) VALUES (p_queue);  -- the queue is known from now on
    COMMIT;
    PERFORM {s}.wake(p_queue, 1);
END $$;

-- Numbers.

CREATE FUNCTION {s}.stats(p_queues text[]) RETURNS TABLE (
    o_queue text, ready bigint, scheduled bigint, leased bigint, dead bigint, pushed bigint,
    succeeded bigint, failed bigint, retried bigint, lost bigint, canceled bigint, dropped bigint,
    died bigint, expired bigint, oldest float8, paused float8,
    at_once int, starts int, seconds float8, is_reached boolean
) LANGUAGE plpgsql STABLE
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
        SELECT s.queue, s.waiting - s.delayed + s.due, s.delayed - s.due, s.leased, s.dead, s.pushed,
            s.succeeded, s.failed, s.retried, s.lost, s.canceled, s.dropped, s.died, s.expired,
            coalesce(greatest(0, extract(epoch FROM v_now - s.oldest)), 0)::float8,
            CASE WHEN s.until = 'infinity' THEN 'infinity' WHEN s.until > v_now
                THEN extract(epoch FROM s.until - v_now) ELSE 0 END::float8,
            q.at_once, q.starts, q.seconds,
            q.queue IS NOT NULL AND {s}.limited_until(s.queue, v_now) IS NOT NULL
        FROM (
            SELECT t.*,
                -- The delayed tasks that are due by now; their number is bounded.
                (SELECT count(*) FROM (
                    SELECT FROM {s}.task k WHERE k.queue = t.queue AND k.delayed AND k.state = 'w'
                        AND k.due <= v_now LIMIT 10000) d) AS due,
                least(
                    {s}.first_due(t.queue, array_fill(timestamptz '1900-01-01 UTC', ARRAY[3]), 1),
                    (SELECT k.due FROM {s}.task k
                    WHERE k.queue = t.queue AND k.state = 'w' AND k.at >= '8000-01-01 UTC'
                        AND k.at < '13500-01-01 UTC' ORDER BY k.at LIMIT 1),
                    (SELECT k.due FROM {s}.task k
                    WHERE k.queue = t.queue AND k.state = 'w' AND k.at >= '13500-01-01 UTC'
                        AND k.at < '16500-01-01 UTC' ORDER BY k.at LIMIT 1),
                    (SELECT k.due FROM {s}.task k
                    WHERE k.queue = t.queue AND k.state = 'w' AND k.at >= '16500-01-01 UTC'
                    ORDER BY k.at LIMIT 1)) AS oldest,
                (SELECT p.until FROM {s}.paused p WHERE p.queue = t.queue) AS until
            FROM (
                SELECT l.queue, sum(l.waiting)::bigint AS waiting, sum(l.delayed)::bigint AS delayed,
                    sum(l.leased)::bigint AS leased, sum(l.dead)::bigint AS dead,
                    sum(l.pushed)::bigint AS pushed, sum(l.succeeded)::bigint AS succeeded,
                    sum(l.failed)::bigint AS failed, sum(l.retried)::bigint AS retried,
                    sum(l.lost)::bigint AS lost, sum(l.canceled)::bigint AS canceled,
                    sum(l.dropped)::bigint AS dropped, sum(l.died)::bigint AS died,
                    sum(l.expired)::bigint AS expired
                FROM {s}.tally l WHERE l.queue = ANY (p_queues) GROUP BY l.queue) t) s
        LEFT JOIN {s}.queue_limit q ON q.queue = s.queue AND q.limit_key = '';
END $$;

CREATE FUNCTION {s}.beat(p_name text, p_seconds float8, p_record text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO {s}.worker (name, seen, gone, record)
    VALUES (p_name, v_now, v_now + p_seconds * interval '1 s', p_record)
    ON CONFLICT (name) DO UPDATE
    SET seen = excluded.seen, gone = excluded.gone, record = excluded.record;
    DELETE FROM {s}.worker WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {s}.worker WHERE gone <= clock_timestamp() FOR UPDATE SKIP LOCKED));
END $$;

CREATE FUNCTION {s}.note(
    p_report text, p_queues text[], p_names text[], p_numbers bigint[], p_samples text[],
    p_gap float8, p_places int
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_new boolean := true;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    IF p_report IS NOT NULL THEN
        INSERT INTO {s}.pushed (id, base, at) VALUES ('report ' || p_report, 0, v_now)
        ON CONFLICT (id) DO NOTHING;
        v_new := FOUND;
    END IF;
    IF v_new THEN
        INSERT INTO {s}.figure AS f (queue, name, number)
        SELECT * FROM unnest(p_queues, p_names, p_numbers) AS n(queue, name, number)
        ORDER BY queue COLLATE "C", name COLLATE "C"
        ON CONFLICT (queue, name) DO UPDATE SET number = f.number + excluded.number;
    END IF;
    INSERT INTO {s}.sample AS old (queue, place, at, ready, scheduled, leased, dead, pushed, succeeded,
        failed, dropped)
    SELECT q, mod(floor(extract(epoch FROM v_now) / p_gap)::bigint, p_places), v_now,
        coalesce(s.ready, 0), coalesce(s.scheduled, 0), coalesce(s.leased, 0), coalesce(s.dead, 0),
        coalesce(s.pushed, 0), coalesce(s.succeeded, 0), coalesce(s.failed, 0), coalesce(s.dropped, 0)
    FROM unnest(p_samples) q LEFT JOIN {s}.stats(p_samples) s ON s.o_queue = q
    ORDER BY q COLLATE "C"
    ON CONFLICT (queue, place) DO UPDATE
    SET at = excluded.at, ready = excluded.ready, scheduled = excluded.scheduled,
        leased = excluded.leased, dead = excluded.dead, pushed = excluded.pushed,
        succeeded = excluded.succeeded, failed = excluded.failed, dropped = excluded.dropped
    WHERE old.at <= excluded.at - p_gap * interval '1 s';
END $$;

-- Schedules.

-- Record schedules, and return the last tick of each: p_now for one that is new.
CREATE FUNCTION {s}.announce(p_now int8, p_names text[], p_abouts text[], p_seconds float8[])
RETURNS TABLE (last int8) LANGUAGE plpgsql AS $$
BEGIN
    -- A writer of one of them waits, and no two wait in a circle.
    PERFORM FROM {s}.schedule WHERE gone <= clock_timestamp() ORDER BY name FOR UPDATE;
    DELETE FROM {s}.schedule WHERE gone <= clock_timestamp();
    INSERT INTO {s}.schedule AS old (name, about, last, seen, gone)
    SELECT a.name, a.about, p_now, clock_timestamp(), clock_timestamp() + a.seconds * interval '1 s'
    FROM unnest(p_names, p_abouts, p_seconds) AS a(name, about, seconds)
    ORDER BY a.name COLLATE "C"
    ON CONFLICT (name) DO UPDATE
    SET about = excluded.about, seen = excluded.seen, gone = excluded.gone;
    RETURN QUERY
    SELECT s.last FROM unnest(p_names) WITH ORDINALITY AS a(name, n)
    JOIN {s}.schedule s ON s.name = a.name ORDER BY a.n;
END $$;

-- Queue the tick of a schedule, unless it or a later one was queued before; then wake a worker.
CREATE PROCEDURE {s}.push_tick(
    p_name text, p_moment int8, p_seconds float8,
    p_queue text, p_id text, p_delay float8, p_data bytea, p_priority int, p_keys text, p_limit_keys text[],
    INOUT p_queued boolean
) LANGUAGE plpgsql AS $$
BEGIN
    p_queued := false;
    -- Most workers are late: they look, and lock nothing.
    IF EXISTS (SELECT FROM {s}.schedule
               WHERE name = p_name AND last >= p_moment AND gone > clock_timestamp()) THEN
        RETURN;
    END IF;
    DELETE FROM {s}.schedule WHERE name = p_name AND gone <= clock_timestamp();
    INSERT INTO {s}.schedule AS old (name, about, last, ran, seen, gone)
    VALUES (p_name, '', p_moment, p_moment, clock_timestamp(),
        clock_timestamp() + p_seconds * interval '1 s')
    ON CONFLICT (name) DO UPDATE SET last = p_moment, ran = p_moment WHERE old.last < p_moment;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM {s}.push(
        ARRAY[gen_random_uuid()::text], ARRAY[false], ARRAY[1], ARRAY[1],
        ARRAY[p_queue], ARRAY[p_id], ARRAY[p_delay], ARRAY[p_data], ARRAY[p_priority], p_keys,
        p_limit_keys);
    COMMIT;
    p_queued := true;
    PERFORM {s}.wake(p_queue, 1);
END $$;

CREATE FUNCTION {s}.forget_schedule(p_name text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM {s}.schedule WHERE name = p_name AND gone > clock_timestamp();
    RETURN FOUND;
END $$;
