"""The one object that a project configures: what it takes in, hands out, and says of itself."""

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
    FAILED,
    RETRYING,
    SUCCESS,
    WAITING,
    Gator,
    Options,
    Task,
    Transaction,
    Worker,
    current_task,
)
from alligator.backends.base import Message
from alligator.backends.locmem_backend import Client as Locmem
from alligator.constants import AT_LEAST_ONCE, AT_MOST_ONCE
from alligator.exceptions import (
    BackendError,
    BackendUnavailable,
    ConfigurationError,
    NotImportable,
    NotSerializable,
    TaskTooLarge,
    UnknownBackend,
)
from tests.sample_tasks import add, add_later, fail

ROOT = Path(__file__).parent.parent


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


# Tasks in.


def test_a_task_is_on_the_queue_when_the_call_returns(gator: Gator) -> None:
    task = gator.task(add, 1, b=2)

    assert (gator.len(), task.status) == (1, WAITING)
    assert json.loads(gator.client.reserve("all")[0].data)["kwargs"] == {"b": 2}


def test_options_and_transactions_are_made_here(gator: Gator) -> None:
    assert isinstance(gator.options(), Options)
    assert isinstance(gator.transaction(), Transaction)
    assert gator.current is None


def test_the_current_transaction_is_the_innermost(gator: Gator) -> None:
    with gator.transaction() as outer:
        with gator.transaction() as inner:
            inside = gator.current
        between = gator.current

    assert (inside, between, gator.current) == (inner, outer, None)


def test_a_task_of_ones_own_making_is_pushed_with_its_options(gator: Gator) -> None:
    task = Task(task_id="mine", retries=2, delay_by=60)

    pushed = gator.push(task, add, 1, 2)

    assert pushed is task
    assert (gator.stats().scheduled, gator.stats().ready) == (1, 0)


def test_a_task_of_ones_own_making_runs_at_once_when_it_says_so(gator: Gator) -> None:
    task = gator.push(Task(is_async=False), add, 1, 2)

    assert (task.result, task.status, gator.len()) == (3, SUCCESS, 0)


def test_an_id_that_is_on_the_queue_already_is_not_put_there_twice(gator: Gator) -> None:
    opts = gator.options(task_id="nightly")

    opts.task(add, 1, 2)
    opts.task(add, 3, 4)

    assert gator.len() == 1


def test_a_task_goes_to_the_queue_it_names(gator: Gator) -> None:
    gator.options(queue_name="mail").task(add, 1, 2)

    assert (gator.len(), gator.client.len("mail")) == (0, 1)


def test_the_gators_defaults_are_for_every_task() -> None:
    gator = Gator("locmem://", defaults={"retries": 4, "timeout": 9})

    plain, other = gator.task(add, 1, 2), gator.options(retries=1).task(add, 1, 2)

    assert [plain.retries, other.retries] == [4, 1]
    assert [plain.timeout, other.timeout] == [9, 9]


def test_the_gators_defaults_leave_a_task_of_ones_own_making_alone() -> None:
    gator = Gator("locmem://", defaults={"retries": 4})

    assert gator.push(Task(), add, 1, 2).retries == 0


@pytest.mark.parametrize("word", [False, "False", "0", "off", lambda: False, lambda: "no"])
def test_a_gator_may_run_tasks_in_this_process(word: Any) -> None:
    gator = Gator("locmem://", is_async=word)

    task = gator.task(add, 1, 2)

    assert (task.result, task.status, gator.len()) == (3, SUCCESS, 0)


def test_the_switch_of_the_defaults_is_one_too() -> None:
    gator = Gator("locmem://", defaults={"is_async": "off"})

    assert gator.task(add, 1, 2).result == 3
    assert gator.options(is_async=True).task(add, 1, 2).status == WAITING


def test_the_switch_is_asked_at_each_task() -> None:
    answers = deque([True, False])
    gator = Gator("locmem://", is_async=answers.popleft)

    first, second = gator.task(add, 1, 2), gator.task(add, 1, 2)

    assert (first.status, second.status) == (WAITING, SUCCESS)


def test_the_switch_may_be_turned_later(gator: Gator) -> None:
    gator.is_async = "off"

    assert gator.is_async is False
    assert gator.task(add, 1, 2).result == 3


def test_a_switch_that_is_neither_on_nor_off_is_refused() -> None:
    with pytest.raises(ValueError, match="is_async is one of true"):
        Gator("locmem://", is_async="perhaps")


