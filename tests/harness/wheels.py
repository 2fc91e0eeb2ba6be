"""Build the distributions, and use them without this checkout."""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.harness.doc_examples import ROOT


def copy_checkout(folder: Path) -> None:
    """Copy the files of the repository to *folder*, without others."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file():  # a file may be deleted and not committed yet
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def build(target: str, folder: Path, to: str = "dist") -> Path:
    """Build the wheel or the sdist of *folder*."""
    run([sys.executable, "-m", "hatchling", "build", "-t", target, "-d", to], folder)
    (built,) = (folder / to).glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built


def python_of(folder: Path) -> str:
    return str(folder / "venv" / "bin" / "python")


def run(command: list[str], folder: Path, answer: str | None = None) -> str:
    """Run *command* as if this checkout did not exist; return what it prints. *answer* is typed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        input=answer,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    ours = ("PYTHON", "ALLIGATOR_", "FLASK_", "COV_", "COVERAGE_", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)}


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
