"""Mistakes in how PostgreSQL keeps limit keys: lines of tasks, their turns, and limits of keys."""

import time

from alligator.backends.base import Client
from tests.backends.contract import test_limit_keys
from tests.faults.line_mutants import ENDED
from tests.faults.mutant import Mutant

FUNCTIONS = "functions_1.sql"


def oldest(client: Client) -> None:
    """Check that a task of normal priority counts for the age of the oldest one."""
    test_limit_keys.enqueue(client, "a0")
    time.sleep(0.01)

    assert client.stats("mail").oldest >= 0.01


POSTGRES_MUTANTS = [
    Mutant(
        "a line stays where it is after its turn",
        FUNCTIONS,
        "THEN r.turn * interval '1 us'",
        "THEN interval '-1 h'",
        test_limit_keys.test_turns_go_on_from_step_to_step,
    ),
    Mutant(
        "a line that gives one task stays where it is",
        FUNCTIONS,
        "v_later, p_now + interval '1 us'),",
        "v_later),",
        test_limit_keys.test_new_key_waits_for_one_turn_of_each_other,
    ),
    Mutant(
        "a line is forgotten with the task that it gives",
        FUNCTIONS,
        "IF v_tasks.ats[2] IS NULL THEN",
        "IF true THEN",
        test_limit_keys.test_steps_of_one_task_go_on_with_the_next_key,
    ),
    Mutant(
        "the only task of a step begins before it is due",
        FUNCTIONS,
        "v_tasks.ats[1] <= p_now + v_line.shift AND NOT",
        "NOT",
        test_limit_keys.test_step_of_one_task_passes_over_a_key_without_a_due_task,
    ),
    Mutant(
        "the only task of a step begins in spite of the limit of its key",
        FUNCTIONS,
        "IF v_limits.o_until[1] IS NOT NULL THEN",
        "IF false THEN",
        test_limit_keys.test_step_of_one_task_passes_over_a_key_whose_limit_is_reached,
    ),
    Mutant(
        "the only task that is left to take of a step is a suspect",
        FUNCTIONS,
        "v_line.shift AND NOT v_tasks.suspects[1]) IS NOT TRUE",
        "v_line.shift) IS NOT TRUE",
        test_limit_keys.test_suspect_of_a_line_is_not_the_last_task_of_a_step,
    ),
    Mutant(
        "tasks without a key have no turns",
        FUNCTIONS,
        "IF v_placed.o_is_mixed THEN",
        "IF false THEN",
        test_limit_keys.test_tasks_without_a_key_have_turns_like_one_key,
    ),
    Mutant(
        "low lines go before normal ones",
        FUNCTIONS,
        "v_level := greatest(v_levels[1]",
        "v_level := least(v_levels[cardinality(v_levels)]",
        test_limit_keys.test_highest_priority_goes_first_whatever_the_keys,
    ),
    Mutant(
        "tasks without a key have the last turns",
        FUNCTIONS,
        "a WHERE a < v_plain_at",
        "a",
        test_limit_keys.test_tasks_without_a_key_have_turns_like_one_key,
    ),
    Mutant(
        "a key with more tasks than its turns in a step is forgotten",
        FUNCTIONS,
        "array_agg(f.i > v_each OR f.at > v_ready)",
        "array_agg(f.at > v_ready)",
        test_limit_keys.test_key_with_many_tasks_is_served_to_its_last_one,
    ),
    Mutant(
        "a task of a line begins before it is due",
        FUNCTIONS,
        "array_agg(f.i > v_each OR f.at > v_ready)",
        "array_agg(f.i > v_each)",
        test_limit_keys.test_scheduled_task_joins_its_line_when_it_is_due,
    ),
    Mutant(
        "a task that returns before the next one of its line is not found",
        FUNCTIONS,
        " OR (l.after, l.seq) > (excluded.after, excluded.seq);",
        ";",
        lambda client: test_limit_keys.test_task_returns_to_its_line(client, "release"),
    ),
    Mutant(
        "the limit of a key is one too high",
        FUNCTIONS,
        "CASE WHEN k.leased >= k.at_once",
        "CASE WHEN k.leased > k.at_once",
        test_limit_keys.test_task_leased_by_its_id_takes_a_place_of_its_key,
    ),
    Mutant(
        "the limit of each key is ignored",
        FUNCTIONS,
        "o.limit_key = u.key), '*')",
        "o.limit_key = u.key), '')",
        test_limit_keys.test_limit_of_each_key_is_for_those_without_one_of_their_own,
    ),
    Mutant(
        "the limit of each key goes before that of the key",
        FUNCTIONS,
        "o.limit_key = u.key), '*')",
        "o.limit_key = '*'), u.key)",
        test_limit_keys.test_limit_of_each_key_is_for_those_without_one_of_their_own,
    ),
    Mutant(
        "a step takes two tasks of a key with a limit",
        FUNCTIONS,
        "v_turns[v_line] > 0 AND v_limited[v_line] THEN",
        "false THEN",
        test_limit_keys.test_step_reserves_one_task_of_a_key_with_a_limit,
    ),
    Mutant(
        "a start of a key is not recorded",
        FUNCTIONS,
        "WHERE u.number IS NOT NULL;",
        "WHERE false;",
        test_limit_keys.test_no_more_tasks_of_a_key_begin_than_its_limit,
    ),
    Mutant(
        "leases from before the first limit of a key do not count",
        FUNCTIONS,
        "BEGIN\n    IF p_is_locked THEN",
        "BEGIN\n    RETURN;\n    IF p_is_locked THEN",
        test_limit_keys.test_limit_of_a_key_counts_the_leases_before_it,
    ),
    Mutant(
        "an ack opens no line",
        FUNCTIONS,
        "IF v_is_shut THEN",
        "IF false THEN",
        lambda client: ENDED(client, "ack"),
    ),
    Mutant(
        "a lost lease opens no line",
        FUNCTIONS,
        "count({s}.end_lease(e, state = 'w'))",
        "count(*)",
        test_limit_keys.test_place_of_a_key_is_free_when_the_lease_of_a_lost_worker_ends,
    ),
    Mutant(
        "a dead task opens no line",
        FUNCTIONS,
        "PERFORM {s}.end_lease(v_task, false);",
        "NULL;",
        lambda client: ENDED(client, "dead"),
    ),
    Mutant(
        "a canceled lease opens no line",
        FUNCTIONS,
        "PERFORM {s}.free_places(p_queue, ARRAY[v_limit_key]) WHERE v_limit_key IS NOT NULL;",
        "",
        test_limit_keys.test_canceled_lease_frees_a_place_of_its_key,
    ),
    Mutant(
        "a lease by id takes no place",
        FUNCTIONS,
        "alone = true, counted = t.limit_key IS NOT NULL,",
        "alone = true,",
        test_limit_keys.test_task_leased_by_its_id_takes_a_place_of_its_key,
    ),
    Mutant(
        "a follow-up joins no line",
        FUNCTIONS,
        "WHEN (NEW.limit_key IS NOT NULL AND NEW.at < '8000-01-01 UTC')",
        "WHEN (false)",
        test_limit_keys.test_follow_up_keeps_its_key,
    ),
    Mutant(
        "a changed limit of a key gives its line no turn",
        FUNCTIONS,
        "AND p_limit_key IN (limit_key, '*');",
        "AND false;",
        test_limit_keys.test_limit_of_each_key_is_for_those_without_one_of_their_own,
    ),
    Mutant(
        "a task in a line is never the oldest",
        FUNCTIONS,
        "WHERE k.queue = t.queue AND k.state = 'w' AND k.at >= '13500-01-01 UTC'",
        "WHERE false AND k.at >= '13500-01-01 UTC'",
        oldest,
    ),
]
