"""What the tutorial, the best practices and projects of Alligator 1.0 do works as they do it."""

import importlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from alligator import RETRYING, SUCCESS, WAITING, Gator, Task, Worker, constants
from alligator.options import Options

REDIS = "redis://localhost:6379/0"

MYAPP = {
    "mail.py": '''
sent = []

def send_post_email(user_id, post_id):
    """Notify the followers of a user about a post."""
    sent.append((user_id, post_id))
    return len(sent)

def send_after_two_failures(user_id):
    sent.append(user_id)
    if len(sent) < 3:
        raise ConnectionError("the mail server is having a bad day")
    return "at last"
''',
    "gator.py": """
import os
from alligator import Gator

gator = Gator(os.environ["ALLIGATOR_CONN"])
""",
    "views.py": """
import os
from myapp.gator import gator
from myapp.mail import send_post_email

def new_post(user_id):
    gator.task(send_post_email, user_id, post_id=7)
    return "redirect"

def new_post_in_step(user_id):
    with gator.options(**{"async": os.environ["ALLIGATOR_ASYNC"]}) as opts:
        opts.task(send_post_email, user_id, post_id=7)
    return "redirect"
""",
    "hooks.py": """
seen = []

def starting(task):
    seen.append(("start", task.status))

def succeeded(task, result):
    seen.append(("success", task.status, result))

def failed(task, error):
    seen.append(("error", task.status, str(error)))
""",
}


@pytest.fixture
def myapp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """A web application, whose modules are imported with ``myapp("mail")``."""
    package = tmp_path / "myapp"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, text in MYAPP.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ALLIGATOR_CONN", "locmem://")

    def module(name: str) -> ModuleType:
        return importlib.import_module(f"myapp.{name}")

    yield module
    for name in [name for name in sys.modules if name.partition(".")[0] == "myapp"]:
        del sys.modules[name]


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


def work_off(gator: Gator) -> None:
    """Do what a worker does until there is nothing to do."""
    Worker(gator, nap_time=0, burst=True).run_forever()


class TestTutorial:
    @pytest.mark.parametrize("dsn", ["redis://localhost:6379/0", "redis://nobody.example:1/9"])
    def test_gator_is_created_without_connecting(self, dsn: str) -> None:
        gator = Gator(dsn)

        assert gator.conn_string == dsn
        assert gator.queue_name == "all"

    def test_plain_function_is_called_by_a_worker(
        self, gator: Gator, myapp: Callable[[str], Any]
    ) -> None:
        mail = myapp("mail")

        task = gator.task(mail.send_post_email, 1, 2)
        before = (gator.len(), list(mail.sent), task.status)
        work_off(gator)

        assert before == (1, [], WAITING)
        assert (gator.len(), mail.sent) == (0, [(1, 2)])

    def test_worker_runs_until_it_has_done_its_number(
        self, gator: Gator, myapp: Callable[[str], Any]
    ) -> None:
        for number in range(3):
            gator.task(myapp("mail").send_post_email, number, 2)

        worker = Worker(gator, max_tasks=2)

        assert worker.run_forever() == 0
        assert worker.tasks_complete == 2
        assert gator.len() == 1

    def test_three_retries_make_up_for_two_failures(
        self, gator: Gator, myapp: Callable[[str], Any]
    ) -> None:
        mail = myapp("mail")

        with gator.options(retries=3, backoff=0) as opts:
            opts.task(mail.send_after_two_failures, 1)
        work_off(gator)

        assert mail.sent == [1, 1, 1]
        assert gator.stats().succeeded == 1

    @pytest.mark.parametrize("options", [{"is_async": False}, {"async": False}])
    def test_task_that_is_not_asynchronous_runs_at_once(
        self, myapp: Callable[[str], Any], options: dict[str, Any]
    ) -> None:
        mail, hooks = myapp("mail"), myapp("hooks")
        gator = Gator("redis://127.0.0.1:1/0")  # no server listens there, and none is needed

        with gator.options(retries=3, on_error=hooks.failed, **options) as opts:
            task = opts.task(mail.send_after_two_failures, 1)

        assert (task.status, task.result) == (SUCCESS, "at last")
        assert [name for name, *_ in hooks.seen] == ["error", "error"]

    def test_exception_of_a_task_that_is_not_asynchronous_is_raised(
        self, gator: Gator, myapp: Callable[[str], Any]
    ) -> None:
        with gator.options(is_async=False) as opts, pytest.raises(ConnectionError, match="bad day"):
            opts.task(myapp("mail").send_after_two_failures, 1)

    def test_hooks_are_told_of_the_task(self, gator: Gator, myapp: Callable[[str], Any]) -> None:
        hooks = myapp("hooks")

        with gator.options(
            retries=2,
            backoff=0,
            on_start=hooks.starting,
            on_success=hooks.succeeded,
            on_error=hooks.failed,
        ) as opts:
            opts.task(myapp("mail").send_after_two_failures, 1)
        work_off(gator)

        assert [name for name, *_ in hooks.seen] == ["start", "error"] * 2 + ["start", "success"]
        assert hooks.seen[1] == (
            "error",
            constants.FAILED,
            "the mail server is having a bad day",
        )
        assert hooks.seen[-1] == ("success", constants.SUCCESS, "at last")

    def test_queues_of_other_names_are_worked_off_by_workers_of_their_own(
        self, myapp: Callable[[str], Any]
    ) -> None:
        mail = myapp("mail")
        slow, quick = (Gator("locmem://seeds", queue_name=name) for name in ("slow", "quick"))

        slow.task(mail.send_post_email, 1, 1)
        quick.task(mail.send_post_email, 2, 2)
        work_off(quick)

        assert mail.sent == [(2, 2)]
        assert (slow.len(), quick.len()) == (1, 0)


