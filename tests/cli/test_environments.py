"""The command under interpreters and terminals that are set up in another way."""

import subprocess
import sys
from pathlib import Path

import pytest

from alligator import Gator
from tests.harness.programs import environment, run

SHOP = """
from alligator import Gator
gator = Gator("sqlite://queue.db")
def good(): pass
def bad(): raise ValueError("na\\u00efve \\u2603")
"""


def python(*options: str) -> list[str]:
    return [sys.executable, *options, "-m", "alligator"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    gator = Gator(f"sqlite://{tmp_path}/queue.db")
    for name in ("good", "bad"):
        gator.client.push(
            "all",
            f"{name} ☃",
            f'{{"task_id": "{name} ☃", "retries": 0, "is_async": true, "module": "shop", '
            f'"callable": "{name}", "args": [], "kwargs": {{}}}}',
        )
    return tmp_path


TERMINALS = {
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}

SHOP_IS = ["--app", "shop:gator"]

COMMANDS = {
    "list": (["dead", "list", *SHOP_IS], 0),
    "list as JSON": (["dead", "list", "--json", *SHOP_IS], 0),
    "show": (["dead", "show", "bad", *SHOP_IS], 0),
    "show what is not there": (["dead", "show", "☃", *SHOP_IS], 1),
    "retry": (["dead", "retry", "--all", *SHOP_IS], 0),
    "drop": (["dead", "drop", "bad", *SHOP_IS], 0),
    "stats": (["stats", *SHOP_IS], 0),
    "stats as JSON": (["stats", "--json", *SHOP_IS], 0),
    "health": (["health", *SHOP_IS], 0),
    "worker": (["worker", "--burst", *SHOP_IS, "--queue", "☃"], 0),
    "worker with progress": (["worker", "--burst", *SHOP_IS], 0),
    "wrong option": (["stats", "--☃"], 2),
    "wrong store": (["stats", "☃://"], 2),
    "help": (["--help"], 0),
}


@pytest.mark.parametrize("terminal", TERMINALS)
@pytest.mark.parametrize("command", COMMANDS)
def test_terminal_without_all_characters_gets_escapes(
    folder: Path, terminal: str, command: str
) -> None:
    arguments, status = COMMANDS[command]
    if (command, terminal) == ("worker", "ascii"):
        status = 2  # there, what is typed cannot be read either
    queue = Gator(f"sqlite://{folder}/queue.db", queue_name="☃")
    with queue.options(delay_by=1e6) as opts:
        opts.task(print)
    for lease in queue.client.reserve("all", limit=2):
        queue.client.dead_letter(lease, reason="ValueError: naïve ☃")

    done = subprocess.run(
        [*python(), *arguments],
        cwd=folder,
        env=environment(TERMINALS[terminal]),
        capture_output=True,
    )

    assert done.returncode == status, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"UnicodeEncodeError" not in done.stdout + done.stderr
    if command in ("list", "show", "stats"):
        assert b"\\u2603" in done.stdout or "☃".encode() in done.stdout


@pytest.mark.parametrize("mode", [[], ["-p", "2"], ["--isolate"]], ids=" ".join)
def test_development_mode_of_python_finds_nothing(folder: Path, mode: list[str]) -> None:
    options = ("-X", "dev", "-W", "error")

    done = run("--app", "shop:gator", "--burst", *mode, cwd=folder, program=python(*options))

    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [[], ["worker"], ["stats"], ["health"], ["dead"], *(["dead", c] for c in ("list", "drop"))],
    ids=" ".join,
)
def test_help_is_the_same_without_docstrings(command: list[str]) -> None:
    said = run(*command, "--help", program=python("-OO")).stdout

    assert said == run(*command, "--help").stdout
    assert len(said) > 300


def test_safe_path_is_respected(folder: Path) -> None:
    burst = ("--app", "shop:gator", "--burst")

    safe = run(*burst, cwd=folder, env={"PYTHONSAFEPATH": "1"})
    named = run(*burst, "--path", ".", cwd=folder, env={"PYTHONSAFEPATH": "1"})

    assert safe.returncode == 2
    assert "--path" in safe.stderr
    assert named.returncode == 0, named.stderr
