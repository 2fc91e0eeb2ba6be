"""Every store that the contract tests run on, each test in its own namespace."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from alligator.backends import open_client
from alligator.backends.base import Client
from tests.harness.postgres_servers import PostgresServer, postgres_server
from tests.harness.requirements import needed
from tests.harness.store_servers import Missing, redis_server, sqs_server

Connect = Callable[[], Client]

PATIENCE = 20
"""How many seconds a store may take to answer."""

# What SQS has no means for, and so cannot keep of the contract: these tests fail there, and are run
# to see that they do. `tests/backends/sqs_backend/` tests what SQS does in their place.
SQS_LIMITS = {
    "it keeps no counters": [
        "test_repeated_commit_does_nothing_after_its_tasks_have_run",
        "test_id_that_comes_twice_in_one_call_is_queued_once",
        "test_done_task_is_removed",
        "test_outcomes_of_other_queues_are_applied_too",
        "test_step_takes_outcomes_of_every_kind",
        "test_failed_task_runs_again_with_its_new_data",
        "test_outcome_counts_once",
        "test_expired_task_is_a_dead_letter_that_counts_as_no_failure",
        "test_task_with_an_expired_lease_is_reserved_again",
        "test_task_that_was_lost_too_often_is_dead",
        "test_late_ack_counts",
        "test_task_that_two_workers_have_run_counts_once",
        "test_dead_task_can_be_made_ready_again",
        "test_dead_task_can_be_dropped",
        "test_threads_reserve_every_task_once",
        "test_forked_child_and_its_parent_continue",
        "test_store_does_what_the_model_does",
        "test_store_does_what_the_model_does_in_many_histories",
        "test_dead_task_does_not_block_a_new_one_of_its_id",
        "test_suspect_that_is_lost_alone_dies_and_the_others_do_not",
        "test_late_ack_removes_its_own_task_and_not_the_newer_one",
        "test_push_under_a_chosen_id_is_queued_again_after_its_abort",
    ],
    "it cannot pause a queue": [
        "test_paused_queue_gives_no_task_until_it_is_resumed",
        "test_pause_holds_for_all_clients",
        "test_pause_ends_by_itself",
        "test_stats_tell_when_a_pause_ends",
        "test_other_queues_of_the_step_are_served",
        "test_queue_is_known_from_its_pause_on",
        "test_outcomes_and_heartbeats_go_on_during_a_pause",
        "test_expired_lease_is_reclaimed_during_a_pause",
        "test_push_and_cancel_go_on_during_a_pause",
        "test_task_of_a_paused_queue_can_be_leased_by_its_id",
        "test_step_says_when_the_pause_ends",
        "test_step_waits_for_a_scheduled_task_that_is_due_after_the_pause",
        "test_scheduled_task_of_a_paused_queue_stays",
        "test_resuming_wakes_a_worker_that_waits",
        "test_end_of_a_pause_wakes_a_worker_that_waits",
        "test_resuming_wakes_as_many_workers_as_there_are_tasks",
        "test_worker_of_a_paused_queue_rests",
        "test_suspect_of_a_paused_queue_holds_up_no_other_queue",
        "test_queue_that_is_not_paused_can_be_resumed",
    ],
    "it cannot limit a queue": [
        "test_no_more_tasks_run_at_once_than_the_limit",
        "test_limit_holds_for_all_clients",
        "test_every_outcome_frees_a_place",
        "test_place_of_a_lost_worker_is_free_when_its_lease_ends",
        "test_heartbeat_keeps_the_place",
        "test_late_ack_frees_the_place_of_the_new_run",
        "test_step_reserves_one_task_of_a_limited_queue",
        "test_other_queues_are_served_while_a_limit_is_reached",
        "test_no_more_tasks_begin_than_the_limit",
        "test_task_that_begins_again_counts_again",
        "test_start_is_free_when_its_time_is_over",
        "test_both_limits_apply",
        "test_limit_is_changed_while_tasks_run",
        "test_new_limit_counts_the_starts_before",
        "test_removed_limit_forgets_its_starts",
        "test_queue_without_a_limit_can_be_unlimited",
        "test_queue_is_known_from_its_limit_on",
        "test_stats_tell_how_many_tasks_wait_for_a_limit",
        "test_task_is_leased_by_its_id_in_spite_of_a_limit",
        "test_pause_of_a_limited_queue_holds",
        "test_suspect_of_a_limited_queue_is_leased_alone",
        "test_suspect_that_waits_for_a_limit_holds_up_no_other_queue",
        "test_highest_priority_goes_first_in_a_limited_queue",
        "test_free_place_wakes_a_worker_that_waits",
        "test_higher_limit_wakes_as_many_workers_as_it_has_places",
        "test_removed_limit_wakes_a_worker_that_waits",
        "test_limits_hold_while_many_clients_reserve",
        "test_worker_that_waits_for_a_limit_rests",
    ],
    "it finds no task by its id": [
        "test_task_can_be_leased_by_its_id",
        "test_scheduled_task_can_be_leased_by_its_id",
        "test_task_that_does_not_wait_cannot_be_leased_by_its_id",
        "test_waiting_task_can_be_canceled",
        "test_dead_and_unknown_tasks_cannot_be_canceled",
        "test_leased_task_can_be_canceled",
        "test_late_outcome_of_a_canceled_task_has_no_effect",
        "test_late_outcome_does_not_touch_a_new_task_of_its_id",
        "test_task_that_is_done_cannot_be_canceled",
        "test_task_that_waits_is_canceled_before_a_leased_one_of_its_id",
        "test_last_of_several_leased_tasks_of_an_id_is_canceled",
        "test_lease_that_was_given_by_its_id_can_be_canceled",
        "test_lease_that_expired_was_not_canceled",
        "test_canceled_task_does_not_count_as_lost",
        "test_other_tasks_of_the_batch_keep_their_leases",
        "test_place_of_a_limit_is_free_after_a_cancel",
        "test_cancel_wakes_a_worker_that_waits_for_a_place",
        "test_many_canceled_leases_are_remembered",
        "test_get_removes_a_task_by_its_id",
        "test_released_scheduled_task_is_due_as_before",
        "test_running_task_does_not_block_a_new_one_of_its_id",
        "test_returned_task_runs_beside_a_newer_one_of_its_id",
    ],
    "it lists no task that waits": [
        "test_tasks_are_looked_at_in_their_states_without_being_reserved",
        "test_each_task_of_a_long_queue_is_looked_at",
        "test_tasks_of_one_id_are_looked_at_under_that_id",
    ],
    "it knows a task by its id only within one commit": [
        "test_waiting_task_is_neither_duplicated_nor_changed",
        "test_push_reports_its_duplicates",
        "test_repeated_commit_reports_the_same_duplicates",
        "test_repeated_push_under_a_chosen_id_reports_the_same_duplicates",
        "test_commits_of_one_call_report_their_duplicates",
        "test_async_push_reports_duplicates",
    ],
    "it counts all that were received, and gives a suspect out before those it came with": [
        "test_lost_lease_counts_only_if_it_was_alone",
        "test_suspect_is_leased_alone_across_queues",
        "test_lost_task_returns_beside_a_newer_one_of_its_id",
    ],
    "it cannot take back what was sent": [
        "test_abort_removes_the_tasks_of_a_push",
        "test_aborted_push_is_refused_when_repeated",
        "test_leased_task_survives_an_abort",
        "test_tasks_of_other_pushes_survive_an_abort",
        "test_task_that_waits_for_its_retry_survives_an_abort",
        "test_newer_task_of_the_same_id_survives_an_abort",
        "test_waiting_task_survives_the_abort_of_its_duplicate",
        "test_running_task_of_the_same_id_survives_an_abort",
    ],
    "an old receipt may still be good, and one of a task that went on is not": [
        "test_late_ack_removes_its_task_in_any_state",
        "test_outdated_lease_cannot_move_its_task",
        "test_extend_returns_the_lost_leases",
        "test_outdated_lease_is_lost_also_beside_the_new_one_of_its_task",
        "test_release_with_a_delay_is_fenced",
        "test_expiry_is_fenced",
        "test_late_ack_finds_its_task_beside_a_newer_one",
        "test_frozen_worker_changes_no_newer_task_of_its_id",
    ],
    "it does not say when a task is due, nor how long one has waited": [
        "test_scheduled_tasks_are_listed_the_next_first",
        "test_task_that_is_no_longer_scheduled_is_not_listed",
        "test_waiting_tasks_of_one_id_are_all_listed_and_dropped",
        "test_lease_lasts_as_long_as_it_was_given_for",
        "test_scheduled_task_is_not_reserved_before_its_time",
        "test_age_is_that_of_the_oldest_ready_task",
        "test_scheduled_task_ages_from_when_it_was_due",
    ],
    "a lease that has expired is a ready task for every client": [
        "test_leases_of_other_queues_are_not_reclaimed",
    ],
    "it promises no order, and counts in whole seconds": [
        "test_released_tasks_go_back_to_their_places",
        "test_task_that_has_been_due_for_longest_goes_first",
        "test_latest_dead_task_of_an_id_is_retried_and_dropped",
    ],
    "it drops a queue with what is leased": [
        "test_drop_all_keeps_leased_and_dead_tasks",
    ],
    "it drops dead letters by age only, after 14 days": [
        "test_dead_letters_above_the_limit_are_dropped_oldest_first",
        "test_dead_letters_that_are_too_old_are_dropped",
        "test_dead_letters_shrink_to_a_lower_limit_step_by_step",
    ],
    "it has no place for workers": [
        "test_worker_with_a_heartbeat_is_listed",
        "test_worker_is_listed_once_with_its_latest_record",
        "test_worker_that_ends_is_forgotten",
    ],
    "a name has 80 characters at most": ["test_queue_may_have_any_name[sqs-name6]"],
}

# What the stand-in for SQS is not fit for: these are not run.
MOTO_LIMITS = {
    "moto needs minutes for a thousand messages": [
        "test_push_takes_a_thousand_tasks",
        "test_tasks_of_one_call_are_reserved_in_the_order_given",
        "test_dead_letters_have_no_default_limit",
    ],
    "moto looks once a second for what has become due": [
        "test_waiting_ends_when_a_scheduled_task_is_due",
    ],
    "moto gives a message to two who ask at once": ["test_processes_run_every_task_once"],
    "boto3 takes as long to start as the push may take": [
        "test_push_wakes_the_waiter_of_its_queue",
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
    """Yield the DSN of a Redis that runs as long as the tests do, where one is installed."""
    try:
        with redis_server() as dsn:
            yield dsn
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def postgres_process() -> Iterator[PostgresServer]:
    """Run a PostgreSQL for as long as the tests run; a test that breaks it puts it right again."""
    with needed(), postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres(postgres_process: PostgresServer) -> str:
    """Give the DSN of that PostgreSQL."""
    return postgres_process.dsn


@pytest.fixture(scope="session")
def sqs() -> Iterator[str]:
    """Yield the DSN of moto's SQS, which runs as long as the tests do, and credentials for it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"):
            patch.delenv(name, raising=False)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "any")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("NO_PROXY", "127.0.0.1")
        with needed(), sqs_server() as dsn:
            yield dsn


