"""`Gator`, the one object that a project configures: arguments, tasks, options, representation."""

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from alligator import (
    CANCELED,
    SUCCESS,
    WAITING,
    Gator,
    Options,
    Task,
    Transaction,
    Worker,
)
from alligator.backends.base import Message
from alligator.backends.locmem_backend import Client as Locmem
from alligator.exceptions import (
    BackendUnavailable,
    ConfigurationError,
    NotImportable,
    NotSerializable,
    TaskTooLarge,
)
from tests.harness.sample_tasks import add, add_later, fail

ROOT = Path(__file__).parent.parent


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


# Pushing tasks.


def test_task_is_on_the_queue_when_the_call_returns(gator: Gator) -> None:
    task = gator.task(add, 1, b=2)

    assert (gator.len(), task.status) == (1, WAITING)
    assert json.loads(gator.client.reserve("all")[0].data)["kwargs"] == {"b": 2}


def test_options_and_transactions_are_made_here(gator: Gator) -> None:
    assert isinstance(gator.options(), Options)
    assert isinstance(gator.transaction(), Transaction)
    assert gator.current is None


def test_current_transaction_is_the_innermost(gator: Gator) -> None:
    with gator.transaction() as outer:
        with gator.transaction() as inner:
            inside = gator.current
        between = gator.current

    assert (inside, between, gator.current) == (inner, outer, None)


def test_task_object_is_pushed_with_its_options(gator: Gator) -> None:
    task = Task(task_id="mine", retries=2, delay_by=60)

    pushed = gator.push(task, add, 1, 2)

    assert pushed is task
    assert (gator.stats().scheduled, gator.stats().ready) == (1, 0)


def test_task_object_that_is_not_async_runs_at_once(gator: Gator) -> None:
    task = gator.push(Task(is_async=False), add, 1, 2)

    assert (task.result, task.status, gator.len()) == (3, SUCCESS, 0)


def test_waiting_id_is_not_queued_twice(gator: Gator) -> None:
    opts = gator.options(task_id="nightly")

    opts.task(add, 1, 2)
    opts.task(add, 3, 4)

    assert gator.len() == 1


def test_task_goes_to_the_queue_it_names(gator: Gator) -> None:
    gator.options(queue_name="mail").task(add, 1, 2)

    assert (gator.len(), gator.client.len("mail")) == (0, 1)


def test_defaults_apply_to_every_task() -> None:
    gator = Gator("locmem://", defaults={"retries": 4, "timeout": 9})

    plain, other = gator.task(add, 1, 2), gator.options(retries=1).task(add, 1, 2)

    assert [plain.retries, other.retries] == [4, 1]
    assert [plain.timeout, other.timeout] == [9, 9]


def test_defaults_do_not_apply_to_a_task_object() -> None:
    gator = Gator("locmem://", defaults={"retries": 4})

    assert gator.push(Task(), add, 1, 2).retries == 0


@pytest.mark.parametrize("word", [False, "False", "0", "off", lambda: False, lambda: "no"])
def test_gator_can_run_tasks_inline(word: Any) -> None:
    gator = Gator("locmem://", is_async=word)

    task = gator.task(add, 1, 2)

    assert (task.result, task.status, gator.len()) == (3, SUCCESS, 0)


def test_is_async_of_the_defaults_is_a_switch() -> None:
    gator = Gator("locmem://", defaults={"is_async": "off"})

    assert gator.task(add, 1, 2).result == 3
    assert gator.options(is_async=True).task(add, 1, 2).status == WAITING


def test_switch_is_evaluated_for_each_task() -> None:
    answers = deque([True, False])
    gator = Gator("locmem://", is_async=answers.popleft)

    first, second = gator.task(add, 1, 2), gator.task(add, 1, 2)

    assert (first.status, second.status) == (WAITING, SUCCESS)


def test_switch_can_be_changed_later(gator: Gator) -> None:
    gator.is_async = "off"

    assert gator.is_async is False
    assert gator.task(add, 1, 2).result == 3


def test_invalid_switch_is_refused() -> None:
    with pytest.raises(ValueError, match="is_async is one of true"):
        Gator("locmem://", is_async="perhaps")


