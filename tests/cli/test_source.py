"""The gator that a command uses: DSN, environment, --app and --path."""

import os
import subprocess
import sys
from json import loads
from pathlib import Path

import pytest

from alligator import Gator
from tests.harness import sample_tasks
from tests.harness.command_line import invoke
from tests.harness.programs import environment, run


@pytest.mark.parametrize("command", [[], ["worker"], ["stats"], ["health"], ["dead", "list"]])
def test_error_without_a_dsn_says_what_to_type(command: list[str]) -> None:
    result = invoke(*command)

    assert result.exit_code == 2
    assert "latergator sqlite:///" in result.stderr
    assert "ALLIGATOR_CONN" in result.stderr


def test_dsn_may_be_in_the_environment(dsn: str, gator: Gator) -> None:
    gator.task(sample_tasks.add, 1, 2)

    result = run("stats", "--json", env={"ALLIGATOR_CONN": dsn})

    assert loads(result.stdout)["stores"][0]["queues"][0]["ready"] == 1


@pytest.mark.parametrize("how", ["option", "environment"])
def test_prefix_names_the_queue(dsn: str, how: str) -> None:
    Gator(dsn, "staging_all").task(sample_tasks.add, 1, 2)

    given = ["--prefix", "staging"] if how == "option" else []
    env = {"ALLIGATOR_PREFIX": "staging"} if how == "environment" else {}
    result = run("stats", dsn, "--json", *given, env=env)

    queue = loads(result.stdout)["stores"][0]["queues"][0]
    assert (queue["name"], queue["ready"]) == ("staging_all", 1)


def test_gator_of_the_program_can_be_named(tmp_path: Path, gator: Gator, dsn: str) -> None:
    (tmp_path / "their_app.py").write_text(
        f"from alligator import Gator\nqueue = Gator({dsn!r}, 'mail')\n"
    )
    gator.options(queue_name="mail").task(sample_tasks.add, 1, 2)

    result = run("stats", "--app", "their_app:queue", "--path", str(tmp_path), "--json")

    assert loads(result.stdout)["stores"][0]["queues"][0]["name"] == "mail"


@pytest.mark.parametrize(
    "app", ["json:dumps", "json:nothing", "no_such_module:gator", ":x", "json"]
)
def test_object_that_is_no_gator_is_refused(app: str) -> None:
    result = invoke("stats", "--app", app)

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


def test_gator_of_the_program_takes_no_dsn() -> None:
    result = invoke("stats", "locmem://", "--app", "app:gator")

    assert result.exit_code == 2


def test_modules_are_found_in_the_current_folder(tmp_path: Path, dsn: str, gator: Gator) -> None:
    (tmp_path / "their_tasks.py").write_text("def work():\n    open('done', 'w').close()\n")
    code = f"import their_tasks; from alligator import Gator; Gator({dsn!r}).task(their_tasks.work)"
    env = environment()
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)

    # For a console script Python looks in the folder of the script, not in the current one.
    script = tmp_path / "bin" / "latergator"
    script.parent.mkdir()
    script.write_text("from alligator.cli import main\nmain()\n")
    command = [sys.executable, str(script), dsn, "--burst"]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True)

    assert (tmp_path / "done").exists()


def test_modules_can_be_imported_first(dsn: str) -> None:
    result = run(dsn, "--burst", "--import", "no.such.module")

    assert result.returncode == 2
    assert "no module no" in result.stderr


def test_module_with_a_broken_import_is_one_line(tmp_path: Path) -> None:
    module = tmp_path / "their_queue.py"
    module.write_text("import json\nimport no_such_library\n")

    result = run("stats", "--app", "their_queue:gator", "--path", str(tmp_path))

    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "No module named 'no_such_library'" in result.stderr
    assert f"{module}, line 2" in result.stderr
    assert "--traceback" in result.stderr


@pytest.mark.parametrize("asked", [["stats", "--traceback"], ["worker", "--log-level", "debug"]])
def test_traceback_of_a_broken_import_can_be_shown(tmp_path: Path, asked: list[str]) -> None:
    (tmp_path / "their_queue.py").write_text("1 / 0\n")

    result = run(*asked, "--app", "their_queue", "--path", str(tmp_path))

    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_module_with_a_syntax_error_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "their_queue.py").write_text("gator = \n")

    result = run("--app", "their_queue", "--path", str(tmp_path))

    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "their_queue.py, line 1" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["stats"],
        ["health"],
        ["dead", "list"],
        ["dead", "show"],
        ["dead", "retry"],
        ["dead", "drop"],
    ],
)
def test_file_that_does_not_exist_is_an_error_and_not_created(
    tmp_path: Path, command: list[str]
) -> None:
    ids = ["5f1c"] if command[-1] in ("show", "retry", "drop") else []

    result = run(*command, "sqlite://queue.db", *ids, cwd=tmp_path)

    assert result.returncode == 1
    assert f"sqlite://{os.path.realpath(tmp_path)}/queue.db does not exist" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
