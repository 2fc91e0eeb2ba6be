"""Tasks of Django's framework are put on the queue, and run under their own names."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.template import Context, Template
from django.test.utils import override_settings
from django.utils import timezone

from alligator.testing import capture, drain, sync
from alligator.workers import Worker
from django_alligator import gator
from tests.harness import framework_tasks
from tests.harness.framework_tasks import add, fail, send, show

# isort: split
from django_alligator.task_results import signals

BACKEND = {"BACKEND": "django_alligator.TaskBackend", "QUEUES": ["default", "mail"]}
PRIORITIES = {"OPTIONS": {"PRIORITY_QUEUES": {50: "urgent", 90: "now", -50: "bulk"}}}


@contextmanager
def settings(**backend: Any) -> Iterator[None]:
    """Use the backend with a queue of its own."""
    with override_settings(
        ALLIGATOR={"CONN": "locmem://", "ASYNC": True}, TASKS={"default": {**BACKEND, **backend}}
    ):
        yield


@pytest.fixture(autouse=True)
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Return what the tasks of this test are called with."""
    found: list[Any] = []
    monkeypatch.setattr(framework_tasks, "RAN", found)
    with settings():
        yield found


@pytest.fixture
def sent() -> Iterator[list[tuple[str, str]]]:
    """Return the signals that are sent, with the status of the task."""
    found: list[tuple[str, str]] = []
    receivers = {}
    for name in ("task_enqueued", "task_started", "task_finished"):

        def receive(name: str = name, *, task_result: Any, **_: Any) -> None:
            found.append((name, str(task_result.status)))

        receivers[name] = lambda sender, receive=receive, **given: receive(**given)
        getattr(signals, name).connect(receivers[name])
    yield found
    for name, receiver in receivers.items():
        getattr(signals, name).disconnect(receiver)


def test_enqueued_task_is_ready_and_runs_under_its_own_name(ran: list[Any]) -> None:
    result = add.enqueue(1, second=2)
    [lease] = gator.client.reserve("all")

    assert (result.status, result.args, result.kwargs) == ("READY", [1], {"second": 2})
    assert (result.task, result.backend, result.attempts) == (add, "default", 0)
    assert lease.task_id == result.id
    assert gator.read(lease).name == "tests.harness.framework_tasks.add"
    gator.client.release(lease)
    drain(gator)
    assert ran == [(1, 2)]


def test_wrapped_function_is_a_task_without_the_backend(ran: list[Any]) -> None:
    for func in (add, add.func):
        gator.task(func, 1)
    drain(gator)

    assert ran == [(1, 0), (1, 0)]


def test_worker_runs_plain_and_coroutine_tasks_on_their_queues(ran: list[Any]) -> None:
    add.enqueue(1)
    asyncio.run(send.using(queue_name="mail").aenqueue("a@example.org"))
    show.enqueue("x")
    Worker(gator, to_consume=["mail", "all"], burst=True).run_forever()

    assert len(ran) == 3
    assert ("a@example.org" in ran, (1, 0) in ran) == (True, True)


def test_context_has_the_result_and_the_attempt(ran: list[Any]) -> None:
    result = show.enqueue("a")
    drain(gator)

    assert ran == [("a", 1, result.id, "RUNNING", ["a"], show.func)]


def test_retry_has_the_context_again(ran: list[Any]) -> None:
    with gator.transaction(retries=1, backoff=0):
        show.enqueue(name="a")
        fail.enqueue()
    with pytest.raises(ValueError, match="no luck"):
        drain(gator)

    assert [each[0] for each in ran] == ["a"]


def test_signals_are_sent_where_it_happens(sent: list[tuple[str, str]]) -> None:
    add.enqueue(1)
    fail.enqueue()
    before = list(sent)
    with pytest.raises(ValueError, match="no luck"):
        drain(gator)

    assert before == [("task_enqueued", "READY")] * 2
    assert sent[2:] == [
        *[("task_started", "RUNNING"), ("task_finished", "SUCCESSFUL")],
        *[("task_started", "RUNNING"), ("task_finished", "FAILED")],
    ]


def test_failure_that_is_retried_is_not_the_end(sent: list[tuple[str, str]]) -> None:
    with gator.transaction(retries=1, backoff=0):
        fail.enqueue()
    with pytest.raises(ValueError, match="no luck"):
        drain(gator)

    assert [name for name, _ in sent].count("task_started") == 2
    assert [name for name, _ in sent].count("task_finished") == 1


def test_receiver_that_fails_does_not_fail_the_task(ran: list[Any]) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError

    signals.task_started.connect(broken)
    add.enqueue(1)
    drain(gator)
    signals.task_started.disconnect(broken)

    assert ran == [(1, 0)]


def test_run_after_schedules_the_task() -> None:
    result = add.using(run_after=timezone.now() + timedelta(minutes=5)).enqueue(1)

    assert (gator.stats().ready, gator.stats().scheduled) == (0, 1)
    assert result.status == "READY"


