"""Projects that were written for Alligator 1.0, after an upgrade."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alligator import DEFERRED, SUCCESS, Gator, Task, Worker
from alligator.exceptions import MissingExtra
from tests.harness.doc_examples import PAGES, blocks
from tests.harness.programs import environment
from tests.harness.requirements import needed
from tests.harness.sample_tasks import add, fail
from tests.harness.store_servers import valkey_server

# Libraries of the old project.


@pytest.mark.parametrize("version", ["3.5.3", "4.6.0", "5.0.8"])
def test_old_redis_py_is_named_with_the_command_that_upgrades_it(
    tmp_path: Path, version: str
) -> None:
    (tmp_path / "redis.py").write_text(f"__version__ = {version!r}\n")
    code = (
        "from alligator import Gator\n"
        "from alligator.exceptions import MissingExtra\n"
        "try:\n    Gator('redis://localhost')\n"
        "except MissingExtra as error:\n    print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment({"PYTHONPATH": f"{tmp_path}:{Path(__file__).parent.parent}"}),
    )

    assert done.stdout == (
        f"redis:// needs redis 5.1 or newer, but {version} is installed: "
        "pip install --upgrade 'alligator[redis]'\n"
    ), done.stderr


@pytest.mark.parametrize("version", ["5.1.0", "8.1.0b1", "99", "", "dev"])
def test_another_redis_py_is_let_through(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr("redis.__version__", version)

    Gator("redis://localhost").close()


def test_missing_redis_py_can_be_caught_as_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redis.__version__", "4.6.0")

    with pytest.raises(ImportError, match=r"4\.6\.0 is installed") as caught:
        Gator("redis://localhost")
    assert isinstance(caught.value, MissingExtra)


# Classes of the project.


class Pushing(Gator):
    """Notes what is pushed, as a project of 1.0 could."""

    noted: list[tuple[Task, Any]]

    def push(  # type: ignore[override] # as it was typed for 1.0, if at all
        self, task: Task, func: Callable[..., object], *args: Any, **kwargs: Any
    ) -> Task:
        if not hasattr(self, "noted"):
            self.noted = []
        self.noted.append((task, func))
        return super().push(task, func, *args, **kwargs)


def test_push_that_is_overridden_is_called_for_each_task() -> None:
    gator = Pushing("locmem://")

    task = gator.task(add, 1, 2)
    with gator.options(retries=3, task_id="mine") as opts:
        again = opts.task(add, 3, 4)
    own = gator.push(Task(), add, 5, 6)

    assert gator.noted == [(task, add), (again, add), (own, add)]
    assert (again.task_id, again.retries, gator.len()) == ("mine", 3, 3)


def test_options_reach_through_a_push_that_is_overridden() -> None:
    gator = Pushing("locmem://")

    with gator.transaction() as transaction:
        held = gator.task(add, 1, 2)
        gator.options(immediate=True).task(add, 3, 4)
        assert (held.status, gator.len()) == (DEFERRED, 1)
        always = gator.options(always=True).task(add, 5, 6)
        transaction.doom()
    here = gator.options(is_async=False).task(add, 7, 8)

    assert gator.len() == 2
    assert gator.client.lease("all", always.task_id) is not None
    assert (here.status, here.result, len(gator.noted)) == (SUCCESS, 15, 4)


class Eager(Task):
    """Runs at the call, if nothing else is said."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("is_async", False)
        super().__init__(*args, **kwargs)


def test_task_class_that_is_synchronous_by_itself_runs_at_once() -> None:
    gator = Gator("locmem://", task_class=Eager)

    task = gator.task(add, 1, 2)
    with gator.options(retries=1) as opts:
        other = opts.task(add, 3, 4)
    with pytest.raises(RuntimeError, match="no luck"), gator.transaction():
        gator.task(fail, "no luck")

    assert (task.status, task.result, other.result, gator.len()) == (SUCCESS, 3, 7, 0)


def test_option_overrides_the_task_class() -> None:
    gator = Gator("locmem://", task_class=Eager)

    gator.options(is_async=True).task(add, 1, 2)
    Gator("locmem://", task_class=Eager, defaults={"is_async": True}).task(fail, "it does not run")

    assert gator.len() == 1
    Worker(gator, burst=True).run_forever()
    assert gator.stats().succeeded == 1


def test_arguments_are_a_list_before_to_call_and_a_tuple_afterwards() -> None:
    task = Task()
    before = task.func_args
    task.to_call(take_anything, 1, [2])
    assert (before, task.func_args) == ([], (1, [2]))
    assert Task.deserialize(task.serialize()).func_args == (1, [2])
    here = Gator("locmem://").options(is_async=False).task(take_anything, 1, [2])
    assert here.func_args == (1, [2])


def take_anything(*args: Any) -> None:
    """A task."""


# Data of 1.0.


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with needed(), valkey_server() as dsn:
        yield dsn


def test_tasks_that_1_0_has_left_are_one_warning(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    gator = Gator(server)
    gator.backend.conn.zadd("all", {"old-1": 1, "old-2": 2})
    gator.backend.conn.set("old-1", "{}")
    gator.backend.conn.set("other", "of another program")

    Worker(gator, to_consume=["all", "other", "new"], burst=True).run_forever()

    [line] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith("2 tasks of Alligator 1.0 are left in queue all of ")
    assert "Upgrade from Alligator 1.0" in line
    assert gator.backend.conn.zcard("all") == 2
    gator.close()


def test_recipe_of_the_page_moves_tasks_with_their_delays(server: str) -> None:
    [recipe] = [
        block.code
        for page in PAGES
        for block in blocks(page, "python")
        if page.name == "upgrade.md" and "def saved_in_redis" in block.code
    ]
    names: dict[str, Any] = {}
    exec(recipe, names)
    due = time.time() + 3600
    new, old = Gator("locmem://"), Gator(server)
    for task_id, options in {"later": {"delay_until": due}, "now": {}}.items():
        payload = {"task_id": task_id, "retries": 0, "is_async": True, "options": options}
        payload |= {
            "module": "tests.harness.sample_tasks",
            "callable": "add",
            "args": [1, 2],
            "kwargs": {},
        }
        old.backend.conn.zadd("old", {task_id: 1})
        old.backend.conn.set(task_id, json.dumps(payload))

    names["load"](new, "all", names["saved_in_redis"](server, "old"))
    Worker(new, burst=True).run_forever()

    assert (new.stats().succeeded, new.stats().scheduled) == (1, 1)
    [left] = new.client.scheduled("all")
    assert left.task_id == "later"
    assert 3500 < left.due_in <= 3600
    old.close()
