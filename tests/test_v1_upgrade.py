"""The page about Alligator 1.0, followed with a project of that time: PyPI's own 1.0, then ours."""

import sys
from pathlib import Path

import pytest

from tests.harness.wheels import build, copy_checkout, python_of, run

TASKS = """
def note(word, times=1):
    with open("noted.txt", "a") as file:
        file.write(f"{word}\\n" * times)


def noted(task, result):
    note("hook")
"""
PROJECT = """
import sys

from alligator import ALL, FAILED, SUCCESS, WAITING, Gator, Task, Worker, version
from alligator.backends.sqlite_backend import Client
from alligator.constants import CANCELED, RETRYING
from alligator.exceptions import TaskFailed, UnknownCallableError, UnknownModuleError
from alligator.tasks import Task as SameTask
from alligator.workers import Worker as SameWorker
from chores import note, noted


class LoudTask(Task):
    def to_success(self):
        super().to_success()
        note("loud")


class ProjectWorker(Worker):
    def result(self, result):
        note("result")


def main(store, command, *words):
    gator = Gator(store, task_class=LoudTask)
    assert isinstance(gator.backend, Client) and gator.queue_name == ALL
    if command == "setup":
        gator.backend.setup_tables()
    elif command == "push":
        task = gator.task(note, words[0])
        assert task.status == WAITING
        with gator.options(retries=3, on_success=noted) as opts:
            opts.task(note, words[0], times=2)
        gator.push(LoudTask(task_id="of-our-own"), note, words[0])
    elif command == "work":
        ProjectWorker(gator, max_tasks=gator.len(), nap_time=0).run_forever()
    elif command == "save":
        print(gator.backend.pop(ALL))
    elif command == "load":
        gator.backend.push(ALL, "saved", sys.stdin.read())
    elif command == "here":
        with gator.options(is_async=False) as opts:
            assert opts.task(note, words[0]).status == SUCCESS
    elif command == "len":
        print(gator.len())


if __name__ == "__main__":
    print(version(), file=sys.stderr)
    main(*sys.argv[1:])
"""

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of then, with an environment in which Alligator 1.0 is installed."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "chores.py").write_text(TASKS)
    (folder / "project.py").write_text(PROJECT)
    run([sys.executable, "-m", "venv", "venv"], folder)
    try:
        install(folder, "alligator==1.0.0")
    except AssertionError as error:
        pytest.skip(f"PyPI does not give Alligator 1.0: {error}")
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    copy_checkout(folder)
    return build("wheel", folder)


def install(project: Path, what: str) -> None:
    pip = [python_of(project), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, what], project)


def give(project: Path, *words: str, answer: str | None = None) -> str:
    return run([python_of(project), "project.py", *words], project, answer)


def noted(project: Path) -> list[str]:
    """Take what the tasks have noted so far."""
    path = project / "noted.txt"
    words = sorted(path.read_text().split()) if path.exists() else []
    path.unlink(missing_ok=True)
    return words


#: What the three tasks of `push` note, and their hooks and classes.
ALL_OF_IT = ["hook", "loud", "loud", "loud", "new", "new", "new", "new", *["result"] * 3]


def test_project_of_1_0_runs_on_ours_without_a_changed_import(project: Path, wheel: Path) -> None:
    old, new = "sqlite://old.db", "sqlite://new.db"
    give(project, old, "setup")
    give(project, old, "push", "old")
    saved = give(project, old, "save")
    # Drain the old queue first: with the workers of 1.0.
    give(project, old, "work")
    assert give(project, old, "len").strip() == "0"
    assert noted(project).count("old") == 3

    install(project, str(wheel))

    # The old file is refused, and left as it is.
    with pytest.raises(AssertionError, match="a database of another program"):
        give(project, old, "len")
    give(project, new, "setup")
    give(project, new, "push", "new")
    give(project, new, "work")
    assert noted(project) == ALL_OF_IT
    give(project, new, "here", "here")
    assert noted(project) == ["here", "loud"]
    # A task that was saved from the old store.
    give(project, new, "load", answer=saved)
    give(project, new, "work")
    assert noted(project) == ["loud", "old", "result"]