class TestBestPractices:
    def test_one_gator_is_imported_wherever_it_is_needed(self, myapp: Callable[[str], Any]) -> None:
        answer = myapp("views").new_post(1)
        work_off(myapp("gator").gator)

        assert answer == "redirect"
        assert myapp("mail").sent == [(1, 7)]

    @pytest.mark.parametrize("prefix", ["", "test"])
    def test_prefix_from_the_environment_keeps_queues_apart(
        self, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALLIGATOR_PREFIX", prefix)
        name = "_".join([os.environ.get("ALLIGATOR_PREFIX", ""), "all"])

        gator = Gator("locmem://", queue_name=name)

        assert gator.queue_name == f"{prefix}_all"

    def test_gator_from_env_omits_the_underscore_without_a_prefix(self) -> None:
        plain = Gator.from_env({"ALLIGATOR_CONN": "locmem://"})
        prefixed = Gator.from_env({"ALLIGATOR_CONN": "locmem://", "ALLIGATOR_PREFIX": "test"})

        assert (plain.queue_name, prefixed.queue_name) == ("all", "test_all")

    @pytest.mark.parametrize("word", ["False", "false", "0", "no", "off"])
    def test_environment_variable_switches_to_inline_runs(
        self, word: str, myapp: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALLIGATOR_ASYNC", word)

        myapp("views").new_post_in_step(1)

        assert myapp("mail").sent == [(1, 7)]
        assert myapp("gator").gator.len() == 0

    @pytest.mark.parametrize("word", ["True", "1", "yes", "ON"])
    def test_environment_variable_switches_to_queueing(
        self, word: str, myapp: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALLIGATOR_ASYNC", word)

        myapp("views").new_post_in_step(1)

        assert myapp("mail").sent == []
        assert myapp("gator").gator.len() == 1

    def test_word_that_is_no_switch_is_refused(
        self, myapp: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALLIGATOR_ASYNC", "maybe")

        with pytest.raises(ValueError, match="false, 0, no, off"):
            myapp("views").new_post_in_step(1)

    def test_one_context_of_options_serves_several_tasks(
        self, gator: Gator, myapp: Callable[[str], Any]
    ) -> None:
        mail = myapp("mail")

        with gator.options(retries=3) as opts:
            first = opts.task(mail.send_post_email, 1, 1)
            second = opts.task(mail.send_after_two_failures, 2)

        assert first.task_id != second.task_id
        assert (first.retries, second.retries) == (3, 3)
        assert gator.len() == 2

    def test_only_tasks_of_the_context_have_its_options(
        self, gator: Gator, myapp: Callable[[str], Any]
    ) -> None:
        with gator.options(retries=3):
            task = gator.task(myapp("mail").send_post_email, 1, 1)

        assert task.retries == 0


class LoudTask(Task):
    """A task class as 1.0's users wrote them: it calls the base class, and does more around it."""

    ran: list[str] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.volume = 11

    def run(self) -> "LoudTask":
        self.ran.append(f"{self.name} at {self.volume}")
        return super().run()


class ListBackend:
    """A backend as for Alligator 1.0: five methods, and no base class."""

    def __init__(self, conn_string: str) -> None:
        self.conn_string = conn_string
        self.queues: dict[str, dict[str, str]] = {}

    def len(self, queue_name: str) -> int:
        return len(self.queues.get(queue_name, {}))

    def drop_all(self, queue_name: str) -> None:
        self.queues[queue_name] = {}

    def push(
        self, queue_name: str, task_id: str, data: str, delay_until: float | None = None
    ) -> str:
        self.queues.setdefault(queue_name, {})[task_id] = data
        return task_id

    def pop(self, queue_name: str) -> str | None:
        queue = self.queues.get(queue_name)
        return queue.pop(next(iter(queue))) if queue else None

    def get(self, queue_name: str, task_id: str) -> str | None:
        return self.queues.get(queue_name, {}).pop(task_id, None)


class QuietWorker(Worker):
    """A worker subclass as for Alligator 1.0, with its own log messages."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.said: list[object] = []

    def ident(self) -> str:
        return "The Worker"

    def starting(self) -> None:
        self.keep_running = True
        self.said.append(f"{self.ident()} starts")

    def result(self, result: object) -> None:
        self.said.append(result)

    def stopping(self) -> None:
        super().stopping()
        self.said.append("stops")

    def check_and_run_task(self) -> bool:
        ran = super().check_and_run_task()
        self.said.append(ran)
        return ran


class TestExtending:
    def test_custom_task_class_is_used_on_both_sides(self, myapp: Callable[[str], Any]) -> None:
        LoudTask.ran.clear()
        gator = Gator("locmem://", task_class=LoudTask)

        task = gator.task(myapp("mail").send_post_email, 1, 2)
        with gator.options(retries=2) as opts:
            opts.task(myapp("mail").send_post_email, 3, 4)
        work_off(gator)

        assert isinstance(task, LoudTask)
        assert LoudTask.ran == ["myapp.mail.send_post_email at 11"] * 2

    def test_backend_of_five_methods_is_enough(self, myapp: Callable[[str], Any]) -> None:
        gator = Gator("list://anything", backend_class=ListBackend)

        gator.task(myapp("mail").send_post_email, 1, 2)
        kept = gator.task(myapp("mail").send_post_email, 3, 4)
        before = gator.len()
        canceled = gator.cancel(kept.task_id)
        work_off(gator)

        assert isinstance(gator.backend, ListBackend)
        assert gator.backend_class is ListBackend
        assert before == 2
        assert canceled is not None
        assert canceled.task_id == kept.task_id
        assert myapp("mail").sent == [(1, 2)]
        assert gator.len() == 0

    def test_backend_of_five_methods_says_what_it_cannot_promise(self) -> None:
        gator = Gator("list://anything", backend_class=ListBackend)

        assert gator.client.delivery == "at-most-once"

    def test_custom_worker_overrides_all_log_messages(
        self, gator: Gator, myapp: Callable[[str], Any]
    ) -> None:
        gator.task(myapp("mail").send_post_email, 1, 2)

        worker = QuietWorker(gator, max_tasks=1, log_level=logging.ERROR)
        worker.run_forever()

        assert worker.said == ["The Worker starts", 1, True, "stops"]

    def test_program_can_pop_tasks_itself(self, gator: Gator, myapp: Callable[[str], Any]) -> None:
        first = gator.task(myapp("mail").send_post_email, 1, 2)
        second = gator.task(myapp("mail").send_post_email, 3, 4)

        got = gator.get(second.task_id)
        popped = gator.pop()

        assert got is not None
        assert popped is not None
        assert (got.task_id, popped.task_id) == (second.task_id, first.task_id)
        assert gator.pop() is None

    def test_task_object_is_pushed(self, gator: Gator, myapp: Callable[[str], Any]) -> None:
        task = Task(task_id="my-own-id", retries=1, depends_on=["another"])

        pushed = gator.push(task, myapp("mail").send_post_email, 1, post_id=2)

        assert pushed is task
        assert pushed.func_kwargs == {"post_id": 2}
        assert gator.get("my-own-id") is not None

    def test_task_object_that_is_not_asynchronous_runs_at_once(
        self, gator: Gator, myapp: Callable[[str], Any]
    ) -> None:
        task = gator.push(Task(is_async=False), myapp("mail").send_post_email, 1, 2)

        assert task.status == SUCCESS
        assert gator.len() == 0

    def test_task_can_be_executed_by_hand(self, gator: Gator, myapp: Callable[[str], Any]) -> None:
        task = Task(is_async=False, retries=5)
        task.to_call(myapp("mail").send_after_two_failures, 1)

        finished = gator.execute(task)

        assert finished.result == "at last"
        assert finished.retries == 3


def from_1_0(module: str, name: str, **more: Any) -> str:
    """Write a task as Alligator 1.0 did."""
    data = {
        "task_id": "6f1b1b1e-8c57-4a2e-9a0e-2f0c8f2a7c11",
        "retries": 0,
        "is_async": True,
        "module": module,
        "callable": name,
        "args": [1, 2],
        "kwargs": {},
        "options": {},
    }
    return json.dumps({**data, **more})


class TestUpgrade:
    """A queue that 1.0 has filled is drained, and code that was written for it is run."""

    def test_payload_of_1_0_is_run(self, gator: Gator, myapp: Callable[[str], Any]) -> None:
        data = from_1_0("myapp.mail", "send_post_email")

        gator.backend.push("all", json.loads(data)["task_id"], data)
        work_off(gator)

        assert myapp("mail").sent == [(1, 2)]

    def test_hooks_and_retries_in_a_payload_of_1_0_are_kept(
        self, gator: Gator, myapp: Callable[[str], Any]
    ) -> None:
        hook = {"module": "myapp.hooks", "callable": "failed"}
        data = from_1_0(
            "myapp.mail",
            "send_after_two_failures",
            retries=1,
            args=[5],
            options={"on_error": hook, "delay_until": 1600000000},
        )

        gator.backend.push("all", "6f1b1b1e-8c57-4a2e-9a0e-2f0c8f2a7c11", data)
        task = gator.pop()

        assert task is not None
        assert (task.status, task.retries) == (RETRYING, 0)
        assert [name for name, *_ in myapp("hooks").seen] == ["error"]

    def test_plain_task_is_written_with_the_keys_of_1_0(self, myapp: Callable[[str], Any]) -> None:
        task = Task()
        task.to_call(myapp("mail").send_post_email, 1, 2)

        ours, theirs = json.loads(task.serialize()), json.loads(from_1_0("myapp.mail", "x"))

        assert set(ours) == set(theirs)

    @pytest.mark.parametrize(
        ("module", "names"),
        [
            ("alligator", "ALL FAILED SUCCESS WAITING Gator Task Worker version __version__"),
            ("alligator.constants", "ALL CANCELED DELAYED FAILED RETRYING SUCCESS WAITING"),
            (
                "alligator.exceptions",
                "AlligatorException MultipleDelayError TaskFailed UnknownCallableError "
                "UnknownModuleError",
            ),
            ("alligator.gator", "Gator Options Task ALL"),
            ("alligator.tasks", "Task"),
            ("alligator.utils", "determine_module determine_name import_attr import_module"),
            ("alligator.workers", "Worker"),
            ("alligator.backends.locmem_backend", "Client"),
            ("alligator.backends.redis_backend", "Client"),
            ("alligator.backends.sqlite_backend", "Client"),
        ],
    )
    def test_names_of_1_0_are_where_they_were(self, module: str, names: str) -> None:
        found = importlib.import_module(module)

        assert [name for name in names.split() if not hasattr(found, name)] == []

    @pytest.mark.parametrize(
        ("kind", "names"),
        [
            (Gator, "build_backend len push pop get cancel execute task options"),
            (Options, "__enter__ __exit__ task"),
            (
                Task,
                "to_call to_waiting to_success to_failed to_canceled to_retrying serialize "
                "deserialize run",
            ),
            (
                Worker,
                "get_log ident starting interrupt stopping result check_and_run_task run_forever",
            ),
        ],
    )
    def test_methods_of_1_0_still_exist(self, kind: type, names: str) -> None:
        assert [name for name in names.split() if not callable(getattr(kind, name, None))] == []

    def test_attributes_of_1_0_still_exist(self, gator: Gator) -> None:
        worker = Worker(gator, 3, "all", 0.5, logging.DEBUG)
        task = Task("an-id", 1, True, print, print, print, ["x"], None, 1600000000)
        found = {
            gator: "conn_string queue_name task_class backend_class backend",
            gator.backend: "conn_string len drop_all push pop get",
            gator.options(retries=1): "gator task_kwargs",
            worker: "gator max_tasks to_consume nap_time tasks_complete keep_running log_level log",
            task: "task_id retries is_async status on_start on_success on_error depends_on "
            "delay_until result func func_args func_kwargs",
        }

        missing = [
            (type(thing).__name__, name)
            for thing, names in found.items()
            for name in names.split()
            if not hasattr(thing, name)
        ]

        assert missing == []

    def test_statuses_are_the_numbers_they_were(self) -> None:
        statuses = [
            constants.WAITING,
            constants.SUCCESS,
            constants.FAILED,
            constants.DELAYED,
            constants.RETRYING,
            constants.CANCELED,
        ]

        assert statuses == [0, 1, 2, 3, 4, 5]

    def test_store_of_1_0_is_called_as_it_was(self, gator: Gator) -> None:
        client = gator.backend

        task_id = client.push("all", "an-id", "{}", delay_until=None)
        length = client.len("all")
        got = client.get("all", "an-id")

        assert (task_id, length, got) == ("an-id", 1, "{}")
        assert client.pop("all") is None
        client.push("all", "another", "{}")
        client.drop_all("all")
        assert client.len("all") == 0