@pytest.fixture
def patient_sqs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow each call to SQS the time that a busy machine needs: boto3 takes a second to start."""
    monkeypatch.setattr("alligator.backends.sqs_backend.Client.commit_seconds", float(PATIENCE))
    monkeypatch.setattr("alligator.backends.sqs_backend.connection.LOOKUP_SECONDS", float(PATIENCE))


@pytest.fixture(params=["locmem", "sqlite", "valkey", "redis", "postgres", "sqs"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the DSN of a new and empty store, of each kind in turn.

    Its clients have patience: what is late is tested elsewhere, and on a busy machine all may be.
    """
    if request.param == "locmem":
        return f"locmem://{uuid4()}"
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/queue.db?timeout={PATIENCE}"
    if request.param == "postgres":
        schema = f"test_{uuid4().hex}"
        return f"{request.getfixturevalue('postgres')}?schema={schema}&timeout={PATIENCE}"
    if request.param == "sqs":
        request.getfixturevalue("patient_sqs")
        # The server of these tests has no other servers behind it that a short look could miss.
        return f"{request.getfixturevalue('sqs')}?prefix={uuid4().hex[:8]}-&poll=0"
    monkeypatch.setattr("alligator.backends.redis_backend.commits.COMMIT_SECONDS", float(PATIENCE))
    times = f"timeout={PATIENCE}&connect_timeout={PATIENCE}"
    return f"{request.getfixturevalue(request.param)}?ns={uuid4().hex}&{times}"


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
    """Return the DSN of a store that several processes can share."""
    if dsn.startswith("locmem:"):
        pytest.skip("locmem:// is the memory of one process")
    return dsn
