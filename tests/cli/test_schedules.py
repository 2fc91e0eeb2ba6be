"""latergator schedules lists, runs and forgets schedules."""

import json
from pathlib import Path

import pytest

from alligator import Gator
from alligator.backends.base import Announcement
from tests.harness.programs import eventually, run, running

APP = """
from alligator import Gator
from tests.harness.sample_tasks import record

gator = Gator("sqlite://queue.db")
gator.every(1, record, "out", "tick")
gator.cron("0 3 * * *", record, "out", "night", name="nightly", timezone="Europe/Berlin")
"""

NOON = 1_800_000_000

WIDE = {"COLUMNS": "200"}
"""Otherwise lines are broken where they fit."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a program that has schedules."""
    (tmp_path / "shop_queue.py").write_text(APP)
    Gator(f"sqlite://{tmp_path}/queue.db").client.ping()
    return tmp_path


def store(folder: Path) -> Gator:
    return Gator(f"sqlite://{folder}/queue.db")


def announce(gator: Gator, *names: str) -> None:
    about = json.dumps({"definition": "every 60 s", "function": "shop.poll", "catch_up": 60})
    gator.client.announce_schedules([Announcement(name, about, 3600) for name in names], NOON)


def test_list_shows_the_schedules_of_the_program_and_the_store(folder: Path) -> None:
    announce(store(folder), "poll")

    shown = run("schedules", "list", "--app", "shop_queue:gator", cwd=folder, env=WIDE)

    assert shown.returncode == 0, shown.stderr
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert [line[0] for line in lines[:4]] == ["schedule", "nightly", "poll", "record"]
    assert "Europe/Berlin" in lines[1]
    assert "shop.poll" in lines[2]
    assert lines[3][-2:] == ["never", "never"]


def test_list_prints_json(folder: Path) -> None:
    announce(store(folder), "poll")

    shown = run("schedules", "list", "--json", "sqlite://queue.db", cwd=folder, env=WIDE)

    (found,) = json.loads(shown.stdout)
    assert (found["name"], found["function"], found["last"]) == ("poll", "shop.poll", None)
    assert found["next"] == "2027-01-15T08:01:00.000Z"


def test_list_escapes_what_others_have_written(folder: Path) -> None:
    announce(store(folder), "\x1b[31mred")

    shown = run("schedules", "list", "sqlite://queue.db", cwd=folder, env=WIDE)

    assert shown.returncode == 0, shown.stderr
    assert "\x1b" not in shown.stdout
    assert "red" in shown.stdout


def test_list_says_that_there_are_none(folder: Path) -> None:
    shown = run("schedules", "list", "sqlite://queue.db", cwd=folder, env=WIDE)

    assert shown.stdout == "there are no schedules\n"


def test_run_queues_a_task_now(folder: Path) -> None:
    shown = run("schedules", "run", "nightly", "--app", "shop_queue:gator", cwd=folder)

    assert shown.stdout.startswith("nightly: queued as "), shown.stderr
    assert store(folder).len() == 1


def test_run_of_an_unknown_schedule_does_nothing(folder: Path) -> None:
    shown = run("schedules", "run", "record", "nightli", "--app", "shop_queue:gator", cwd=folder)

    assert shown.returncode == 1
    assert "There is no schedule nightli. Did you mean nightly?" in shown.stderr
    assert store(folder).len() == 0


def test_run_needs_a_program_and_a_name(folder: Path) -> None:
    no_name = run("schedules", "run", "--app", "shop_queue:gator", cwd=folder)
    no_program = run("schedules", "run", "sqlite://queue.db", "nightly", cwd=folder)

    assert (no_name.returncode, no_program.returncode) == (2, 2)
    assert "python -m alligator schedules list shows them" in no_name.stderr
    assert "--app module:gator" in no_program.stderr


def test_forget_removes_a_schedule(folder: Path) -> None:
    announce(store(folder), "poll", "other")

    shown = run("schedules", "forget", "sqlite://queue.db", "poll", cwd=folder)
    again = run("schedules", "forget", "sqlite://queue.db", "poll", cwd=folder)

    assert shown.stdout == "poll: forgotten\n", shown.stderr
    assert again.returncode == 1
    assert [each.name for each in store(folder).client.schedules()] == ["other"]


def test_worker_with_the_program_runs_its_schedules(folder: Path, log: Path) -> None:
    arguments = ("--app", "shop_queue:gator", "--processes", "2")
    with running(*arguments, log=log, cwd=folder):
        eventually(lambda: (folder / "out").exists())
        eventually(lambda: store(folder).client.schedules())

    names = {each.name for each in store(folder).client.schedules()}
    assert names == {"record", "nightly"}


def test_worker_can_leave_schedules_to_others(folder: Path, log: Path) -> None:
    store(folder).task(print, "a")
    arguments = ("--app", "shop_queue:gator", "--no-schedules", "--max-tasks", "1")
    with running(*arguments, log=log, cwd=folder) as worker:
        assert worker.wait(60) == 0

    assert store(folder).client.schedules() == []