def test_what_cannot_be_a_task_is_refused_at_the_call(gator: Gator) -> None:
    with pytest.raises(NotImportable):
        gator.task(lambda: None)
    with pytest.raises(NotSerializable):
        gator.task(add, object(), 2)  # type: ignore[arg-type]

    assert gator.len() == 0


def test_a_task_that_is_too_large_is_refused_at_the_call() -> None:
    gator = Gator("locmem://", max_task_bytes=1000)

    with pytest.raises(
        TaskTooLarge, match=r"tests\.sample_tasks\.add takes 1,\d+ bytes.*pass an id"
    ):
        gator.task(add, "x" * 1000, 2)  # type: ignore[arg-type]
    gator.task(add, "x" * 500, 2)  # type: ignore[arg-type]

    assert gator.len() == 1


def test_size_is_counted_in_bytes() -> None:
    gator = Gator("locmem://", max_task_bytes=1000)

    with pytest.raises(TaskTooLarge):
        gator.task(add, "é" * 400, 2)  # type: ignore[arg-type]


def test_a_store_that_is_away_is_no_secret() -> None:
    gator = Gator("locmem://", backend_class=Away)
    task = Task()

    with pytest.raises(BackendUnavailable):
        gator.push(task, add, 1, 2)

    assert task.status == CANCELED


class Away(Locmem):
    """A store that takes nothing."""

    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        raise BackendUnavailable("gone fishing")


# In this process.


attempts: list[int] = []


@pytest.fixture(autouse=True)
def no_attempts() -> None:
    attempts.clear()


def fail_twice() -> str:
    """Succeed at the third attempt."""
    task = current_task()
    assert task is not None
    attempts.append(task.attempt)
    if len(attempts) < 3:
        raise RuntimeError("not yet")
    return "done"


def test_retries_follow_at_once() -> None:
    gator = Gator("locmem://", is_async=False)
    start = time.monotonic()

    task = gator.options(retries=5, backoff=60).task(fail_twice)

    assert (task.result, task.status, attempts) == ("done", SUCCESS, [1, 2, 3])
    assert time.monotonic() - start < 30  # of the minutes that a worker would let pass


def test_what_the_last_attempt_raises_goes_up() -> None:
    gator = Gator("locmem://", is_async=False)
    task = Task(retries=1, is_async=False)

    with pytest.raises(RuntimeError, match="not yet"):
        gator.push(task, fail_twice)

    assert (attempts, task.status) == ([1, 2], FAILED)


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


# Tasks out.


def test_pop_runs_the_next_task_here(gator: Gator) -> None:
    first, second = gator.task(add, 1, 2), gator.task(add, 3, 4)

    popped = [gator.pop(), gator.pop()]

    assert [(task.task_id, task.result) for task in popped if task] == [
        (first.task_id, 3),
        (second.task_id, 7),
    ]
    assert gator.pop() is None
    assert gator.stats().succeeded == 2


def test_a_task_that_fails_when_popped_is_dead_and_says_why(gator: Gator) -> None:
    gator.task(fail, "no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        gator.pop()

    assert gator.stats().dead == 1


def test_a_task_with_retries_goes_back_when_popped(gator: Gator) -> None:
    gator.options(retries=1, backoff=0).task(fail, "no luck")

    task = gator.pop()

    assert task is not None
    assert (task.status, gator.len()) == (RETRYING, 1)
    with pytest.raises(RuntimeError):
        gator.pop()


def test_get_runs_that_task_here_though_its_time_has_not_come(gator: Gator) -> None:
    gator.task(add, 1, 2)
    later = gator.options(delay_by=60).task(add, 3, 4)

    task = gator.get(later.task_id)

    assert task is not None
    assert (task.result, gator.len()) == (7, 1)
    assert gator.get(later.task_id) is None
    assert gator.get("no such task") is None


@pytest.mark.parametrize("delay", [0, 60])
def test_a_task_that_waits_can_be_canceled(gator: Gator, delay: float) -> None:
    task = gator.options(delay_by=delay).task(add, 1, 2)

    canceled = gator.cancel(task.task_id)

    assert canceled is not None
    assert (canceled.task_id, canceled.status, gator.len()) == (task.task_id, CANCELED, 0)
    assert gator.cancel(task.task_id) is None
    assert gator.pop() is None


def test_a_task_that_runs_cannot_be_canceled(gator: Gator) -> None:
    task = gator.task(add, 1, 2)
    gator.client.reserve("all")

    assert gator.cancel(task.task_id) is None


# How things are.


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


def test_the_dead_are_listed_retried_and_dropped(gator: Gator) -> None:
    first, second = gator.task(fail, "first"), gator.task(fail, "second")
    Worker(gator, burst=True).run_forever()
    reasons = [letter.reason for letter in gator.dead_letters()]

    retried, dropped = gator.retry_dead(first.task_id), gator.drop_dead(second.task_id)

    assert reasons == ["RuntimeError: second", "RuntimeError: first"]
    assert (retried, dropped) == (True, True)
    assert (gator.len(), gator.dead_letters()) == (1, [])
    assert gator.retry_dead(second.task_id) is gator.drop_dead(second.task_id) is False


def test_so_many_of_the_dead_are_listed(gator: Gator) -> None:
    for _ in range(5):
        gator.task(fail)
    Worker(gator, burst=True).run_forever()

    assert len(gator.dead_letters(3)) == 3
    assert len(gator.dead_letters()) == 5


# How it is set up.


def test_making_one_connects_to_nothing() -> None:
    pytest.importorskip("redis")

    gator = Gator("redis://no.such.host.invalid:1/0")

    assert gator.queue_name == "all"


@pytest.mark.parametrize("dsn", ["pigeon://coop", "pigeon", "", "redis:/localhost", "://"])
def test_a_dsn_of_no_backend_names_those_there_are(dsn: str) -> None:
    with pytest.raises(UnknownBackend, match=r"locmem://, sqlite://, redis://.*backend_class="):
        Gator(dsn)


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 201, None, 7])
def test_a_queue_has_a_decent_name(name: Any) -> None:
    with pytest.raises(ConfigurationErrorOrTaskError, match="queue_name is 1 to 200"):
        Gator("locmem://", name)


