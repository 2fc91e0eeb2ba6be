"""Every store that the contract is held against, each test in a namespace of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from alligator.backends import open_client
from alligator.backends.base import Client
from tests.needs import needed
from tests.servers import Missing, redis_server, sqs_server

Connect = Callable[[], Client]

# What SQS has no means for, and so cannot keep of the contract: these tests fail there, and are run
# to see that they do. `tests/backends/test_sqs.py` tests what it does in their place.
SQS_LIMITS = {
    "it keeps no counters": [
        "test_a_repeated_commit_does_nothing_after_its_tasks_have_run",
        "test_an_id_that_comes_twice_in_one_call_is_queued_once",
        "test_a_task_that_is_done_is_gone",
        "test_outcomes_of_other_queues_are_settled_too",
        "test_one_step_takes_outcomes_of_every_kind",
        "test_a_failed_task_runs_again_with_its_new_data",
        "test_an_outcome_counts_once",
        "test_a_task_whose_lease_ended_is_reserved_again_and_counted_lost",
        "test_a_task_that_was_lost_too_often_is_dead",
        "test_an_ack_that_comes_late_is_honoured",
        "test_work_that_two_workers_have_done_counts_once",
        "test_a_dead_task_can_be_made_ready_again",
        "test_a_dead_task_can_be_dropped",
        "test_eight_threads_reserve_every_task_once",
        "test_a_forked_child_and_its_parent_go_on",
        "test_a_store_does_what_the_model_does",
    ],
    "it finds no task by its id": [
        "test_one_task_can_be_leased_by_its_id",
        "test_a_scheduled_task_can_be_leased_by_its_id",
        "test_a_task_that_is_leased_or_dead_or_unknown_cannot_be_leased_by_its_id",
        "test_a_task_that_waits_can_be_canceled",
        "test_a_task_that_is_leased_or_dead_or_unknown_cannot_be_canceled",
        "test_a_task_that_was_got_by_its_id_is_gone",
        "test_a_task_that_the_queue_holds_is_neither_doubled_nor_changed",
    ],
    "it cannot take back what was sent": [
        "test_an_undone_push_leaves_nothing",
        "test_a_push_that_was_undone_is_refused_when_repeated",
        "test_a_task_that_a_worker_has_stays_with_it_when_its_push_is_undone",
        "test_undoing_one_push_leaves_the_tasks_of_others",
    ],
    "an old receipt may still be good, and one of a task that went on is not": [
        "test_an_ack_that_comes_late_takes_the_task_from_wherever_it_is",
        "test_who_lost_the_lease_to_another_cannot_move_the_task",
        "test_extending_tells_which_leases_are_lost",
    ],
    "it does not say when a task is due, nor how long one has waited": [
        "test_scheduled_tasks_are_listed_the_next_first",
        "test_a_task_that_is_no_longer_scheduled_is_not_listed",
        "test_a_lease_lasts_as_long_as_it_was_given_for",
        "test_a_scheduled_task_is_not_reserved_before_its_time",
        "test_the_age_is_that_of_the_oldest_ready_task",
        "test_a_scheduled_task_ages_from_when_it_was_due",
    ],
    "a lease that has ended is a ready task, whoever looks": [
        "test_leases_of_queues_that_were_not_asked_for_are_not_reclaimed",
    ],
    "it promises no order, and counts in whole seconds": [
        "test_released_tasks_go_back_to_their_places",
        "test_the_task_that_has_been_due_for_longest_goes_first",
    ],
    "it drops a queue with what is leased": [
        "test_dropping_all_spares_what_is_leased_or_dead",
    ],
    "it drops dead letters by age only, after 14 days": [
        "test_of_too_many_dead_letters_the_oldest_are_dropped",
        "test_dead_letters_of_long_ago_are_dropped_when_another_comes",
        "test_a_limit_of_dead_letters_that_was_lowered_is_reached_little_by_little",
    ],
    "it has no place for workers": [
        "test_a_worker_that_gives_a_sign_of_life_is_listed",
        "test_a_worker_is_listed_once_with_what_it_said_last",
        "test_a_worker_that_says_goodbye_is_forgotten",
    ],
    "a name has 80 characters at most": ["test_a_queue_may_have_any_name[sqs-name6]"],
}

# What the stand-in for SQS is not fit for: these are not run.
MOTO_LIMITS = {
    "moto needs minutes for a thousand messages": [
        "test_a_call_takes_a_thousand_tasks",
        "test_tasks_of_one_call_are_reserved_in_the_order_given",
    ],
    "moto looks once a second for what has become due": [
        "test_waiting_ends_when_a_scheduled_task_is_due",
    ],
    "moto gives a message to two who ask at once": ["test_several_processes_run_every_task_once"],
    "boto3 takes as long to start as the push may take": [
        "test_a_push_reaches_who_waits_for_its_queue",
        "test_waiting_ends_when_another_client_pushes",
    ],
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    beyond = {name: reason for reason, names in SQS_LIMITS.items() for name in names}
    unfit = {name: reason for reason, names in MOTO_LIMITS.items() for name in names}
    for item in items:
        if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
            continue
        if item.callspec.params.get("dsn") != "sqs":
            continue
        for name in (item.name, item.originalname):
            if name in unfit:
                item.add_marker(pytest.mark.skip(reason=f"sqs: {unfit[name]}"))
            elif name in beyond:
                item.add_marker(pytest.mark.xfail(reason=f"sqs: {beyond[name]}", strict=True))


@pytest.fixture(scope="session")
def redis() -> Iterator[str]:
    """Give the DSN of a Redis that runs as long as the tests do, where one is installed."""
    try:
        with redis_server() as dsn:
            yield dsn
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def sqs() -> Iterator[str]:
    """Give the DSN of moto's SQS, which runs as long as the tests do, and credentials for it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"):
            patch.delenv(name, raising=False)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "any")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("NO_PROXY", "127.0.0.1")
        with needed(), sqs_server() as dsn:
            yield dsn


@pytest.fixture(params=["locmem", "sqlite", "valkey", "redis", "sqs"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name a new and empty store, of each kind in turn."""
    if request.param == "locmem":
        return f"locmem://{uuid4()}"
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/queue.db"
    if request.param == "sqs":
        # The server of these tests has no other servers behind it that a short look could miss.
        return f"{request.getfixturevalue('sqs')}?prefix={uuid4().hex[:8]}-&poll=0"
    return f"{request.getfixturevalue(request.param)}?ns={uuid4().hex}"


@pytest.fixture
def connect(dsn: str) -> Iterator[Connect]:
    """Open clients of the same store, as several programs would."""
    clients: list[Client] = []

    def open_another() -> Client:
        clients.append(open_client(dsn))
        return clients[-1]

    yield open_another
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Connect) -> Client:
    """Open one client of the store."""
    return connect()


@pytest.fixture
def shared_dsn(dsn: str) -> str:
    """Name a store that several processes can share."""
    if dsn.startswith("locmem:"):
        pytest.skip("locmem:// is the memory of one process")
    return dsn
