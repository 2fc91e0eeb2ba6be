"""Tests of the contract that judge the mutants of the stores, with their parameters."""

from contextlib import closing
from time import monotonic

from alligator.backends import open_client, redis_backend
from alligator.backends.base import Client, Commit, Message
from tests.backends.contract import (
    test_follow_ups,
    test_ids,
    test_limits,
    test_outcomes,
    test_pausing,
    test_undoing,
    test_unique,
)
from tests.harness.redis_network import LossyNetwork


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


def at_once(client: Client) -> None:
    """Check that no more tasks run at once than the limit."""
    test_limits.test_no_more_tasks_run_at_once_than_the_limit(client)


def starts(client: Client) -> None:
    """Check that no more tasks begin than the limit."""
    test_limits.test_no_more_tasks_begin_than_the_limit(client)


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


def dead(client: Client) -> None:
    """Check that a follow-up learns how many tasks died."""
    test_follow_ups.test_dead_task_counts_as_settled(client, "dead")


def dropped(client: Client) -> None:
    """Check that a follow-up waits for no canceled or dropped task."""
    test_follow_ups.test_canceled_and_dropped_tasks_count_as_settled(client, 0.0)


def brought_back(client: Client) -> None:
    """Check that an aborted push brings back the task that it has replaced."""
    test_unique.test_aborted_push_brings_back_what_it_has_replaced(client, 0.0)


def released_then_undone(client: Client) -> None:
    """Check that a task that a worker released stays on the queue."""
    messages = [Message("all", name, "{}") for name in "ab"]
    client.push_many(messages, commit_id="c")
    client.release(client.reserve("all")[0])
    client.abort("c", messages)
    assert [lease.task_id for lease in client.reserve("all", limit=2)] == ["a"]


def begun_then_undone(client: Client) -> None:
    """Check that a push is kept as a whole if a worker has one of its tasks."""
    assert isinstance(client, redis_backend.Client)
    messages = [Message("all", name, "{}") for name in "ab"]
    client.push_many(messages, commit_id="c")
    client.reserve("all")
    push = client._pusher._prepare(Commit(messages, "c"))
    assert not client._pusher._undo(push, monotonic() + 2)
    assert client.len("all") == 1


def cut_in_both_attempts(client: Client) -> None:
    """Check that after a trip was lost twice exactly the commits that succeeded are queued."""
    client.push_many([Message("all", "x", "{}")], commit_id="x")
    client.abort("x", [Message("all", "x", "{}")])  # now the server knows both scripts
    server, _, options = client.conn_string.partition("?")
    for lost in ("request", "reply"):
        commits = [Commit([Message("all", lost + name, "{}")], lost + name) for name in "abc"]
        with closing(LossyNetwork(server)) as network:
            network.lose.extend([lost, lost])
            with closing(open_client(f"{network.dsn}?{options}")) as pusher:
                errors = pusher.push_commits(commits)
        assert client.len("all") == [*errors].count(None)


def chosen_and_cut_twice(client: Client) -> None:
    """Check that a push under a chosen id stays after two lost replies, and can be repeated."""
    server, _, options = client.conn_string.partition("?")
    messages = [Message("all", "a", "{}")]
    with closing(LossyNetwork(server)) as network:
        network.lose.extend(["reply", "reply"])
        with closing(open_client(f"{network.dsn}?{options}")) as pusher:
            [error] = pusher.push_commits([Commit(messages, "row-1", undo=False)])
    assert error is not None
    assert client.len("all") == 1
    client.push_many(messages, commit_id="row-1", undo=False)
    assert client.stats("all").pushed == 1
