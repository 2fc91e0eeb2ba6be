"""The types of Alligator are complete, and type checkers find mistakes with them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness.doc_examples import ROOT

PACKAGES = [
    "alligator",
    "asgi_alligator",
    "flask_alligator",
    "pytest_alligator",
    "sqlalchemy_alligator",
    "starlette_alligator",
    "wsgi_alligator",
]
REFUSED = ROOT / "tests" / "typing" / "refused.py"

pytestmark = pytest.mark.timeout(240)


def run(*command: str) -> str:
    """Run a type checker on this checkout; return what it prints."""
    paths = f"{ROOT}{os.pathsep}{ROOT / 'integrations'}"
    # Pyright looks for the packages of the first python on the way.
    way = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": paths,
            "MYPYPATH": str(ROOT / "integrations"),
            "PATH": way,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "package",
    [PACKAGES[0], *(pytest.param(package, marks=pytest.mark.slow) for package in PACKAGES[1:])],
)
def test_types_of_a_package_are_complete(package: str) -> None:
    pytest.importorskip("pyright")

    # What a framework leaves open about its own types is not ours to say.
    printed = run("pyright", "--verifytypes", package, "--ignoreexternal", "--outputjson")

    found: dict[str, Any] = json.loads(printed)["typeCompleteness"]
    errors = [
        f"{symbol['name']}: {diagnostic['message']}"
        for symbol in found["symbols"]
        if symbol["isTypeAmbiguous"] or not symbol["isTypeKnown"]
        for diagnostic in symbol["diagnostics"]
    ]
    assert errors == []
    assert found["completenessScore"] == 1


@pytest.mark.parametrize(
    ("checker", "target"), [("mypy", REFUSED), ("pyright", REFUSED.parent)], ids=["mypy", "pyright"]
)
def test_editor_refuses_exactly_the_mistakes(checker: str, target: Path) -> None:
    pytest.importorskip(checker)

    printed = run(checker, "-p" if target.is_dir() else "--", str(target))

    lines = REFUSED.read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.endswith("  # refused")}
    refused = {int(line) for line in re.findall(r"refused\.py:(\d+):.*\berror: ", printed)}
    assert marked
    assert refused == marked, printed
