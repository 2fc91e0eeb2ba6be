"""manage.py alligator: real processes of a project in files."""

import io
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from alligator import Gator
from tests.harness.django_files import DjangoProject
from tests.harness.programs import SLACK, eventually, lines


def test_worker_runs_tasks_that_query_several_databases(project: DjangoProject) -> None:
    project.create_tables()
    project.push("note_order", "umbrella")
    project.push("anote_order", "raincoat")

    done = project.manage("alligator", "worker", "--burst")

    assert done.returncode == 0, done.stderr
    assert sorted(lines(project.out)) == ["raincoat 1", "umbrella 0"]


@pytest.mark.parametrize("more", [["--isolate"], ["--processes", "2"]], ids=" ".join)
def test_worker_in_other_processes_has_django_set_up(
    project: DjangoProject, more: list[str]
) -> None:
    project.create_tables()
    project.push("note_order", "umbrella")

    done = project.manage("alligator", "worker", "--burst", *more)

    assert done.returncode == 0, done.stderr
    assert lines(project.out) == ["umbrella 0"]


def test_worker_keeps_only_connections_that_may_be_kept(project: DjangoProject) -> None:
    project.create_tables()
    project.push("note_connections", "first")
    project.push("note_connections", "second")

    assert project.manage("alligator", "worker", "--burst").returncode == 0

    assert lines(project.out) == ["first []", "second ['stock']"]


def test_worker_starts_again_with_changed_code(project: DjangoProject, tmp_path: Path) -> None:
    project.create_tables()
    tasks = project.folder / "shop" / "tasks.py"
    project.push("note", "before")

    with project.managing("alligator", "worker", "--reload", log=tmp_path / "log") as program:
        eventually(lambda: lines(project.out) == ["before"])
        code = tasks.read_text()
        tasks.write_text(code + "1 +\n")  # not Python
        eventually(lambda: program.said("starts after the next change") or touch(tasks))
        tasks.write_text(code.replace("{line}", "new {line}"))
        eventually(lambda: program.log.read_text().count("starts on sqlite") == 2 or touch(tasks))
        project.push("note", "after")
        eventually(lambda: lines(project.out) == ["before", "new after"])
        program.send_signal(signal.SIGINT)

        assert program.wait(30 + SLACK) == 0


def touch(file: Path) -> bool:
    """Make a file look changed: it may be that its program has not looked at it before."""
    later = file.stat().st_mtime + 1
    os.utime(file, (later, later))
    return False


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["stats"], 1, "does not exist"),
        (["wrk"], 2, "Did you mean: manage.py alligator worker?"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_errors_are_one_line_with_the_status_of_latergator(
    project: DjangoProject, words: list[str], status: int, text: str
) -> None:
    done = project.manage("alligator", *words)

    assert done.returncode == status
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_dsn_is_reported_in_one_line(project: DjangoProject) -> None:
    with (project.folder / "shop" / "settings.py").open("a") as settings:
        settings.write("del ALLIGATOR\n")

    done = project.manage("alligator", "stats")

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert 'add ALLIGATOR = {"CONN": ' in done.stderr


def test_help_shows_the_commands(project: DjangoProject) -> None:
    done = project.manage("help", "alligator", "--settings", "shop.settings")

    assert done.returncode == 0
    for command in ("worker", "dead", "schedules", "pause", "resume", "drain", "limit", "cancel"):
        assert f"\n  {command} " in done.stdout


# In this process.


@pytest.fixture
def gator(tmp_path: Path) -> Any:
    from django_alligator import gator

    given = {"CONN": f"sqlite://{tmp_path / 'queue.db'}", "ASYNC": True}
    with override_settings(ALLIGATOR=given):
        yield gator
    gator.schedules.clear()


def test_call_command_writes_to_the_given_stream(gator: Gator) -> None:
    out = io.StringIO()
    gator.task(len, [1])

    call_command("alligator", "stats", stdout=out)
    call_command("alligator", "dead", "list", "--limit", "3", stdout=out)

    assert "ready" in out.getvalue()
    assert out.getvalue().endswith("no task is dead\n")


def test_health_of_the_project_has_the_limits_of_its_settings(gator: Gator, tmp_path: Path) -> None:
    gator.task(len, [1])
    call_command("alligator", "worker", "--burst")
    out = io.StringIO()
    for number in range(3):
        gator.task(len, [number])

    given = {"CONN": f"sqlite://{tmp_path / 'queue.db'}", "ASYNC": True, "BACKLOG_DEPTH": 2}
    with override_settings(ALLIGATOR=given):
        call_command("alligator", "health", stdout=out)

    assert "3 tasks" in out.getvalue()


def test_commands_pause_resume_and_drain_a_queue(gator: Gator) -> None:
    gator.task(len, [1])

    call_command("alligator", "pause", "all", stdout=io.StringIO())
    assert gator.stats().paused
    with pytest.raises(CommandError, match="all is paused: alligator resume all"):
        call_command("alligator", "drain", "all")

    call_command("alligator", "resume", "all", stdout=io.StringIO())
    call_command("alligator", "worker", "--burst")
    out = io.StringIO()
    call_command("alligator", "drain", "all", stdout=out)

    assert out.getvalue().startswith("all is empty")


def test_schedules_of_the_project_are_listed_and_run(gator: Gator) -> None:
    gator.every(60, len, [1], name="measure")
    out = io.StringIO()

    call_command("alligator", "schedules", "run", "measure", stdout=out)
    call_command("alligator", "schedules", "list", stdout=out)

    assert gator.len() == 1
    assert out.getvalue().startswith("measure: queued as ")
    assert "every 60 s" in out.getvalue()


def test_call_command_raises_the_errors_of_commands(gator: Gator) -> None:
    with pytest.raises(CommandError, match="does not exist") as raised:
        call_command("alligator", "stats")
    assert raised.value.returncode == 1

    with pytest.raises(CommandError, match="No such option") as raised:
        call_command("alligator", "stats", "--nothing")
    assert raised.value.returncode == 2


def test_call_command_raises_for_a_failed_check(gator: Gator) -> None:
    gator.client.push(gator.queue_name, "1", '{"module": "shop.gone", "callable": "f"}')

    with pytest.raises(CommandError, match="alligator check ended with status 1") as raised:
        call_command("alligator", "check", stdout=io.StringIO())

    assert raised.value.returncode == 1
