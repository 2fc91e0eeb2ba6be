"""The test classes of Django and the fixtures of pytest-django work in a project."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.programs import ROOT, environment

PROJECT = Path(__file__).parent / "project"
MODULE = "tests.integrations.django_alligator.project"


def run(*arguments: str, database: str = "") -> "subprocess.CompletedProcess[str]":
    """Run a test runner in the project."""
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", *arguments],
        env=environment(
            {"DJANGO_SETTINGS_MODULE": f"{MODULE}.settings", "PROJECT_DATABASE": database}
        ),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_runner_of_django_runs_its_test_classes(request: pytest.FixtureRequest, kind: str) -> None:
    """At its end it drops the database, to which no relay may be connected."""
    database = request.getfixturevalue("postgres") if kind == "postgresql" else ""
    done = run("-m", "django", "test", f"{MODULE}.cases", "--noinput", database=database)

    found = re.search(r"Ran (\d+) tests", done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert found is not None
    assert int(found[1]) == (PROJECT / "cases.py").read_text().count("def test_")


def test_fixtures_of_pytest_django_work(tmp_path: Path) -> None:
    settings = tmp_path / "pytest.ini"
    settings.write_text("[pytest]\nfilterwarnings = error\n")
    done = run(
        *("-m", "pytest", str(PROJECT / "pytest_cases.py"), "-c", str(settings), "-q"),
        *("--import-mode=importlib", f"--rootdir={ROOT}", f"--confcutdir={PROJECT}"),
        *("-p", "no:cacheprovider", "-p", "no:asyncio"),
    )

    number = (PROJECT / "pytest_cases.py").read_text().count("def test_")
    assert f"{number} passed" in done.stdout, done.stdout + done.stderr