ConfigurationErrorOrTaskError = (ConfigurationError, ValueError)


def test_two_plain_gators_in_memory_share_nothing() -> None:
    first, second = Gator("locmem://"), Gator("locmem://")

    first.task(add, 1, 2)

    assert (first.len(), second.len()) == (1, 0)


def test_gators_in_memory_of_one_name_share_it() -> None:
    first, second, other = Gator("locmem://a"), Gator("locmem://a"), Gator("locmem://b")

    first.task(add, 1, 2)

    assert (second.len(), other.len()) == (1, 0)


def test_the_environment_says_all_there_is_to_say() -> None:
    gator = Gator.from_env(
        {
            "ALLIGATOR_CONN": "locmem://",
            "ALLIGATOR_PREFIX": "test",
            "ALLIGATOR_ASYNC": "False",
            "ALLIGATOR_SECRET": "new, old",
            "ALLIGATOR_ALLOW": "tests.*, myapp.*",
        }
    )

    assert (gator.queue_name, gator.is_async) == ("test_all", False)
    assert gator.guard.open("all", "a", gator.guard.seal("all", "a", "data")) == "data"
    assert gator.task(add, 1, 2).result == 3


def test_an_environment_of_a_dsn_alone_will_do() -> None:
    gator = Gator.from_env({"ALLIGATOR_CONN": "locmem://", "ALLIGATOR_PREFIX": ""})

    assert (gator.queue_name, gator.is_async) == ("all", True)
    assert gator.guard.seal("all", "a", "data") == "data"


def test_an_environment_without_a_dsn_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match=r"ALLIGATOR_CONN is not set.*sqlite:///"):
        Gator.from_env({})


def test_what_the_program_says_goes_before_the_environment() -> None:
    environ = {"ALLIGATOR_CONN": "locmem://", "ALLIGATOR_PREFIX": "a", "ALLIGATOR_ASYNC": "0"}

    gator = Gator.from_env(environ, queue_name="mine", is_async=True, defaults={"retries": 2})

    assert (gator.queue_name, gator.is_async, gator.task(add, 1, 2).retries) == ("mine", True, 2)


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLIGATOR_CONN", "locmem://")
    monkeypatch.setenv("ALLIGATOR_PREFIX", "here")

    assert Gator.from_env().queue_name == "here_all"


def test_no_password_shows() -> None:
    pytest.importorskip("redis")
    gator = Gator("redis://app:s3cret@db.example:6379/0?password=s3cret")

    assert repr(gator) == "<Gator 'all' on redis://app:***@db.example:6379/0?password=***>"
    assert "s3cret" not in repr(gator.client)


@pytest.mark.parametrize(
    "dsn", ["pigeon://app:s3cret@host", "redis:/app:s3cret@host", "app:s3cret@host", "p?x=s3cret"]
)
def test_no_password_shows_in_errors(dsn: str) -> None:
    with pytest.raises(UnknownBackend) as caught:
        Gator(dsn)

    assert "s3cret" not in str(caught.value)


# A task class and a backend class of one's own.


