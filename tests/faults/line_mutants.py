"""Mistakes in how the stores keep limit keys: lines of tasks, their turns, and limits of keys."""

from alligator.backends.base import Client
from tests.backends.contract import test_limit_keys
from tests.backends.contract.test_limits import step_often
from tests.faults.mutant import Mutant

ENDED = test_limit_keys.test_every_outcome_frees_a_place_of_its_key


def removed(client: Client) -> None:
    """Check that the line of a key goes on when its limit is removed."""
    test_limit_keys.enqueue(client, "a0", "a1")
    client.limit("mail", test_limit_keys.ONE, "a")
    assert step_often(client) == ["a0"]

    client.limit("mail", None, "a")

    assert step_often(client) == ["a1"]


LINE_MUTANTS = [
    Mutant(
        "low lines go before normal ones",
        "step.lua",
        "ipairs({ HIGH, NORMAL, LOW }) do\n    local from",
        "ipairs({ HIGH, LOW, NORMAL }) do\n    local from",
        test_limit_keys.test_highest_priority_goes_first_whatever_the_keys,
    ),
    Mutant(
        "a line stays where it is after its turn",
        "step.lua",
        "math.max(due, till or now + turn)",
        "math.max(due, till or 0)",
        test_limit_keys.test_keys_of_a_queue_take_turns,
    ),
    Mutant(
        "the next step starts with the same lines again",
        "step.lua",
        "math.max(due, till or now + turn)",
        "math.max(due, till or now - 60000000 + turn)",
        test_limit_keys.test_new_key_waits_for_one_turn_of_each_other,
    ),
    Mutant(
        "tasks without a key have no turns",
        "step.lua",
        "(not at or had <= at)",
        "not at",
        test_limit_keys.test_tasks_without_a_key_are_not_held_up,
    ),
    Mutant(
        "tasks without a key have all turns",
        "step.lua",
        "(not at or had <= at)",
        "true",
        test_limit_keys.test_tasks_without_a_key_have_turns_like_one_key,
    ),
    Mutant(
        "the limit of a key is ignored",
        "step.lua",
        "key and due <= now and key_limit_of(queue, limit_key)",
        "false",
        test_limit_keys.test_no_more_tasks_of_a_key_run_at_once_than_its_limit,
    ),
    Mutant(
        "the limit of each key is ignored",
        "step.lua",
        "found[1] or found[2] or ''",
        "found[1] or ''",
        test_limit_keys.test_limit_of_each_key_is_for_those_without_one_of_their_own,
    ),
    Mutant(
        "a start of a key is not recorded",
        "step.lua",
        "record_start(queue .. ':begun' .. ALIAS .. limit_key, key_limit.starts)",
        "",
        test_limit_keys.test_no_more_tasks_of_a_key_begin_than_its_limit,
    ),
    Mutant(
        "starts of a key are forgotten too early",
        "step.lua",
        "whole(now + key_limit.span)",
        "stamp",
        test_limit_keys.test_no_more_tasks_of_a_key_begin_than_its_limit,
    ),
    Mutant(
        "a step reserves more than one task of a key with a limit",
        "step.lua",
        "closed[limit_key] = key_limit and true",
        "",
        test_limit_keys.test_step_reserves_one_task_of_a_key_with_a_limit,
    ),
    Mutant(
        "a lease that ends gives its line no turn",
        "step.lua",
        "reopen(queue, limit_key, now)\n  end\nend",
        "end\nend",
        lambda client: ENDED(client, "ack"),
    ),
    Mutant(
        "a lease that ends without an outcome frees no place",
        "step.lua",
        "end_lease(queue, key, now)\n    local fence",
        "local fence",
        test_limit_keys.test_place_of_a_key_is_free_when_the_lease_of_a_lost_worker_ends,
    ),
    Mutant(
        "a lease by id takes no place",
        "lease.lua",
        "count_lease(queue, limit_key_of(queue, key))",
        "",
        test_limit_keys.test_task_leased_by_its_id_takes_a_place_of_its_key,
    ),
    Mutant(
        "a failed task leaves its line",
        "step.lua",
        "add_waiting(queue, key, whole(now + delay - priority_in(ARGV[at + 1])), now)",
        "call('ZADD', queue .. ':due', whole(now + delay - priority_in(ARGV[at + 1])), key)",
        lambda client: test_limit_keys.test_task_returns_to_its_line(client, "retry"),
    ),
    Mutant(
        "a lost task leaves its line",
        "step.lua",
        "add_waiting(queue, key, whole(ended - shift), now)",
        "call('ZADD', queue .. ':due', whole(ended - shift), key)",
    ),
    Mutant(
        "a dead task leaves its line",
        "retry_dead.lua",
        "add_waiting(queue, key, whole(now - shift), now)",
        "call('ZADD', queue .. ':due', whole(now - shift), key)",
        test_limit_keys.test_dead_task_keeps_its_key,
    ),
    Mutant(
        "a follow-up has no key",
        "step.lua",
        "set_limit_key(queue, id, limit_key)\n",
        "",
        test_limit_keys.test_follow_up_keeps_its_key,
    ),
    Mutant(
        "tasks with keys are not counted",
        "stats.lua",
        "if others > 0 then",
        "if false then",
        test_limit_keys.test_tasks_with_keys_are_counted_listed_and_found,
    ),
    Mutant(
        "a canceled task stays in its line",
        "cancel.lua",
        "call('ZREM', queue .. ':line' .. ALIAS .. limit_key, key)\n",
        "",
        test_limit_keys.test_tasks_of_a_line_are_canceled_and_leased_by_their_id,
    ),
    Mutant(
        "a lease that ends does not open the line that its limit has shut",
        "step.lua",
        "call('HSET', queue .. ':shut', limit_key, 1)",
        "",
        lambda client: ENDED(client, "retry"),
    ),
    Mutant(
        "an aborted task stays in its line",
        "abort.lua",
        "remove_waiting(queue, id, now)",
        "call('ZREM', queue .. ':due', id)",
        test_limit_keys.test_aborted_tasks_leave_their_lines,
    ),
    Mutant(
        "a dropped task stays in its line",
        "drop_some.lua",
        "if #ids < most and has_lines(queue) then",
        "if false then",
        test_limit_keys.test_dropped_tasks_leave_their_lines,
    ),
    Mutant(
        "a changed limit of each key gives no line a turn",
        "reopen.lua",
        "reopen(queue, string.sub(member, 2), now)",
        "",
        test_limit_keys.test_limit_of_each_key_is_for_those_without_one_of_their_own,
    ),
    Mutant(
        "a changed limit of a key gives its line no turn",
        "limit_key.lua",
        "if limit_key ~= '*' then",
        "if false then",
        removed,
    ),
    Mutant(
        "a line stays where it is after its turn",
        "sqlite_backend/lines.py",
        "self._last[rank], self._has_turned = line.key, True",
        "self._has_turned = True",
        test_limit_keys.test_turns_go_on_from_step_to_step,
    ),
    Mutant(
        "tasks without a key have no turns",
        "sqlite_backend/lines.py",
        "if place < most:",
        "if False:",
        test_limit_keys.test_tasks_without_a_key_are_not_held_up,
    ),
    Mutant(
        "tasks without a key have all turns",
        "sqlite_backend/lines.py",
        "sum(line.key > last for line in lines)",
        "0",
    ),
    Mutant(
        "tasks without a key go before those of a higher priority",
        "sqlite_backend/lines.py",
        "self._plain[0][-1] < self._rank",
        "self._plain",
        test_limit_keys.test_highest_priority_goes_first_whatever_the_keys,
    ),
    Mutant(
        "the limit of a key is ignored",
        "sqlite_backend/lines.py",
        "not limits.lets(line.key, rank, line.used)",
        "False",
        test_limit_keys.test_no_more_tasks_of_a_key_run_at_once_than_its_limit,
    ),
    Mutant(
        "a step takes two tasks of a key with a limit",
        "sqlite_backend/key_limits.py",
        "self.begun.add(key)",
        "pass",
        test_limit_keys.test_step_reserves_one_task_of_a_key_with_a_limit,
    ),
    Mutant(
        "a task with a key was never alone",
        "sqlite_backend/lines.py",
        "(*self._lease, is_alone, self._limits is not None)",
        "(*self._lease, False, self._limits is not None)",
    ),
    Mutant(
        "the limit of each key is ignored",
        "sqlite_backend/lines.py",
        "tuple(each) if key else None",
        "None",
        test_limit_keys.test_limit_of_each_key_is_for_those_without_one_of_their_own,
    ),
    Mutant(
        "the limit of each key goes before that of the key",
        "sqlite_backend/key_limits.py",
        "self._each if own is None else",
        "self._each or",
        test_limit_keys.test_limit_of_each_key_is_for_those_without_one_of_their_own,
    ),
    Mutant(
        "a removed limit of each key holds lines back",
        "sqlite_backend/key_limits.py",
        "? IN (key, '*')",
        "? IN (key, '')",
        test_limit_keys.test_limit_of_each_key_is_for_those_without_one_of_their_own,
    ),
    Mutant(
        "a start of a key is not recorded",
        "sqlite_backend/key_limits.py",
        "self._executemany(BEGIN, self._starts)",
        "pass",
        test_limit_keys.test_no_more_tasks_of_a_key_begin_than_its_limit,
    ),
    Mutant(
        "an ack opens no line",
        "sqlite_backend/tables.py",
        "WHEN OLD.state = 'leased' AND OLD.limit_key",
        "WHEN OLD.state = 'none' AND OLD.limit_key",
        lambda client: ENDED(client, "ack"),
    ),
    Mutant(
        "a lost lease opens no line",
        "sqlite_backend/tables.py",
        "        {_OPEN_LINES}\n",
        "",
        test_limit_keys.test_place_of_a_key_is_free_when_the_lease_of_a_lost_worker_ends,
    ),
    Mutant(
        "a released task joins no line",
        "sqlite_backend/tables.py",
        "CREATE TRIGGER task_changes AFTER UPDATE OF state ON task",
        "CREATE TRIGGER task_changes AFTER UPDATE OF replaced_by ON task",
        lambda client: test_limit_keys.test_task_returns_to_its_line(client, "release"),
    ),
    Mutant(
        "a lease from before the limit of its key takes no place",
        "sqlite_backend/key_limits.py",
        "SET is_limited = 1",
        "SET is_limited = 0",
        test_limit_keys.test_limit_of_a_key_counts_the_leases_before_it,
    ),
    Mutant(
        "a lease by id takes no place",
        "sqlite_backend/schema.py",
        "is_limited = EXISTS (SELECT 1 FROM key_limit WHERE queue = task.queue)",
        "is_limited = 0",
        test_limit_keys.test_task_leased_by_its_id_takes_a_place_of_its_key,
    ),
    Mutant(
        "a follow-up loses its key",
        "sqlite_backend/batches.py",
        "with_numbers(data, *row), level, key)",
        "with_numbers(data, *row), level, None)",
        test_limit_keys.test_follow_up_keeps_its_key,
    ),
    Mutant(
        "a task in a line is never the oldest",
        "sqlite_backend/schema.py",
        "            {IN_LINES},\n",
        "",
        test_limit_keys.test_tasks_with_keys_are_counted_listed_and_found,
    ),
]
