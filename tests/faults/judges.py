"""Tests of the contract that judge the mutants of the stores, with their parameters."""

from alligator.backends.base import Client
from tests.backends.contract import test_ids, test_outcomes, test_pausing, test_undoing, test_unique


def newer(client: Client) -> None:
    """Check that undoing a push keeps a newer task with the same id."""
    test_undoing.test_newer_task_of_the_same_id_survives_an_abort(client, None, 0.0)


def returned(client: Client) -> None:
    """Check that an id refers to the newer of two tasks."""
    test_ids.test_returned_task_runs_beside_a_newer_one_of_its_id(client, "retry")


def chosen(client: Client) -> None:
    """Check that an aborted id is pushed once if somebody chose it."""
    test_undoing.test_push_under_a_chosen_id_is_queued_again_after_its_abort(client, 0.0)


def expired(client: Client) -> None:
    """Check that an expired task is counted, and not as a failure."""
    test_outcomes.test_expired_task_is_a_dead_letter_that_counts_as_no_failure(client)


def paused(client: Client) -> None:
    """Check that a step serves the other queues, and not the paused one."""
    test_pausing.test_other_queues_of_the_step_are_served(client)


def started(client: Client) -> None:
    """Check that the first lease frees a key."""
    test_unique.test_first_lease_frees_a_key_that_is_held_until_the_start(client)


def held(client: Client) -> None:
    """Check that a key is held for its time by a task that is done."""
    unique = test_unique.DONE_OR_HOUR
    test_unique.test_key_is_held_for_its_time_by_tasks_that_run_or_are_done(client, unique)


def canceled(client: Client) -> None:
    """Check that a canceled task frees its key."""
    test_unique.test_canceled_and_dropped_tasks_hold_no_key(client, test_unique.DONE)


def undone(client: Client) -> None:
    """Check that an aborted push frees its key."""
    test_unique.test_aborted_task_holds_no_key(client, test_unique.DONE)


def brought_back(client: Client) -> None:
    """Check that an aborted push brings back the task that it has replaced."""
    test_unique.test_aborted_push_brings_back_what_it_has_replaced(client, 0.0)
