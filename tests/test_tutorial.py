"""The tutorial, followed to the letter: its files are written, and its commands given, in their order.

The folder is empty, and the environment has nothing but what the tutorial installs. What runs on until
it is stopped (a server, a worker) is left running, and restarted where the tutorial says so.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.harness.doc_examples import ROOT, Block, blocks, tabs
from tests.harness.programs import eventually
from tests.harness.wheels import build, copy_checkout, free_port, listens

PAGE = ROOT / "docs" / "tutorial.md"
SERVER = re.compile(r"^(flask --app social run|python manage.py runserver|uvicorn )")
WORKER = re.compile(r"alligator worker|latergator --app social:gator$")

#: Flask's is followed in each run, the others where there is time.
FOLLOWED = [
    tabs(PAGE)[0],
    *(pytest.param(tab, marks=pytest.mark.slow) for tab in tabs(PAGE)[1:]),
]

pytestmark = pytest.mark.timeout(300)


class Reader:
    """A reader who follows the page in two terminals."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        self.wheel = wheel
        self.port = free_port()
        self.left_running: dict[str, subprocess.Popen[bytes]] = {}
        self.started: dict[str, str] = {}
        """How the server and the worker were started."""
        self.changed: set[str] = set()
        """Which of them run with a file that has changed since."""

    @property
    def project(self) -> Path:
        return self.folder / "social"

    def do(self, block: Block) -> None:
        """Write the file, or give the commands; check what the page shows of their output."""
        if block.file:
            (self.project / block.file).write_text(block.code)
            self.changed.update(self.started)
            return
        for command, output in commands(block):
            for kind in sorted(self.changed):
                self.start(kind, self.started[kind])
            if SERVER.search(command):
                self.start("server", command)
            elif WORKER.search(command):
                self.start("worker", command)
                eventually(partial(self.is_logged, output))
            elif output and "curl" not in command:
                eventually(partial(self.prints, command, output))
            else:
                printed = self.give(command)
                assert shows(printed, output), printed

    def give(self, command: str) -> str:
        """Give a command in the project's folder and environment; return what it prints."""
        done = subprocess.run(
            self.words(command),
            cwd=self.project if self.project.exists() else self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}{self.log('server')}"
        return done.stdout

    def prints(self, command: str, output: str) -> bool:
        return shows(self.give(command), output)

    def is_logged(self, output: str) -> bool:
        return shows(self.log("worker"), output)

    def start(self, kind: str, command: str) -> None:
        """Start a server or a worker in place of the one that runs."""
        self.stop(kind)
        self.changed.discard(kind)
        self.started[kind] = command
        with (self.folder / f"{kind}.log").open("ab") as log:
            self.left_running[kind] = subprocess.Popen(
                self.words(f"exec {command}"),
                cwd=self.project,
                env=self.environ,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if kind == "server":
            eventually(lambda: listens(self.port))

    def stop(self, kind: str) -> None:
        process = self.left_running.pop(kind, None)
        if process is not None:
            process.terminate()
            process.wait(30)

    def log(self, kind: str) -> str:
        path = self.folder / f"{kind}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def words(self, command: str) -> list[str]:
        """Make a command for the shell of it: with this wheel and a port that is free."""
        command = command.replace("'alligator[", f"'{self.wheel}[").replace("5000", str(self.port))
        if "flask" in command and " run" in command:
            command += f" --port {self.port}"
        activate = ". venv/bin/activate; " if (self.project / "venv").exists() else ""
        return ["bash", "-ec", activate + command]

    @property
    def environ(self) -> dict[str, str]:
        ours = ("PYTHON", "ALLIGATOR_", "FLASK_", "COV", "VIRTUAL_ENV", "PIP_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        way = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
        return {**kept, "PATH": way, "PYTHONUNBUFFERED": "1"}


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Take a block of the console apart: each command, and what the page shows that it prints."""
    for part in re.split(r"^\$ ", block.code, flags=re.M)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def shows(printed: str, expected: str) -> bool:
    """Whether the words that the page shows are there; numbers, times and ids may differ."""
    words = re.findall(r"(?<![\w.])[A-Za-z_.:']{3,}(?![\w…])", expected)
    return all(word in printed for word in words)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    copy_checkout(folder)
    return build("wheel", folder)


@pytest.mark.parametrize("tab", FOLLOWED)
def test_tutorial_can_be_followed_to_the_letter(tab: str, wheel: Path, tmp_path: Path) -> None:
    reader = Reader(tmp_path, wheel)

    try:
        for block in blocks(PAGE, "python", "console", tab=tab):
            reader.do(block)
        # It ends with a task that was dead, and was retried after the mistake had been mended.
        sent = reader.project / "sent.txt"
        eventually(lambda: "joe@example.com: A new post by ada: Again" in sent.read_text())
    finally:
        for kind in list(reader.left_running):
            with suppress(subprocess.TimeoutExpired):
                reader.stop(kind)