def test_value_that_cannot_be_a_task_is_refused_at_the_call(gator: Gator) -> None:
    with pytest.raises(NotImportable):
        gator.task(lambda: None)
    with pytest.raises(NotSerializable):
        gator.task(add, object(), 2)  # type: ignore[arg-type]

    assert gator.len() == 0


def test_task_that_is_too_large_is_refused_at_the_call() -> None:
    gator = Gator("locmem://", max_task_bytes=1000)

    with pytest.raises(
        TaskTooLarge, match=r"tests\.harness\.sample_tasks\.add takes 1,\d+ bytes.*pass an id"
    ):
        gator.task(add, "x" * 1000, 2)  # type: ignore[arg-type]
    gator.task(add, "x" * 500, 2)  # type: ignore[arg-type]

    assert gator.len() == 1


def test_size_is_counted_in_bytes() -> None:
    gator = Gator("locmem://", max_task_bytes=1000)

    with pytest.raises(TaskTooLarge):
        gator.task(add, "é" * 400, 2)  # type: ignore[arg-type]


def test_unreachable_store_is_reported() -> None:
    gator = Gator("locmem://", backend_class=Away)
    task = Task()

    with pytest.raises(BackendUnavailable):
        gator.push(task, add, 1, 2)

    assert task.status == CANCELED


class Away(Locmem):
    """A store that accepts no tasks."""

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        raise BackendUnavailable("gone fishing")


# Running tasks.


def test_each_attempt_is_made_in_the_gators_context() -> None:
    entered: list[str] = []

    @contextmanager
    def context() -> Iterator[None]:
        entered.append("in")
        yield
        entered.append("out")

    gator = Gator("locmem://", task_context=context)
    gator.task(add, 1, 2)
    gator.pop()
    gator.options(is_async=False).task(add, 1, 2)

    assert entered == ["in", "out"] * 2


def test_coroutine_functions_are_tasks_too(gator: Gator) -> None:
    gator.task(add_later, 1, 2)

    task = gator.pop()

    assert task is not None
    assert task.result == 3


# Canceling tasks.


@pytest.mark.parametrize("delay", [0, 60])
def test_waiting_task_can_be_canceled(gator: Gator, delay: float) -> None:
    task = gator.options(delay_by=delay).task(add, 1, 2)

    canceled = gator.cancel(task.task_id)

    assert canceled is not None
    assert (canceled.task_id, canceled.status, gator.len()) == (task.task_id, CANCELED, 0)
    assert gator.cancel(task.task_id) is None
    assert gator.pop() is None


def test_task_that_a_worker_has_can_be_canceled(gator: Gator) -> None:
    task = gator.task(add, 1, 2)
    gator.client.reserve("all")

    canceled = gator.cancel(task.task_id)

    assert canceled is not None
    assert (canceled.status, canceled.was_running) == (CANCELED, True)
    assert gator.cancel(task.task_id) is None


def test_task_that_has_failed_cannot_be_canceled(gator: Gator) -> None:
    task = gator.task(fail)
    with pytest.raises(RuntimeError):
        gator.pop()

    assert gator.cancel(task.task_id) is None


# The queue.


def test_len_counts_what_waits(gator: Gator) -> None:
    gator.task(add, 1, 2)
    gator.task(add, 1, 2)
    gator.options(delay_by=60).task(add, 1, 2)
    gator.options(queue_name="other").task(add, 1, 2)
    gator.client.reserve("all")

    assert gator.len() == 2


def test_stats_measure_the_queue(gator: Gator) -> None:
    for _ in range(4):
        gator.task(add, 1, 2)
    gator.options(delay_by=60).task(add, 1, 2)
    gator.pop()
    gator.client.reserve("all")

    stats = gator.stats()

    assert (stats.ready, stats.scheduled, stats.leased, stats.dead) == (2, 1, 1, 0)
    assert (stats.pushed, stats.succeeded) == (5, 1)


