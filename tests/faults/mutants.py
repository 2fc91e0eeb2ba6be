"""Introduce mistakes into the scripts and statements of the stores: the tests must detect them.

A test that never fails proves nothing. Each mutant here is a small mistake in what a store does,
made in memory; the model of `tests.backends.test_model`, or a test of the contract, has to fail.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha1
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from uuid import uuid4

import pytest
from rich.console import Console

from alligator.backends import open_client, redis_backend, sqlite_backend
from alligator.backends.base import Client
from alligator.backends.redis_backend import commits as redis_commits
from alligator.backends.sqlite_backend import batches, keys, limits, replaced, schema, writes
from tests.backends.contract import (
    test_follow_ups,
    test_ids,
    test_leases,
    test_limits,
    test_pausing,
    test_priorities,
    test_suspects,
    test_undoing,
    test_unique,
)
from tests.backends.test_model import compare
from tests.faults.judges import (
    at_once,
    begun_then_undone,
    brought_back,
    canceled,
    chosen,
    chosen_and_cut_twice,
    cut_in_both_attempts,
    expired,
    held,
    newer,
    paused,
    released_then_undone,
    returned,
    started,
    starts,
    undone,
)
from tests.harness.store_servers import valkey_server

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


MODULES: dict[str, ModuleType] = {
    "redis_backend/commits.py": redis_commits,
    "sqlite_backend/writes.py": writes,
    "sqlite_backend/keys.py": keys,
    "sqlite_backend/limits.py": limits,
    "sqlite_backend/batches.py": batches,
    "sqlite_backend/replaced.py": replaced,
    "sqlite_backend/schema.py": schema,
}
"""The files that are Python."""


MUTANTS = [
    Mutant("a late ack is not heard", "step.lua", "if done < count then", "if false then"),
    Mutant(
        "an ack is for whichever task has the id",
        "step.lua",
        "ids[i] = find(queue, ids[i], fence) or ALIAS",
        "",
    ),
    Mutant(
        "no fence for outcomes",
        "step.lua",
        "if known == fence and call('ZREM', queue .. ':run', key) == 1 then",
        "if key and call('ZREM', queue .. ':run', key) == 1 then",
    ),
    Mutant(
        "the fence stays the same from lease to lease",
        "step.lua",
        "fence = fence_of(fence, stamp, lost_of(fence), suspect + mark)",
        "",
    ),
    Mutant(
        "one lease too many", "step.lua", "and lost >= max_lost then", "and lost > max_lost then"
    ),
    Mutant(
        "each task of a batch counts as lost",
        "step.lua",
        "local lost = lost_of(fence) + alone",
        "local lost = lost_of(fence) + 1",
    ),
    Mutant(
        "what was lost is no suspect",
        "step.lua",
        "fence_of(fence, stamp, lost, 2)",
        "fence_of(fence, stamp, lost, 0)",
    ),
    Mutant(
        "a suspect goes with others",
        "step.lua",
        "return (i == 1 and left == limit) and 1 or i - 1",
        "return #fences",
        lambda client: test_suspects.test_suspect_is_leased_alone_across_queues(client),
    ),
    Mutant(
        "a released task forgets when it was due",
        "step.lua",
        "if #fence >= 52 then",
        "if false then",
        lambda client: test_leases.test_released_scheduled_task_is_due_as_before(client),
    ),
    Mutant(
        "a paused queue is reserved from",
        "step.lua",
        "not has_stopped and not paused[place] and",
        "not has_stopped and",
        paused,
    ),
    Mutant(
        "a paused queue is never reserved from again",
        "step.lua",
        "(till > now and till)",
        "(till > 0 and till)",
        lambda client: test_pausing.test_pause_ends_by_itself(client),
    ),
    Mutant(
        "a limit counts no leases",
        "step.lua",
        "call('ZCARD', queue .. ':run') >= limit.at_once then",
        "false then",
        at_once,
    ),
    Mutant(
        "a limit counts no starts",
        "step.lua",
        "return found[2] and found[2] + limit.span > now and",
        "return false and",
        starts,
    ),
    Mutant(
        "a start is not recorded",
        "step.lua",
        "call('ZADD', queue .. ':begun', stamp, stamp)",
        "",
    ),
    Mutant(
        "a step reserves more than one task of a limited queue",
        "step.lua",
        "reserve(place, queue, 1)",
        "reserve(place, queue, left)",
    ),
    Mutant("a removed limit stays", "limit.lua", "call('DEL', queue .. ':lim')", ""),
    Mutant(
        "a removed limit remembers its starts",
        "limit.lua",
        "call('DEL', queue .. ':begun')",
        "",
        lambda client: test_limits.test_removed_limit_forgets_its_starts(client),
    ),
    Mutant(
        "a failed task loses its priority",
        "step.lua",
        "now + delay - priority_in(ARGV[at + 1])",
        "now + delay",
        lambda client: test_priorities.test_failed_task_keeps_its_priority(client),
    ),
    Mutant("a lost task loses its priority", "step.lua", "ended - shift, key", "ended, key"),
    Mutant(
        "the fence of a task does not keep its priority",
        "step.lua",
        "if shifts and shifts[k] ~= NORMAL then",
        "if false then",
    ),
    Mutant(
        "low goes before normal",
        "step.lua",
        "ipairs({ HIGH, NORMAL, LOW })",
        "ipairs({ HIGH, LOW, NORMAL })",
    ),
    Mutant(
        "a task that is not due runs because its priority is high",
        "step.lua",
        "whole(now - shift),\n      'WITHSCORES'",
        "whole(now),\n      'WITHSCORES'",
    ),
    Mutant("an expired task is not counted", "step.lua", "add(queue, 'expired', 1)", "", expired),
    Mutant("a release has no delay", "step.lua", "if delay > 0 then", "if false then"),
    Mutant(
        "the payload of the dead is thrown away",
        "step.lua",
        "call('HSET', queue .. ':why', key, why)",
        "call('HSET', queue .. ':why', key, why); call('HDEL', queue .. ':job', key)",
    ),
    Mutant(
        "what is lost is not counted",
        "step.lua",
        "add(queue, 'lost', #expired / 2)",
        "",
    ),
    Mutant("no dedupe", "push.lua", "(is_taken and find_waiting(queue, id))", "false"),
    Mutant("high is low", "push.lua", "sign == '+' and HIGH", "sign == '+' and LOW"),
    Mutant("no dedupe in a commit", "push.lua", "is_known = ours[id] or (", "is_known = ("),
    Mutant("a newer task overwrites a leased one", "push.lua", "if there[i] then", "if false then"),
    Mutant(
        "one that waits under an alias does not count",
        "push.lua",
        "there[i] or (others and others[i])",
        "there[i]",
        returned,
    ),
    Mutant(
        "a repeated commit has no duplicates",
        "push.lua",
        "== '{' and duplicates(cjson.decode(found)) or 1",
        "== '{' and 1 or 1",
    ),
    Mutant("the marker is not looked at", "push.lua", "span, 'NX', 'EX'", "span, 'EX'"),
    Mutant("the other way round", "push.lua", "local due = now + i", "local due = now - i"),
    Mutant("a lease is extended by nothing", "extend.lua", "clock() + ARGV[1]", "clock() - 1"),
    Mutant(
        "no fence for extending",
        "extend.lua",
        "if known == fence and",
        "if key and",
        lambda client: test_leases.test_extend_returns_the_lost_leases(client),
    ),
    Mutant(
        "the first dead is meant",
        "drop_dead.lua",
        "if died > latest then",
        "if died >= 0 and (latest < 0 or died < latest) then",
        lambda client: test_ids.test_latest_dead_task_of_an_id_is_retried_and_dropped(client),
    ),
    Mutant(
        "a dead task that is retried keeps its losses",
        "retry_dead.lua",
        "fence_of(fence, whole(now), 0, 0)",
        "fence_of(fence, whole(now), lost_of(fence), 0)",
        lambda client: test_suspects.test_dead_task_that_is_retried_is_no_suspect(client),
    ),
    Mutant(
        "a late push is not refused",
        "abort.lua",
        "call('SET', marker, 'aborted', 'EX', ARGV[1])",
        "",
        lambda client: test_undoing.test_push_after_its_abort_is_refused(client),
    ),
    Mutant(
        "undoing takes what a worker has had",
        "abort.lua",
        "return due and call('HEXISTS', queue .. ':try', id) == 0 and is_of_push",
        "return due and is_of_push",
        released_then_undone,
    ),
    Mutant(
        "undoing takes a newer task",
        "abort.lua",
        "return due > tonumber(came) and due <= came + count",
        "return true",
        newer,
    ),
    Mutant(
        "a part of a push is taken back that was begun",
        "abort.lua",
        "if taken > 0 and",
        "if taken > 1 and",
        begun_then_undone,
    ),
    Mutant(
        "a lost reply is taken for success",
        "redis_backend/commits.py",
        "return not isinstance(self.reply, REFUSED)",
        "self.reply, self.is_in_doubt = QUEUED, False",
        cut_in_both_attempts,
    ),
    Mutant(
        "only the first push of a trip is undone",
        "redis_backend/commits.py",
        "for push in pushes:\n                if push.is_in_doubt and",
        "for push in pushes[:1]:\n                if push.is_in_doubt and",
        cut_in_both_attempts,
    ),
    Mutant(
        "an abort refuses a chosen id",
        "push.lua",
        "elseif ARGV[3] == '1' then",
        "else",
        chosen,
    ),
    Mutant(
        "an abort refuses no push",
        "push.lua",
        "elseif ARGV[3] == '1' then",
        "elseif false then",
        lambda client: test_undoing.test_push_after_its_abort_is_refused(client),
    ),
    Mutant(
        "a push under a chosen id leaves the mark of its abort",
        "push.lua",
        "call('SET', marker, span, 'EX', ARGV[1])\nend",
        "end",
        chosen,
    ),
    Mutant(
        "a push under a chosen id is undone",
        "redis_backend/commits.py",
        'and (self.commit.undo or self.extent == "half")',
        "",
        chosen_and_cut_twice,
    ),
    Mutant(
        "an abort refuses a chosen id",
        "sqlite_backend/writes.py",
        "            if undo:\n",
        "            if True:\n",
        chosen,
    ),
    Mutant(
        "an abort refuses no push",
        "sqlite_backend/writes.py",
        "            if undo:\n",
        "            if False:\n",
        lambda client: test_undoing.test_push_after_its_abort_is_refused(client),
    ),
    Mutant(
        "a late ack is not heard",
        "sqlite_backend/writes.py",
        "if deleted == len(runs):",
        "if True:",
    ),
    Mutant(
        "a paused queue is reserved from",
        "sqlite_backend/writes.py",
        "            if until > self.now:\n                continue\n",
        "            if is_limited and until > self.now:\n                continue\n",
        paused,
    ),
    Mutant(
        "a limit counts no leases",
        "sqlite_backend/limits.py",
        "state = 'leased' LIMIT",
        "state = '' LIMIT",
        at_once,
    ),
    Mutant(
        "a limit counts no starts",
        "sqlite_backend/limits.py",
        "WHERE queue = ? AND number = ?",
        "WHERE queue = ? AND number < 0 * ?",
        starts,
    ),
    Mutant(
        "a start is not recorded",
        "sqlite_backend/limits.py",
        "INSERT INTO begun (queue, number, at) VALUES (?, ?, ?)",
        "INSERT INTO begun (queue, number, at) SELECT ?, ?, ? WHERE 0",
    ),
    Mutant(
        "a step reserves more than one task of a limited queue",
        "sqlite_backend/writes.py",
        "min(limit - len(leases), 1 if is_limited else limit)",
        "limit - len(leases)",
    ),
    Mutant(
        "a removed limit stays",
        "sqlite_backend/limits.py",
        "DELETE FROM queue_limit WHERE queue = ?",
        "DELETE FROM queue_limit WHERE queue = ? AND 0",
    ),
    Mutant(
        "a removed limit remembers its starts",
        "sqlite_backend/limits.py",
        '"DELETE FROM begun WHERE queue = ?"',
        '"DELETE FROM begun WHERE queue = ? AND 0"',
        lambda client: test_limits.test_removed_limit_forgets_its_starts(client),
    ),
    Mutant(
        "the priority is not stored",
        "sqlite_backend/writes.py",
        "data, level))",
        "data, 0))",
    ),
    Mutant(
        "a task loses its priority when it returns",
        "sqlite_backend/schema.py",
        "CASE :state WHEN 'ready' THEN priority",
        "CASE :state WHEN 'ready' THEN 0 * priority",
    ),
    Mutant(
        "a delayed task loses its priority",
        "sqlite_backend/schema.py",
        "'ready', at = at - priority",
        "'ready', at = at - 0 * priority",
        lambda client: test_priorities.test_delayed_tasks_have_their_priority_when_they_are_ready(
            client
        ),
    ),
    Mutant(
        "an expired task has failed",
        "sqlite_backend/writes.py",
        'why = "expired" if verdict == "expired" else "failed"',
        'why = "failed"',
        expired,
    ),
    Mutant(
        "no fence for outcomes",
        "sqlite_backend/writes.py",
        "if (state, token) != (LEASED, number):",
        "if state != LEASED:",
    ),
    Mutant(
        "one lease too many",
        "sqlite_backend/writes.py",
        "and lost >= max_lost:",
        "and lost > max_lost:",
    ),
    Mutant(
        "each task of a batch counts as lost",
        "sqlite_backend/writes.py",
        "lost = before + alone",
        "lost = before + 1",
    ),
    Mutant(
        "what was lost is no suspect",
        "sqlite_backend/writes.py",
        "self.now, lost, suspect=True)",
        "self.now, lost)",
        lambda client: test_suspects.test_lost_lease_counts_only_if_it_was_alone(client),
    ),
    Mutant(
        "a suspect goes after others",
        "sqlite_backend/writes.py",
        "if is_suspect and (leases or not is_first):",
        "if False:",
        lambda client: test_suspects.test_suspect_is_leased_alone_across_queues(client),
    ),
    Mutant(
        "others go after a suspect",
        "sqlite_backend/writes.py",
        "            if is_suspect:\n",
        "            if False:\n",
        lambda client: test_suspects.test_suspect_that_was_not_started_remains_a_suspect(client),
    ),
    Mutant(
        "the marker is not looked at",
        "sqlite_backend/writes.py",
        "(row := self._find_commit(commit_id, commit.undo))",
        "(row := None)",
    ),
    Mutant(
        "what is undone is not remembered",
        "sqlite_backend/writes.py",
        "self._remember(commit_id, 0, 0)",
        "pass",
        lambda client: test_undoing.test_push_after_its_abort_is_refused(client),
    ),
    Mutant(
        "a leased task blocks a newer one",
        "sqlite_backend/writes.py",
        "if found is not None and found[1] in (READY, SCHEDULED):",
        "if found is not None:",
    ),
    Mutant(
        "one that waits under an alias does not count",
        "sqlite_backend/writes.py",
        "if self._has_aliases:",
        "if False:",
        returned,
    ),
    Mutant(
        "undoing takes what a worker has had",
        "sqlite_backend/schema.py",
        " AND token = 0",
        "",
        released_then_undone,
    ),
    Mutant(
        "the older of two that wait is meant",
        "sqlite_backend/schema.py",
        "ORDER BY seq DESC LIMIT 1",
        "ORDER BY seq LIMIT 1",
        returned,
    ),
    Mutant(
        "no dedupe",
        "sqlite_backend/schema.py",
        "ON CONFLICT (queue, id) DO NOTHING",
        "ON CONFLICT (queue, id) DO UPDATE SET data = excluded.data",
    ),
    Mutant(
        "no fence for extending",
        "sqlite_backend/schema.py",
        "WHERE seq = ? AND state = 'leased' AND token = ?\"",
        "WHERE seq = ? AND state = 'leased' AND ? > 0\"",
        lambda client: test_leases.test_extend_returns_the_lost_leases(client),
    ),
    Mutant(
        "the other way round",
        "sqlite_backend/schema.py",
        "lost > 0 FROM task\n    WHERE queue = ? AND state = 'ready' ORDER BY at, seq LIMIT ?",
        "lost > 0 FROM task\n    WHERE queue = ? AND state = 'ready' ORDER BY at, seq DESC LIMIT ?",
    ),
    Mutant("a key is not looked at", "push.lua", "call('HGET', queue .. ':uniq', unique)", "nil"),
    Mutant(
        "a key is not held for its time",
        "push.lua",
        "call('SET', queue .. ':cool' .. ALIAS .. unique, ticket .. ' ' .. id, 'PX', ms)",
        "",
        held,
    ),
    Mutant(
        "a key does not follow its task to an alias",
        "push.lua",
        "call('HSET', queue .. kept, alias, found)",
        "",
        lambda client: test_unique.test_running_task_keeps_its_key_beside_a_newer_one_of_its_id(
            client
        ),
    ),
    Mutant(
        "the place of a key that is held is wrong",
        "push.lua",
        "holders[whole(before + i - 1)] = holder",
        "holders[whole(before + i)] = holder",
    ),
    Mutant(
        "a start frees no key", "step.lua", "update_keys(KEYS[place], keys, 'start')", "", started
    ),
    Mutant("an ack frees no key", "step.lua", "update_keys(queue, ids, 'done')", ""),
    Mutant(
        "a dead task has its key",
        "step.lua",
        "update_keys(queue, { key }, 'gone')\n  settle",
        "settle",
    ),
    Mutant(
        "a canceled task has its key",
        "cancel.lua",
        "update_keys(queue, { key }, 'gone')\nforget",
        "forget",
        canceled,
    ),
    Mutant(
        "an undone task has its key",
        "abort.lua",
        "update_keys(queue, { id }, 'gone')\n    call",
        "call",
        undone,
    ),
    Mutant(
        "a canceled task frees the key of a newer one",
        "cancel.lua",
        "string.match(call('GET', cool) or '', '^%S+') == ticket",
        "true",
        lambda client: test_unique.test_key_that_is_taken_again_outlives_its_earlier_task(client),
    ),
    Mutant(
        "a key is not held for its time",
        "sqlite_backend/writes.py",
        "keys.keep(self.execute, self._executemany, runs, self.now)",
        "pass",
        held,
    ),
    Mutant(
        "a dead task that runs again has its key",
        "sqlite_backend/schema.py",
        "data = ifnull(?, data), unique_key = NULL",
        "data = ifnull(?, data)",
        lambda client: test_unique.test_dead_task_that_runs_again_has_no_key(
            client, test_unique.DONE
        ),
    ),
    Mutant(
        "a start frees no key",
        "sqlite_backend/keys.py",
        "(token = 0 OR NOT until_start OR",
        "(true OR",
        started,
    ),
    Mutant("an ack settles nothing", "step.lua", "settle(queue, ids, 0, now)", ""),
    Mutant(
        "a dead task settles nothing",
        "step.lua",
        "settle(queue, { key }, 1, now)\n  call('ZADD'",
        "call('ZADD'",
    ),
    Mutant(
        "a task that dies counts as one that succeeds",
        "step.lua",
        "settle(queue, { key }, 1, now)\n  call('ZADD'",
        "settle(queue, { key }, 0, now)\n  call('ZADD'",
    ),
    Mutant(
        "a task counts twice",
        "step.lua",
        "call('HDEL', queue .. ':then', key)",
        "",
        test_follow_ups.test_dead_task_that_runs_again_counts_once,
    ),
    Mutant(
        "a canceled task settles nothing", "cancel.lua", "settle(queue, { key }, 1, clock())", ""
    ),
    Mutant("a dropped task settles nothing", "drop_some.lua", "settle(queue, ids, 1, clock())", ""),
    Mutant(
        "an aborted batch queues its follow-up",
        "abort.lua",
        "call('DEL', batch, batch .. ':queued', marker .. ':batch')",
        "call('DEL', marker .. ':batch')",
        lambda client: test_follow_ups.test_aborted_push_leaves_no_follow_up(client, 2),
    ),
    Mutant(
        "an abort keeps a follow-up that was queued", "abort.lua", "batch .. ':queued')", "batch)"
    ),
    Mutant(
        "duplicates are waited for", "follow.lua", "if not is_known[place] then", "if true then"
    ),
    Mutant(
        "a repeated push counts its tasks again",
        "follow.lua",
        "if is_queued and (not before or before == 'aborted') then",
        "if is_queued then",
    ),
    Mutant(
        "a batch does not follow its task to an alias",
        "follow.lua",
        "{ ':own', ':then' }",
        "{ ':own' }",
        test_follow_ups.test_task_of_an_older_batch_is_not_counted_by_a_newer_one,
    ),
    Mutant(
        "an ack settles nothing",
        "sqlite_backend/writes.py",
        "self._settle(*run, is_dead=False)",
        "pass",
    ),
    Mutant(
        "a lost task settles nothing",
        "sqlite_backend/writes.py",
        "self._settle(seq, is_dead=True)\n                self.execute",
        "self.execute",
    ),
    Mutant(
        "dropped tasks settle nothing",
        "sqlite_backend/writes.py",
        "for (batch,) in settled",
        "for (batch,) in ()",
    ),
    Mutant(
        "a task counts twice",
        "sqlite_backend/batches.py",
        "SET batch = NULL WHERE seq = ?",
        "SET batch = batch WHERE seq = ?",
        test_follow_ups.test_dead_task_that_runs_again_counts_once,
    ),
    Mutant(
        "a task of another commit is counted",
        "sqlite_backend/batches.py",
        "SET batch = ? WHERE seq > ?",
        "SET batch = ? WHERE seq >= ?",
    ),
    Mutant(
        "a task is not counted as dead",
        "sqlite_backend/batches.py",
        "dead = dead + ?",
        "dead = dead * ?",
    ),
    Mutant(
        "an abort takes a follow-up from its worker",
        "sqlite_backend/batches.py",
        "state IN ('ready', 'scheduled') AND token = 0\n",
        "state IN ('ready', 'scheduled')\n",
        lambda client: test_follow_ups.test_abort_keeps_a_follow_up_that_a_worker_had(client, True),
    ),
    Mutant("a task replaces none", "push.lua", "holder and how == 'r'", "false"),
    Mutant("a replaced task is lost", "abort.lua", "restore(queue, id, due)", "", brought_back),
    Mutant(
        "an aborted task comes back",
        "abort.lua",
        "if call('GET', aside) ~= 'aborted' then",
        "if true then",
        test_unique.test_aborts_of_tasks_that_replaced_each_other_bring_back_the_first,
    ),
    Mutant(
        "a task that is back has no key",
        "abort.lua",
        "call('HSET', queue .. ':uniq', unique, id)",
        "",
        brought_back,
    ),
    Mutant(
        "a replaced task is lost",
        "sqlite_backend/writes.py",
        "replaced.restore(self.execute, self.count, seq, self.now)",
        "pass",
        brought_back,
    ),
    Mutant(
        "an aborted task comes back",
        "sqlite_backend/writes.py",
        "replaced.abort(self.execute, self.count, after, last)",
        "pass",
    ),
    Mutant(
        "a task that was leased is replaced",
        "sqlite_backend/replaced.py",
        "IN ('ready', 'scheduled') AND token = 0",
        "IN ('ready', 'scheduled')",
        lambda client: test_unique.test_task_that_replaces_runs_beside_one_that_began(client, True),
    ),
]


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """Apply the mistake during the block."""
    with pytest.MonkeyPatch.context() as patch:
        if mutant.file.endswith(".lua"):
            name = mutant.file.removesuffix(".lua").upper()
            module = redis_commits if hasattr(redis_commits, name) else redis_backend
            script = getattr(module, name)
            patch.setattr(script, "source", changed(mutant, script.source))
            patch.setattr(script, "sha", sha1(script.source.encode()).hexdigest())
        else:
            module = MODULES[mutant.file]
            assert module.__file__ is not None
            mistaken: dict[str, object] = {
                "__name__": module.__name__,
                "__package__": module.__package__,
            }
            exec(changed(mutant, Path(module.__file__).read_text("utf-8")), mistaken)
            for name in mistaken.keys() & vars(module).keys():
                if name.isupper():
                    patch.setattr(module, name, mistaken[name])
            for backend, name in ((sqlite_backend, "WriteTransaction"), (redis_backend, "Pusher")):
                if name in mistaken and hasattr(module, name):
                    patch.setattr(backend, name, mistaken[name])
        yield


def changed(mutant: Mutant, source: str) -> str:
    """Return *source* with the mistake."""
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


def try_all(console: Console) -> int:
    """Try all mutants, and return how many survive."""
    survivors = 0
    with valkey_server() as server, tempfile.TemporaryDirectory() as folder:
        for number, mutant in enumerate(MUTANTS):
            redis, sqlite = f"{server}?ns={uuid4().hex}", f"sqlite://{folder}/{number}.db"
            dsn = sqlite if mutant.is_of_sqlite else redis
            alive = survives(mutant, dsn)
            survivors += alive
            verdict = "[red]survives[/]" if alive else "[green]is noticed[/]"
            console.print(f"{mutant.file}: {mutant.name} … {verdict}")
    return survivors
