"""What a project's own tests are given: sync, capture and drain."""

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from unittest.mock import ANY

import pytest

from alligator import (
    CANCELED,
    DEFERRED,
    FAILED,
    SUCCESS,
    WAITING,
    Gator,
    Task,
    current_task,
    testing,
)
from alligator.exceptions import (
    ConfigurationError,
    NotImportable,
    NotSerializable,
    TooManyTasks,
    UnknownOption,
)
from alligator.execution import inline
from alligator.testing import capture, drain, sync
from tests.harness.store_servers import Missing, valkey_server

NOWHERE = "redis://127.0.0.1:1/0"
"""A DSN on whose port no server listens."""

calls: list[object] = []


class Boom(Exception):
    """An error inside a transaction."""


def note(*args: object, **kwargs: object) -> object:
    calls.append((*args, kwargs) if kwargs else args)
    return args[0] if args else None


def fail(reason: str) -> None:
    calls.append(reason)
    raise ValueError(reason)


def leave(reason: str) -> None:
    calls.append(reason)
    sys.exit(reason)


def fail_twice(seen: str) -> None:
    task = current_task()
    calls.append(seen)
    assert task is not None
    if task.attempt < 3:
        raise ValueError(f"attempt {task.attempt}")


async def note_later(value: object) -> None:
    await asyncio.sleep(0)
    calls.append(value)


def start_another(depth: int) -> None:
    calls.append(f"begin {depth}")
    if depth:
        gators[0].task(start_another, depth - 1)
    calls.append(f"end {depth}")


def start_endlessly() -> None:
    gators[0].task(start_endlessly)


def start_and_fail() -> None:
    gators[0].task(note, "behind")
    raise ValueError("after starting another")


def tell_success(task: Task, result: object) -> None:
    calls.append(f"succeeded with {result}")


def tell_error(task: Task, error: BaseException) -> None:
    calls.append(f"failed with {error}")


gators: list[Gator] = []


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    calls.clear()
    yield
    gators.clear()


@pytest.fixture
def nowhere() -> Gator:
    """A gator whose store does not exist."""
    gators.append(Gator(NOWHERE))
    return gators[0]


@pytest.fixture(scope="module")
def valkey() -> Iterator[str]:
    """The DSN of a server that all tests of this module share."""
    try:
        with valkey_server() as server:
            yield server.dsn
    except Missing as error:
        pytest.skip(str(error))