def test_priority_is_the_order_of_queues(ran: list[Any]) -> None:
    with settings(**PRIORITIES):
        for priority in (-100, -50, -1, 0, 49, 50, 89, 90, 100):
            add.using(priority=priority).enqueue(priority)
        send.using(priority=60, queue_name="mail").enqueue("a")
        names = {name: gator.len(name) for name in ("now", "urgent", "all", "bulk", "mail-urgent")}
        drain(gator, ["now", "urgent", "mail-urgent", "all", "bulk"])

    bulk = [(-100, 0), (-50, 0)]
    assert names == {"now": 2, "urgent": 2, "all": 3, "bulk": 2, "mail-urgent": 1}
    assert ran == [(90, 0), (100, 0), (50, 0), (89, 0), "a", (-1, 0), (0, 0), (49, 0), *bulk]


def test_priority_without_queues_for_it_is_one_of_three_levels(ran: list[Any]) -> None:
    for priority in (-100, -1, 0, 1, 100):
        add.using(priority=priority).enqueue(priority)

    assert gator.len("all") == 5
    drain(gator)
    assert ran == [(1, 0), (100, 0), (0, 0), (-100, 0), (-1, 0)]


def test_unknown_queue_and_arguments_that_are_no_json_are_refused() -> None:
    with pytest.raises(Exception, match="Queue 'other' is not valid"):
        add.using(queue_name="other")
    with pytest.raises(TypeError, match="Unsupported type"):
        add.enqueue(object())


def test_wrong_arguments_are_refused_at_the_call() -> None:
    with pytest.raises(TypeError):
        add.enqueue(1, 2, 3)

    assert gator.len() == 0


def test_rendered_text_arrives_as_plain_text(ran: list[Any]) -> None:
    text = Template("<p>{{ name }}</p>").render(Context({"name": "Ann & Bob"}))

    send.enqueue(text)
    gator.task(send.func, address=text)
    drain(gator)

    assert ran == ["<p>Ann &amp; Bob</p>"] * 2
    assert {type(each) for each in ran} == {str}


def test_results_are_refused_with_the_reason() -> None:
    result = add.enqueue(1)

    assert result.task.get_backend().supports_get_result is False
    for read in (result.refresh, lambda: add.get_result(result.id)):
        with pytest.raises(NotImplementedError, match="Alligator keeps none"):
            read()
    with pytest.raises(NotImplementedError, match="does not support retrieving"):
        asyncio.run(result.arefresh())


def test_task_waits_for_the_transaction_of_gator_and_database() -> None:
    with gator.transaction() as tx:
        add.enqueue(1)
        tx.doom()
    with transaction.atomic():
        add.enqueue(2)
        during = gator.len()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        add.enqueue(3)
        raise ZeroDivisionError

    assert (during, gator.len()) == (0, 1)


def test_task_that_runs_in_this_process_has_its_result(
    ran: list[Any], sent: list[tuple[str, str]]
) -> None:
    with sync():
        result = add.enqueue(1, 2)
        with gator.transaction():
            later = show.enqueue("a")
            ready = later.status
        with pytest.raises(ValueError, match="no luck"):
            fail.enqueue()

    assert (result.status, result.return_value, result.attempts) == ("SUCCESSFUL", 3, 1)
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert (ready, later.status, ran[1][2]) == ("READY", "SUCCESSFUL", later.id)
    assert sent[:3] == [
        ("task_enqueued", "READY"),
        ("task_started", "RUNNING"),
        ("task_finished", "SUCCESSFUL"),
    ]


def test_captured_task_is_found_by_its_function() -> None:
    with capture() as tasks:
        add.enqueue(1)
    tasks.assert_pushed(add, args=[1])
    tasks.assert_pushed("tests.harness.framework_tasks.add")


def test_worker_without_the_backend_of_the_task_runs_it(ran: list[Any]) -> None:
    add.enqueue(1)
    [lease] = gator.client.reserve("all")
    with override_settings(TASKS={"other": BACKEND}):
        gator.run(gator.read(lease))

    assert ran == [(1, 0)]


def test_limited_functions_need_not_name_the_backend(ran: list[Any]) -> None:
    allowed = ["tests.harness.framework_tasks.*"]
    with override_settings(ALLIGATOR={"CONN": "locmem://", "ASYNC": True, "ALLOW": allowed}):
        add.enqueue(1)
        gator.task(sorted, [])
        drain(gator, propagate=False)
        [dead] = gator.dead_letters()

    assert (ran, "sorted" in dead.reason) == ([(1, 0)], True)


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ({}, []),
        (PRIORITIES["OPTIONS"], []),
        ({"PRIORITY_QUEUES": {"50": "urgent"}}, ["django_alligator.E032"]),
        ({"PRIORITY_QUEUES": {0: "urgent"}}, ["django_alligator.E032"]),
        ({"PRIORITY_QUEUES": {1: ""}}, ["django_alligator.E032"]),
        ({"RESULTS": True}, ["django_alligator.E031"]),
    ],
)
def test_options_are_checked(options: dict[str, Any], codes: list[str]) -> None:
    with settings(OPTIONS=options):
        backend = add.get_backend()

        assert [message.id for message in backend.check()] == codes
