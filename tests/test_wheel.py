"""What people install: the wheel, and the quick start of the README on top of it."""

import json
import os
import re
import subprocess
import sys
import tarfile
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

from tests.harness.doc_examples import ROOT, blocks
from tests.harness.wheels import (
    build,
    copy_checkout,
    environment,
    free_port,
    listens,
    python_of,
    run,
)

PACKAGES = {
    "alligator",
    "asgi_alligator",
    "django_alligator",
    "flask_alligator",
    "pytest_alligator",
    "sqlalchemy_alligator",
    "starlette_alligator",
    "wsgi_alligator",
}
PATIENCE = 30.0
"""Seconds for a server to start, and for a worker to run two tasks."""

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files in an empty folder."""
    folder = tmp_path_factory.mktemp("checkout")
    copy_checkout(folder)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    return build("wheel", checkout)


@pytest.fixture(scope="module")
def sdist(checkout: Path) -> Path:
    return build("sdist", checkout, "dist/sdist")


@pytest.fixture(scope="module")
def shop(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an environment in which Alligator is installed, and with README's program."""
    folder = tmp_path_factory.mktemp("shop")
    run([sys.executable, "-m", "venv", "venv"], folder)
    pip = [python_of(folder), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, f"{wheel}[flask]"], folder)
    (block,) = [block for block in blocks(ROOT / "README.md", "python") if block.file == "shop.py"]
    (folder / "shop.py").write_text(block.code)
    (folder / "mail.py").write_text(MAIL)
    return folder


MAIL = """
def note(*words):
    with open("sent.txt", "a") as file:
        print(*words, file=file)
"""


@contextmanager
def running(command: list[str], folder: Path, log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={
                **environment(),
                "ALLIGATOR_CONN": "sqlite://queue.db",
                "PYTHONUNBUFFERED": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def eventually(found: Callable[[], bool], *logs: Path) -> None:
    """Wait until *found* is true; fail with what the programs have printed."""
    end = time.monotonic() + PATIENCE
    while not found():
        if time.monotonic() > end:
            pytest.fail("\n".join(log.read_text(errors="replace") for log in logs))
        time.sleep(0.02)


def said_in(wheel: Path, name: str) -> str:
    """Read what the wheel says of itself in *name*."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [path for path in archive.namelist() if path.endswith(f".dist-info/{name}")]
        return archive.read(path).decode()


def test_wheel_holds_every_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    (info,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, info}
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    endings = {Path(name).suffix for name in names if not name.startswith(info)}
    assert endings - {".py", ".typed", ".lua", ".sql", ".html", ".css", ".js", ".json"} == set()


def test_wheel_holds_every_file_that_a_package_has(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    folders = [ROOT / "alligator", *(ROOT / "integrations").iterdir()]
    sources = {
        str(path.relative_to(folder.parent))
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= names


def test_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    safely: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # 3.11.4
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, **safely)
    (unpacked,) = tmp_path.iterdir()

    again = build("wheel", unpacked)

    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_builds_are_reproducible(checkout: Path, wheel: Path) -> None:
    os.utime(checkout / "alligator" / "gator.py", (2_000_000_000, 2_000_000_000))

    again = build("wheel", checkout, "dist/again")

    assert again.read_bytes() == wheel.read_bytes()


def test_sdist_holds_what_its_tests_and_pages_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "tests/harness/doc_examples.py",
        "docs/conf.py",
        "noxfile.py",
        "README.md",
        "LICENSE",
    } <= names
    assert not {name for name in names if name.startswith(("dist/", ".hypothesis/"))}


def test_wheel_declares_its_requirements_and_entry_points(wheel: Path) -> None:
    metadata = Parser().parsestr(said_in(wheel, "METADATA"))
    entry_points = said_in(wheel, "entry_points.txt")

    needed = {line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert {re.split(r"[^\w-]", line)[0] for line in needed} == {"click", "msgspec", "rich"}
    extras = set(metadata.get_all("Provides-Extra", []))
    assert extras >= {"redis", "flask", "starlette", "test", "dev"}
    assert metadata["Requires-Python"] == ">=3.11"
    links = {line.partition(",")[0] for line in metadata.get_all("Project-URL", [])}
    assert links >= {"Source", "Issues", "Changelog"}
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    hook = "hook-dirs = alligator.__pyinstaller:get_hook_dirs"
    for script in ("latergator = ", "latergator.py = ", "alligator = pytest_alligator", hook):
        assert script in entry_points


def test_package_page_links_to_files_of_a_checkout(wheel: Path) -> None:
    page = str(Parser().parsestr(said_in(wheel, "METADATA")).get_payload())

    targets = [target for target in re.findall(r"\]\(([^)]*)\)", page) if target[0] != "#"]
    source = "https://github.com/toastdriven/alligator"
    assert f"{source}/blob/main/docs/how-to/use-transactions.md" in targets
    assert f"{source}/raw/main/docs/images/dashboard.png" in targets
    assert [target for target in targets if not target.startswith("https://")] == []


def test_wheel_alone_runs_a_task(shop: Path) -> None:
    program = (
        "from alligator import Gator, Worker; from mail import note; "
        "gator = Gator('sqlite://alone.db'); gator.task(note, 'alone'); "
        "Worker(gator, burst=True).run_forever()"
    )

    run([python_of(shop), "-W", "error", "-c", program], shop)

    assert "alone" in (shop / "sent.txt").read_text()


def test_quick_start_of_the_readme_works(shop: Path) -> None:
    port, logs = free_port(), [shop / "server.log", shop / "worker.log"]
    flask = [str(shop / "venv" / "bin" / "flask"), "--app", "shop"]

    with ExitStack() as programs:
        serve = [*flask, "run", "--port", str(port)]
        programs.enter_context(running(serve, shop, logs[0]))
        programs.enter_context(running([*flask, "alligator", "worker"], shop, logs[1]))
        eventually(lambda: listens(port), *logs)
        request = urllib.request.Request(f"http://127.0.0.1:{port}/orders/7", method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            answer = response.status, json.load(response)
        eventually(lambda: "receipt for order 7" in logs[1].read_text(), *logs)

    assert answer == (201, {"placed": 7})