class Teamed(Task):
    """A task that knows whose it is, and keeps it on its way."""

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


def test_a_task_class_of_ones_own_goes_all_the_way() -> None:
    gator = Gator("locmem://", task_class=Teamed)
    with gator.transaction(team="ops"):  # type: ignore[call-arg]
        gator.task(add, 1, 2)

    task = gator.pop()

    assert isinstance(task, Teamed)
    assert (task.team, task.result) == ("ops", 3)


class Duck:
    """A backend as Alligator 1.0 knew them: five methods and no base class."""

    def __init__(self, conn_string: str) -> None:
        self.conn_string = conn_string
        self.queues: dict[str, dict[str, str]] = {}
        self.delays: list[float | None] = []
        self.fails_at = 0

    def len(self, queue_name: str) -> int:
        return len(self.queues.get(queue_name, {}))

    def drop_all(self, queue_name: str) -> None:
        self.queues.pop(queue_name, None)

    def push(
        self, queue_name: str, task_id: str, data: str, delay_until: float | None = None
    ) -> str:
        self.queues.setdefault(queue_name, {})[task_id] = data
        self.delays.append(delay_until)
        self.fails_at -= 1
        if self.fails_at == 0:
            raise ConnectionError("the answer was lost")
        return task_id

    def pop(self, queue_name: str) -> str | None:
        queue = self.queues.get(queue_name)
        return queue.pop(next(iter(queue))) if queue else None

    def get(self, queue_name: str, task_id: str) -> str | None:
        return self.queues.get(queue_name, {}).pop(task_id, None)


@pytest.fixture
def duck() -> Gator:
    return Gator("duck://pond", backend_class=Duck)


def test_a_backend_of_five_methods_will_do(duck: Gator) -> None:
    first, second = duck.task(add, 1, 2), duck.task(add, 3, 4)

    assert isinstance(duck.backend, Duck)
    assert duck.backend.conn_string == "duck://pond"
    assert duck.len() == 2
    assert duck.cancel(second.task_id) is not None
    popped = duck.pop()
    assert popped is not None
    assert (popped.task_id, popped.result) == (first.task_id, 3)
    assert duck.pop() is None


def test_a_backend_of_five_methods_is_given_the_moment_of_a_delay(duck: Gator) -> None:
    duck.task(add, 1, 2)
    duck.options(delay_by=60).task(add, 1, 2)

    none, moment = duck.backend.delays

    assert none is None
    assert abs(moment - time.time() - 60) < 5


def test_a_backend_of_five_methods_says_that_it_may_lose_tasks(gator: Gator, duck: Gator) -> None:
    assert duck.client.delivery == AT_MOST_ONCE
    assert "a task whose worker dies is lost" in duck.client.warnings()[0]
    assert gator.client.delivery == AT_LEAST_ONCE


def test_a_worker_runs_the_tasks_of_a_backend_of_five_methods(
    duck: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    duck.task(add, 1, 2)
    duck.options(retries=1, backoff=0).task(fail, "no luck")
    duck.backend.push("all", "bad", "garbage")

    worker = Worker(duck, burst=True)
    worker.run_forever()

    assert (worker.tasks_complete, duck.len()) == (4, 0)
    assert "no luck" in caplog.text
    assert "keeps no dead letters" in caplog.text


@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_commit_that_fails_midway_leaves_nothing_in_a_backend_of_five_methods(
    duck: Gator, place: int
) -> None:
    duck.backend.fails_at = place

    with pytest.raises(BackendError, match="the answer was lost"), duck.transaction():
        tasks = [duck.task(add, 1, 2) for _ in range(3)]

    assert duck.len() == 0
    assert [task.status for task in tasks] == [CANCELED] * 3


def test_a_commit_to_a_backend_of_five_methods_can_be_undone(duck: Gator) -> None:
    with duck.transaction() as tx:
        duck.task(add, 1, 2)

    tx.undo()

    assert duck.len() == 0


def test_a_backend_class_may_be_a_client() -> None:
    gator = Gator("locmem://", backend_class=Locmem)

    assert gator.client is gator.backend


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
def test_a_forked_child_pushes_to_the_same_file(tmp_path: Path) -> None:
    gator = Gator(f"sqlite://{tmp_path}/queue.db")
    gator.task(add, 1, 2)

    status = in_child(lambda: gator.task(add, 3, 4))
    gator.task(add, 5, 6)

    assert status == 0
    assert gator.len() == 3


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_the_memory_to_itself_though_another_thread_was_using_it() -> None:
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


def test_a_program_that_uses_no_coroutine_does_not_pay_for_them() -> None:
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