def test_dead_tasks_are_listed_retried_and_dropped(gator: Gator) -> None:
    first, second = gator.task(fail, "first"), gator.task(fail, "second")
    Worker(gator, burst=True).run_forever()
    reasons = [letter.reason for letter in gator.dead_letters()]

    retried, dropped = gator.retry_dead(first.task_id), gator.drop_dead(second.task_id)

    assert reasons == ["RuntimeError: second", "RuntimeError: first"]
    assert (retried, dropped) == (True, True)
    assert (gator.len(), gator.dead_letters()) == (1, [])
    assert gator.retry_dead(second.task_id) is gator.drop_dead(second.task_id) is False


def test_list_of_dead_tasks_has_a_limit(gator: Gator) -> None:
    for _ in range(5):
        gator.task(fail)
    Worker(gator, burst=True).run_forever()

    assert len(gator.dead_letters(3)) == 3
    assert len(gator.dead_letters()) == 5


# Settings.


def test_making_one_connects_to_nothing() -> None:
    pytest.importorskip("redis")

    gator = Gator("redis://no.such.host.invalid:1/0")

    assert gator.queue_name == "all"


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 201, None, 7])
def test_queue_name_is_checked(name: Any) -> None:
    with pytest.raises(ConfigurationErrorOrTaskError, match="queue_name is 1 to 200"):
        Gator("locmem://", name)


ConfigurationErrorOrTaskError = (ConfigurationError, ValueError)


def test_no_password_shows() -> None:
    pytest.importorskip("redis")
    gator = Gator("redis://app:s3cret@db.example:6379/0?password=s3cret")

    assert repr(gator) == "<Gator 'all' on redis://app:***@db.example:6379/0?password=***>"
    assert "s3cret" not in repr(gator.client)


# Custom task and backend classes.


class Teamed(Task):
    """A task with a field of its own that its payload keeps."""

    def __init__(self, *args: Any, team: str = "none", **options: Any) -> None:
        super().__init__(*args, **options)
        self.team = team

    def serialize(self) -> str:
        return json.dumps({**json.loads(super().serialize()), "team": self.team})

    @classmethod
    def deserialize(cls, data: str) -> "Teamed":
        task = super().deserialize(data)
        task.team = json.loads(data)["team"]
        return task


def test_custom_task_class_is_used_everywhere() -> None:
    gator = Gator("locmem://", task_class=Teamed)
    with gator.transaction(team="ops"):  # type: ignore[call-arg]
        gator.task(add, 1, 2)

    task = gator.pop()

    assert isinstance(task, Teamed)
    assert (task.team, task.result) == ("ops", 3)


# Threads and processes.


def test_fifty_threads_share_one_gator(gator: Gator) -> None:
    def work() -> None:
        for number in range(20):
            with gator.transaction():
                gator.task(add, number, 1)
            gator.task(add, number, 2)
            gator.pop()

    threads = [Thread(target=work) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert gator.stats().pushed == 2000
    assert gator.stats().succeeded == 1000
    assert gator.len() == 1000


def in_child(work: Any) -> int:
    """Fork, do the work in the child, and return how the child ended; 9 if it did not."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return 9


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_pushes_to_the_same_file(tmp_path: Path) -> None:
    gator = Gator(f"sqlite://{tmp_path}/queue.db")
    gator.task(add, 1, 2)

    status = in_child(lambda: gator.task(add, 3, 4))
    gator.task(add, 5, 6)

    assert status == 0
    assert gator.len() == 3


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_has_its_own_memory_while_a_thread_was_using_it() -> None:
    gator = Gator("locmem://")
    gator.task(add, 1, 2)
    holds, forked = Event(), Event()

    def hold() -> None:
        with gator.backend._store.changed:
            holds.set()
            forked.wait(10)

    thread = Thread(target=hold)
    thread.start()
    holds.wait(10)
    status = in_child(lambda: gator.task(add, 3, 4))
    forked.set()
    thread.join()

    assert status == 0
    assert gator.len() == 1


def test_program_without_coroutines_does_not_load_asyncio() -> None:
    code = (
        "import sys\n"
        "from alligator import Gator\n"
        "from random import choice\n"
        "gator = Gator('locmem://')\n"
        "with gator.transaction(): gator.task(choice, [1])\n"
        "gator.pop()\n"
        "print('asyncio' in sys.modules)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)

    assert done.stdout == "False\n", done.stderr