@pytest.fixture(params=["locmem", "sqlite", "valkey"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gator]:
    """A gator with a real queue."""
    if request.param == "valkey":
        dsn = request.getfixturevalue("valkey")
    else:
        dsn = {"locmem": "locmem://", "sqlite": f"sqlite://{tmp_path}/q.db"}[request.param]
    gator = Gator(dsn, queue_name=tmp_path.name)
    gators.append(gator)
    yield gator
    gator.client.close()


class TestSync:
    def test_task_outside_of_a_transaction_runs_at_once(self, nowhere: Gator) -> None:
        with sync():
            task = nowhere.task(note, 1)

        assert calls == [(1,)]
        assert task.status == SUCCESS
        assert task.result == 1

    def test_tasks_of_a_transaction_run_in_order_when_it_commits(self, nowhere: Gator) -> None:
        with sync(), nowhere.transaction():
            task = nowhere.task(note, 1)
            nowhere.task(note, 2)
            before = (list(calls), task.status)

        assert before == ([], DEFERRED)
        assert calls == [(1,), (2,)]

    def test_tasks_of_a_failed_transaction_do_not_run(self, nowhere: Gator) -> None:
        started = []

        with sync(), pytest.raises(Boom), nowhere.transaction():
            started.append(nowhere.task(note, 1))
            raise Boom

        assert calls == []
        assert [task.status for task in started] == [CANCELED]

    def test_tasks_of_a_doomed_transaction_do_not_run(self, nowhere: Gator) -> None:
        with sync(), nowhere.transaction() as transaction:
            nowhere.task(note, 1)
            transaction.doom()

        assert calls == []

    def test_asynchronous_transaction_runs_its_tasks(self, nowhere: Gator) -> None:
        async def view() -> None:
            async with nowhere.transaction():
                nowhere.task(note, 1)
                nowhere.task(note_later, 2)

        with sync():
            asyncio.run(view())

        assert calls == [(1,), 2]

    def test_every_gator_of_the_process_follows_the_mode(self) -> None:
        with sync():
            Gator(NOWHERE).task(note, 1)
            Gator("locmem://", is_async=True).task(note, 2)
            Gator("locmem://", defaults={"is_async": True}).task(note, 3)

        assert calls == [(1,), (2,), (3,)]

    def test_other_threads_follow_the_mode(self, nowhere: Gator) -> None:
        with sync():
            thread = Thread(target=nowhere.task, args=(note, 1))
            thread.start()
            thread.join()

        assert calls == [(1,)]

    def test_arguments_take_the_way_through_json(self, nowhere: Gator) -> None:
        with sync():
            nowhere.task(note, (1, 2), {"3": (None,)})

        assert calls == [([1, 2], {"3": [None]})]

    def test_argument_that_is_not_json_is_refused_at_the_call(self, nowhere: Gator) -> None:
        with (
            sync(),
            nowhere.transaction(),
            pytest.raises(NotSerializable, match="cannot be written as JSON"),
        ):
            nowhere.task(note, object())

    def test_retries_follow_at_once_and_hooks_fire(self, nowhere: Gator) -> None:
        with (
            sync(),
            nowhere.options(
                retries=2, backoff=60, on_success=tell_success, on_error=tell_error
            ) as opts,
        ):
            opts.task(fail_twice, "x")

        assert calls == [
            "x",
            "failed with attempt 1",
            "x",
            "failed with attempt 2",
            "x",
            "succeeded with None",
        ]

    def test_delay_is_not_waited_for(self, nowhere: Gator) -> None:
        with sync(), nowhere.options(delay_by=3600) as opts:
            opts.task(note, 1)

        assert calls == [(1,)]

    def test_failure_propagates_and_cancels_the_following_tasks(self, nowhere: Gator) -> None:
        started = []

        with sync(), pytest.raises(ValueError, match="broken"), nowhere.transaction():
            started.append(nowhere.task(fail, "broken"))
            started.append(nowhere.task(note, 1))

        assert calls == ["broken"]
        assert [task.status for task in started] == [FAILED, CANCELED]

    @pytest.mark.parametrize("how", [fail, leave])
    def test_failure_is_logged_when_it_must_not_propagate(
        self, nowhere: Gator, caplog: pytest.LogCaptureFixture, how: Callable[[str], None]
    ) -> None:
        with sync(propagate=False), nowhere.transaction():
            nowhere.task(how, "broken")
            nowhere.task(note, 1)

        assert calls == ["broken", (1,)]
        assert "broken" in caplog.text
        assert caplog.records[0].levelno == logging.ERROR

    def test_immediate_task_does_not_wait(self, nowhere: Gator) -> None:
        with sync(), nowhere.transaction() as transaction, nowhere.options(immediate=True) as opts:
            opts.task(note, 1)
            before = list(calls)
            transaction.doom()

        assert before == [(1,)]

    def test_always_task_runs_in_spite_of_a_failure(self, nowhere: Gator) -> None:
        with sync(), pytest.raises(Boom), nowhere.transaction():
            with nowhere.options(always=True) as opts:
                opts.task(note, 1)
            raise Boom

        assert calls == [(1,)]

    def test_is_async_false_at_the_call_runs_before_the_commit(self, nowhere: Gator) -> None:
        with sync(), nowhere.transaction(), nowhere.options(is_async=False) as opts:
            opts.task(note, 1)
            before = list(calls)

        assert before == [(1,)]
        assert calls == [(1,)]

    def test_function_that_no_worker_could_import_runs(self, nowhere: Gator) -> None:
        with sync():
            nowhere.task(lambda: calls.append("here"))

        assert calls == ["here"]

    def test_tasks_that_a_task_starts_run_after_it(self, nowhere: Gator) -> None:
        with sync():
            nowhere.task(start_another, 2)

        assert calls == ["begin 2", "end 2", "begin 1", "end 1", "begin 0", "end 0"]

    def test_long_chain_of_tasks_needs_no_recursion(self, nowhere: Gator) -> None:
        with sync():
            nowhere.task(start_another, 3000)

        assert len(calls) == 6002

    def test_tasks_that_start_each_other_without_end_are_an_error(
        self, nowhere: Gator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inline, "MAX_INLINE_TASKS", 20)

        with sync(), pytest.raises(TooManyTasks, match="without end"):
            nowhere.task(start_endlessly)

    def test_tasks_started_by_a_failed_task_are_canceled(self, nowhere: Gator) -> None:
        with sync():
            with pytest.raises(ValueError, match="after starting"):
                nowhere.task(start_and_fail)
            nowhere.task(note, "next")

        assert calls == [("next",)]

    def test_taking_back_a_commit_touches_no_store(self, nowhere: Gator) -> None:
        with sync(), nowhere.transaction() as transaction:
            nowhere.task(note, 1)

        with sync():
            transaction.undo()

        assert calls == [(1,)]


class TestSwitch:
    """A gator that is switched to run tasks here does as `sync` does."""

    def test_tasks_that_a_task_starts_run_after_it(self) -> None:
        gators.append(Gator(NOWHERE, is_async="no"))

        gators[0].task(start_another, 1)

        assert calls == ["begin 1", "end 1", "begin 0", "end 0"]


class TestModes:
    def test_mode_ends_with_its_block(self, queue: Gator) -> None:
        with sync():
            pass
        queue.task(note, 1)
        with capture():
            pass
        queue.task(note, 2)

        assert calls == []
        assert queue.len() == 2

    def test_mode_ends_when_its_block_fails(self, queue: Gator) -> None:
        for mode in (sync, capture):
            with pytest.raises(Boom), mode():
                raise Boom

        queue.task(note, 1)

        assert queue.len() == 1

    @pytest.mark.parametrize("outer", [sync, capture])
    @pytest.mark.parametrize("inner", [sync, capture])
    def test_inner_of_two_modes_decides(self, outer: type, inner: type, nowhere: Gator) -> None:
        with outer() as recorded:
            with inner() as recorded_inside:
                nowhere.task(note, 1)
            assert calls == ([(1,)] if inner is sync else [])
            nowhere.task(note, 2)

        assert [len(each or ()) for each in (recorded, recorded_inside)] == [
            int(outer is capture),
            int(inner is capture),
        ]
        assert ((2,) in calls) is (outer is sync)


class TestCapture:
    def test_tasks_are_recorded_and_neither_queued_nor_run(self, nowhere: Gator) -> None:
        with capture() as tasks:
            task = nowhere.task(note, 1)

        assert tasks.pushed == [task]
        assert list(tasks) == [task]
        assert len(tasks) == 1
        assert task.status == WAITING
        assert calls == []

    def test_task_counts_as_pushed_when_its_transaction_commits(self, nowhere: Gator) -> None:
        with capture() as tasks, nowhere.transaction():
            nowhere.task(note, 1)
            before = len(tasks)

        assert before == 0
        tasks.assert_pushed(note, args=[1])

    def test_failed_transaction_leaves_its_tasks_among_the_discarded(self, nowhere: Gator) -> None:
        started = []

        with capture() as tasks, pytest.raises(Boom), nowhere.transaction():
            started.append(nowhere.task(note, 1))
            raise Boom

        tasks.assert_not_pushed()
        assert tasks.discarded == started
        assert [task.status for task in started] == [CANCELED]

    def test_undone_commit_leaves_its_tasks_among_the_discarded(self, nowhere: Gator) -> None:
        with capture() as tasks:
            with nowhere.transaction() as transaction:
                nowhere.task(note, 1)
            transaction.undo()

        assert (len(tasks), len(tasks.discarded)) == (0, 1)

    def test_gator_that_would_run_its_tasks_inline_is_recorded(self) -> None:
        gator = Gator(NOWHERE, is_async=False)

        with capture() as tasks:
            gator.task(note, 1)

        tasks.assert_pushed(note)
        assert calls == []

    def test_is_async_false_at_the_call_runs_at_once(self, nowhere: Gator) -> None:
        with capture() as tasks, nowhere.options(is_async=False) as opts:
            opts.task(lambda: calls.append("here"))

        assert calls == ["here"]
        tasks.assert_not_pushed()

    def test_task_that_could_not_be_queued_is_refused(self, nowhere: Gator) -> None:
        with capture():
            with pytest.raises(NotImportable, match="lambda"):
                nowhere.task(lambda: None)
            with pytest.raises(NotSerializable):
                nowhere.task(note, object())
            with pytest.raises(UnknownOption), nowhere.options(retires=1):  # type: ignore[call-arg]
                pass

    def test_other_threads_are_recorded(self, nowhere: Gator) -> None:
        with capture() as tasks:
            thread = Thread(target=nowhere.task, args=(note, 1))
            thread.start()
            thread.join()

        tasks.assert_pushed(note)

    def test_transaction_that_was_begun_before_is_recorded(self) -> None:
        gator = Gator(NOWHERE, is_async=False)

        with gator.transaction() as transaction:
            gator.task(note, 1)
            with capture() as tasks:
                transaction.commit()

        tasks.assert_pushed(note, args=[1])


class TestAssertPushed:
    def test_function_is_named_by_itself_or_by_its_dotted_name(self, nowhere: Gator) -> None:
        with capture() as tasks:
            task = nowhere.task(note, 1)

        assert tasks.assert_pushed(note) == [task]
        assert tasks.assert_pushed(f"{__name__}.note") == [task]
        tasks.assert_not_pushed(fail)
        tasks.assert_not_pushed("somewhere.else.note")

    def test_arguments_are_compared_as_they_were_written(self, nowhere: Gator) -> None:
        with capture() as tasks:
            nowhere.task(note, (1, 2), when={"3": ("x",)})

        tasks.assert_pushed(note, args=[(1, 2)], kwargs={"when": {"3": ("x",)}})
        tasks.assert_pushed(note, args=([1, 2],), kwargs={"when": {"3": ["x"]}})
        tasks.assert_pushed(note, args=[ANY])
        tasks.assert_not_pushed(note, args=[])
        tasks.assert_not_pushed(note, kwargs={})

    def test_arguments_are_those_of_the_call_whatever_becomes_of_them(self, nowhere: Gator) -> None:
        names = ["a"]

        with capture() as tasks, nowhere.transaction():
            nowhere.task(note, names)
            names.append("b")

        tasks.assert_pushed(note, args=[["a"]])

    def test_queues_are_told_apart(self, nowhere: Gator) -> None:
        with capture() as tasks:
            nowhere.task(note, 1)
            with nowhere.options(queue_name="mail") as opts:
                opts.task(note, 2)

        tasks.assert_pushed(note, args=[1], queue_name="all", times=1)
        tasks.assert_pushed(note, args=[2], queue_name="mail", times=1)
        tasks.assert_not_pushed(queue_name="other")

    def test_signed_payload_is_read(self) -> None:
        gator = Gator(NOWHERE, secret="s3cret")

        with capture() as tasks:
            gator.task(note, 1)
            tasks.run()

        tasks.assert_pushed(note, args=[1])
        assert calls == [(1,)]

    def test_times_are_counted(self, nowhere: Gator) -> None:
        with capture() as tasks:
            nowhere.task(note, 1)
            nowhere.task(note, 2)

        tasks.assert_pushed(note, times=2)
        tasks.assert_pushed(fail, times=0)
        with pytest.raises(AssertionError, match="not pushed once, but 2 times"):
            tasks.assert_pushed(note, times=1)

    def test_failure_lists_what_was_pushed_instead(self, nowhere: Gator) -> None:
        with capture() as tasks:
            nowhere.task(note, 1, why="x")
            with nowhere.transaction() as transaction:
                nowhere.task(note, 2)
                transaction.doom()

        with pytest.raises(AssertionError) as caught:
            tasks.assert_pushed(fail, args=["no"], queue_name="mail")

        assert str(caught.value) == (
            f"{__name__}.fail('no', **...) on 'mail' was not pushed. These were:\n"
            f"  {__name__}.note(1, why='x') on 'all'\n"
            f"  {__name__}.note (discarded)"
        )

    def test_failure_reports_that_nothing_was_pushed(self) -> None:
        with capture() as tasks, pytest.raises(AssertionError, match=r"Nothing was pushed\.$"):
            tasks.assert_pushed(note)

    def test_unexpected_pushes_are_listed(self, nowhere: Gator) -> None:
        with capture() as tasks:
            nowhere.task(note, 1)

        with pytest.raises(AssertionError, match=r"note\(1\) on 'all'"):
            tasks.assert_not_pushed(note)
        with pytest.raises(AssertionError, match=r"^A task\(\.\.\.\) was pushed once"):
            tasks.assert_not_pushed()


class TestRun:
    def test_captured_tasks_are_run_in_order_and_only_once(self, nowhere: Gator) -> None:
        with capture() as tasks:
            first = nowhere.task(note, (1,))
            nowhere.task(note, 2)
            ran = tasks.run()
            again = tasks.run()

        assert calls == [([1],), (2,)]
        assert [task.result for task in ran] == [[1], 2]
        assert again == []
        assert (first.status, first.result) == (SUCCESS, [1])
        assert len(tasks) == 2

    def test_tasks_started_by_captured_tasks_are_recorded_and_run_after_them(
        self, nowhere: Gator
    ) -> None:
        with capture() as tasks:
            nowhere.task(start_another, 2)
            tasks.run()

        assert calls == ["begin 2", "end 2", "begin 1", "end 1", "begin 0", "end 0"]
        tasks.assert_pushed(start_another, times=3)

    def test_retries_follow_at_once_and_hooks_fire(self, nowhere: Gator) -> None:
        with capture() as tasks:
            with nowhere.options(retries=2, on_error=tell_error) as opts:
                opts.task(fail_twice, "x")
            tasks.run()

        assert calls == ["x", "failed with attempt 1", "x", "failed with attempt 2", "x"]

    def test_failure_propagates_and_the_next_run_continues(self, nowhere: Gator) -> None:
        with capture() as tasks:
            nowhere.task(fail, "broken")
            nowhere.task(note, 1)
            with pytest.raises(ValueError, match="broken"):
                tasks.run()
            tasks.run()

        assert calls == ["broken", (1,)]

    def test_failure_is_logged_when_it_must_not_propagate(
        self, nowhere: Gator, caplog: pytest.LogCaptureFixture
    ) -> None:
        with capture() as tasks:
            nowhere.task(fail, "broken")
            nowhere.task(note, 1)
            tasks.run(propagate=False)

        assert calls == ["broken", (1,)]
        assert "broken" in caplog.text

    def test_tasks_that_start_each_other_without_end_are_an_error(
        self, nowhere: Gator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(testing, "MAX_INLINE_TASKS", 20)

        with capture() as tasks, pytest.raises(TooManyTasks, match="without end"):
            nowhere.task(start_endlessly)
            tasks.run()

    def test_run_after_its_block_is_refused(self, nowhere: Gator) -> None:
        with capture() as tasks:
            nowhere.task(note, 1)

        with pytest.raises(ConfigurationError, match="over"):
            tasks.run()


class TestDrain:
    def test_everything_that_is_ready_runs(self, queue: Gator) -> None:
        queue.task(note, 1)
        queue.task(note_later, 2)

        assert drain(queue) == 2
        assert drain(queue) == 0
        assert calls == [(1,), 2]
        assert queue.stats().succeeded == 2

    def test_tasks_started_by_drained_tasks_run(self, queue: Gator) -> None:
        queue.task(start_another, 2)

        assert drain(queue) == 3
        assert calls == ["begin 2", "end 2", "begin 1", "end 1", "begin 0", "end 0"]

    def test_retries_follow_without_their_pauses(self, queue: Gator) -> None:
        with queue.options(retries=2, backoff=60) as opts:
            opts.task(fail_twice, "x")

        assert drain(queue) == 1
        assert calls == ["x", "x", "x"]

    def test_first_failure_propagates_and_leaves_a_dead_letter(self, queue: Gator) -> None:
        queue.task(fail, "broken")
        queue.task(note, 1)

        with pytest.raises(ValueError, match="broken"):
            drain(queue)

        assert [letter.reason for letter in queue.dead_letters()] == ["ValueError: broken"]
        assert queue.len() == 1

    def test_failures_become_dead_letters_if_they_do_not_propagate(self, queue: Gator) -> None:
        queue.task(fail, "broken")
        queue.task(note, 1)

        assert drain(queue, propagate=False) == 2
        assert calls == ["broken", (1,)]
        assert len(queue.dead_letters()) == 1

    def test_scheduled_tasks_stay(self, queue: Gator) -> None:
        with queue.options(delay_by=3600) as opts:
            task = opts.task(note, 1)

        assert drain(queue) == 0

        queue.get(task.task_id)
        assert calls == [(1,)]

    def test_several_queues_are_worked_off_in_order_of_priority(self, queue: Gator) -> None:
        queue.task(note, 1)
        with queue.options(queue_name=f"urgent {queue.queue_name}") as opts:
            opts.task(note, 2)

        assert drain(queue, [f"urgent {queue.queue_name}", "all"]) == 2
        assert calls == [(2,), (1,)]

    def test_tasks_that_start_each_other_without_end_are_an_error(
        self, queue: Gator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(testing, "MAX_INLINE_TASKS", 20)
        queue.task(start_endlessly)

        with pytest.raises(TooManyTasks, match="without end"):
            drain(queue)
