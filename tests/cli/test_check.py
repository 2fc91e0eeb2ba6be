"""The command that says before a deploy which tasks the new code would not run."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from alligator import Gator, Task, Worker
from alligator.backends.base import Peeked
from alligator.cli.check import check, problem_of
from tests.harness.command_line import invoke
from tests.harness.sample_tasks import add, fail

OLD = """
from uuid import UUID
def renamed(order, lang="en"): ...
def deleted(order): ...
def retyped(order: UUID): ...
def plain(order: str, number: int = 0): ...
def stays(order: UUID, *, lang: str | None = None): ...
def hook(task): ...
"""

NEW = """
from datetime import datetime
from uuid import UUID
def renamed(order, *, language): raise AssertionError("it must not run")
def retyped(order: datetime): ...
def plain(order: UUID, number: float = 0): ...
def stays(order: UUID, *, lang: str | None = None): raise AssertionError("it must not run")
"""

ID = UUID(int=7)


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """A function that deploys a version of the module ``shop_to_check``, and returns the module."""
    monkeypatch.syspath_prepend(tmp_path)

    def deploy(code: str) -> Any:
        sys.modules.pop("shop_to_check", None)
        (tmp_path / "shop_to_check.py").write_text(code)
        (tmp_path / "gators_to_check.py").write_text(
            f"from alligator import Gator\ngator = Gator('sqlite://{tmp_path}/queue.db')\n"
        )
        importlib.invalidate_caches()
        return importlib.import_module("shop_to_check")

    yield deploy
    for name in ("shop_to_check", "gators_to_check"):
        sys.modules.pop(name, None)


def test_tasks_that_the_new_code_would_not_run_are_listed(
    gator: Gator, release: Callable[[str], Any], tmp_path: Path
) -> None:
    shop = release(OLD)
    gator.task(shop.renamed, 7, lang="de")
    gator.options(delay_by=3600).task(shop.deleted, 7)
    gator.task(shop.retyped, ID)
    gator.task(shop.plain, "seven", 7)
    gator.task(shop.stays, ID, lang="en")
    gator.options(on_start=shop.hook).task(shop.stays, ID)
    before = gator.stats()
    release(NEW)

    done = invoke("check", "--app", "gators_to_check:gator", "--path", str(tmp_path), COLUMNS="400")

    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert len(lines) == 7
    assert "missing a required argument: 'language'" in done.stdout
    assert 'The payload holds (7, lang="de").' in done.stdout
    assert "shop_to_check has no deleted" in done.stdout
    assert (
        "'order' of shop_to_check.retyped cannot be restored: the payload holds the UUID"
        in done.stdout
    )
    assert "'order' of shop_to_check.plain is annotated UUID" in done.stdout
    assert 'the payload holds the str "seven"' in done.stdout
    assert "shop_to_check has no hook" in done.stdout
    assert "scheduled" in done.stdout
    assert lines[-1] == "5 of 6 tasks would not run with this code"
    assert gator.stats()[:4] == before[:4]


def test_empty_list_means_that_all_would_run(dsn: str, gator: Gator) -> None:
    gator.task(add, 1, 2)
    gator.task(fail)
    gator.pop()
    with pytest.raises(RuntimeError):
        gator.pop()
    gator.task(add, 1, b=2)

    done = invoke("check", dsn)

    assert (done.exit_code, done.stdout) == (0, "0 of 2 tasks would not run with this code\n")


def test_dead_tasks_and_garbage_are_checked(dsn: str, gator: Gator) -> None:
    gator.client.push("all", "garbage", "garbage")
    gator.client.push("mail", "worse", '{"typed": 7}\x1b[2J')
    Worker(gator, burst=True).run_forever()

    done = invoke("check", dsn, "--json")

    found = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (found["checked"], found["failed"]) == (2, 2)
    states = {problem["id"]: problem["state"] for problem in found["problems"]}
    assert states == {"garbage": "dead", "worse": "ready"}
    assert all(p["problem"].startswith("this is not a task") for p in found["problems"])
    assert "\x1b" not in invoke("check", dsn).stdout


def test_one_queue_and_a_limit_can_be_given(dsn: str, gator: Gator) -> None:
    for number in range(5):
        gator.client.push("all", f"all-{number}", "garbage")
        gator.client.push("mail", f"mail-{number}", "garbage")

    done = invoke("check", dsn, "--queue", "mail", "--limit", "2")

    assert done.exit_code == 1
    assert done.stdout.count("mail-") == 2
    assert "all-" not in done.stdout
    assert "There are more: ?: 5. Raise --limit." in done.stdout
    assert done.stdout.endswith("5 of 5 tasks would not run with this code\n")


def test_long_queue_needs_little_memory(gator: Gator) -> None:
    class Long:
        store, queue_name = gator.store, gator.queue_name
        guard, read = gator.guard, staticmethod(gator.read)
        read_so_far = 0

        @property
        def client(self) -> Any:
            return self

        def stats(self, name: str) -> Any:
            return gator.stats()

        def peek(self, name: str) -> Iterator[Peeked]:
            for number in range(20_000):
                yield Peeked("all", str(number), f'{{"module":"m{number}"}}', "ready")

    checked = check(Long(), ["all"], 3)  # type: ignore[arg-type]

    assert checked.number == checked.by_name.total() == 20_000
    assert len(checked.problems) == 3
    assert len(checked.by_name) <= 1_001


def test_store_that_cannot_list_its_tasks_is_refused() -> None:
    pytest.importorskip("boto3")

    done = invoke("check", "sqs://eu-west-1/", AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b")

    assert done.exit_code == 2
    assert "before it is reserved" in done.stderr


def test_signatures_and_allowed_functions_are_checked(dsn: str, gator: Gator) -> None:
    gator.task(add, 1, 2)

    signed = invoke("check", dsn, ALLIGATOR_SECRET="secret", COLUMNS="300")
    allowed = invoke("check", dsn, ALLIGATOR_ALLOW="shop.*", COLUMNS="300")

    assert "it is not signed with any of this worker's secrets" in signed.stdout
    assert "is not among the functions allowed here" in allowed.stdout
    assert (signed.exit_code, allowed.exit_code) == (1, 1)


class Lines(Task):
    """A task that is not written as JSON."""

    def serialize(self) -> str:
        return f"{self.task_id}\n{','.join(map(str, self.func_args))}"

    @classmethod
    def deserialize(cls, data: str) -> "Lines":
        task_id, args = data.split("\n")
        task = cls(task_id=task_id)
        task.to_call(add, *map(int, args.split(",")))
        return task


def test_task_class_with_a_format_of_its_own_is_checked() -> None:
    gator = Gator("locmem://", task_class=Lines)
    gator.task(add, 1, 2)
    [good] = gator.client.peek("all")

    assert problem_of(gator, good) == ""
    assert "ValueError" in problem_of(gator, good._replace(data="a\nb"))
    assert "too many positional" in problem_of(gator, good._replace(data="a\n1,2,3"))
