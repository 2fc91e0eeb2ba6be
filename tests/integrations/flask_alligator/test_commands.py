"""flask alligator on the command line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.programs import ROOT, environment

SHOP = """
from flask import Flask
from flask_alligator import Alligator

app = Flask(__name__)
Alligator(app)
"""

NO_REDIS = "raise ModuleNotFoundError('no redis', name='redis')\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with an application in it."""
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def flask(project: Path, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run the command of Flask in that folder."""
    path = os.pathsep.join([str(project), str(ROOT), str(ROOT / "integrations")])
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "shop", *arguments],
        cwd=project,
        env=environment({"PYTHONPATH": path, **env}),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", [["alligator", "stats"], ["alligator", "worker"], ["run"]])
def test_missing_library_is_named_in_one_line(project: Path, command: list[str]) -> None:
    (project / "redis.py").write_text(NO_REDIS)

    done = flask(project, *command, ALLIGATOR_CONN="redis://localhost")

    assert done.returncode == 1
    assert done.stderr.splitlines() == ["Error: redis:// needs: pip install 'alligator[redis]'"]


def test_schedules_of_the_application_are_listed_and_run(project: Path) -> None:
    (project / "tasks.py").write_text("def poll() -> None: ...\n")
    (project / "shop.py").write_text(
        "from flask import Flask\nfrom flask_alligator import Alligator\nimport tasks\n"
        "app = Flask(__name__)\nalligator = Alligator(app)\n"
        "with app.app_context():\n    alligator.gator.every(60, tasks.poll)\n"
    )
    dsn = f"sqlite://{project}/queue.db"
    flask(project, "alligator", "worker", "--burst", ALLIGATOR_CONN=dsn)

    shown = flask(project, "alligator", "schedules", "list", ALLIGATOR_CONN=dsn)
    ran = flask(project, "alligator", "schedules", "run", "poll", ALLIGATOR_CONN=dsn)

    assert "tasks.poll" in shown.stdout, shown.stderr
    assert ran.stdout.startswith("poll: queued as "), ran.stderr


def test_missing_dsn_is_reported_in_one_line(project: Path) -> None:
    done = flask(project, "alligator", "stats")

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "set ALLIGATOR_CONN" in done.stderr


def test_server_still_shows_the_error_with_its_type(project: Path) -> None:
    code = "import shop"
    env = environment(
        {"ALLIGATOR_CONN": "pigeon://x", "PYTHONPATH": f"{ROOT}:{ROOT / 'integrations'}"}
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr.splitlines()[-1].startswith("alligator.exceptions.UnknownBackend: ")


@pytest.mark.parametrize("command", [["alligator"], ["alligator", "worker"], ["alligator", "dead"]])
def test_short_option_shows_the_help(project: Path, command: list[str]) -> None:
    done = flask(project, *command, "-h", ALLIGATOR_CONN="locmem://")

    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_misspelled_word_is_answered_with_the_nearest(project: Path) -> None:
    done = flask(project, "alligator", "wroker", ALLIGATOR_CONN="locmem://")

    assert done.returncode == 2
    assert "flask alligator worker?" in done.stderr


@pytest.mark.parametrize("command", [["stats"], ["health"], ["dead", "list"]])
def test_file_that_does_not_exist_is_not_created(project: Path, command: list[str]) -> None:
    done = flask(project, "alligator", *command, ALLIGATOR_CONN="sqlite://queue.db")

    assert done.returncode == 1
    assert f"sqlite://{os.path.realpath(project)}/queue.db does not exist" in done.stderr
    assert not (project / "queue.db").exists()


def test_short_token_is_logged_in_one_line(project: Path) -> None:
    done = flask(
        project, "alligator", "dead", "-h", ALLIGATOR_CONN="locmem://", ALLIGATOR_TOKEN="short"
    )

    [line] = done.stderr.splitlines()
    assert re.match(
        r"\d{4}-\d\d-\d\dT[\d:.]+Z WARNING the token of the endpoint can be guessed", line
    )
