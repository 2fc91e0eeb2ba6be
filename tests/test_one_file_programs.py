"""Programs that are one file: a zip archive of ``python -m zipapp``, and what PyInstaller makes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alligator.__pyinstaller import get_hook_dirs
from tests.harness.programs import ROOT, environment

MAIN = """
import sys
from flask import Flask
from alligator import Gator, Worker
from flask_alligator import Alligator

def chore(): print("chore")

if __name__ == "__main__":
    app = Flask("shop")
    app.config.update(ALLIGATOR_CONN="locmem://", ALLIGATOR_TOKEN="t" * 32)
    Alligator(app)
    client = app.test_client()
    for path, headers in {
        "/alligator/": {"Authorization": "Bearer " + "t" * 32},
        "/alligator/login": {"Accept": "text/html"},
        "/alligator/openapi.json": {"Authorization": "Bearer " + "t" * 32},
    }.items():
        reply = client.get(path, headers=headers)
        print(path, reply.status_code, len(reply.data) > 1000)
"""


def test_pages_are_served_from_a_zip_archive(tmp_path: Path) -> None:
    folder = tmp_path / "program"
    for package in (ROOT / "alligator", *(ROOT / "integrations").iterdir()):
        if package.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(package, folder / package.name, ignore=ignored)
    (folder / "__main__.py").write_text(MAIN)
    subprocess.run([sys.executable, "-m", "zipapp", folder, "-o", tmp_path / "a.pyz"], check=True)
    shutil.rmtree(folder)

    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "a.pyz"],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )

    assert done.stdout.splitlines() == [
        "/alligator/ 200 True",
        "/alligator/login 403 True",
        "/alligator/openapi.json 200 True",
    ], done.stderr


FROZEN = """
import sys
from alligator import Gator, Worker
from alligator.web.dashboard.page import _templates
from frozen_tasks import chore

gator = Gator("sqlite://queue.db")
gator.task(chore)
Worker(gator, burst=True, isolate="isolate" in sys.argv).run_forever()
_templates().get_template("page.html")
for dsn in ("locmem://", "redis://localhost"):
    print(Gator(dsn).client.address)
from importlib.resources import files
print(files("alligator.backends.redis_backend").joinpath("scripts/push.lua").is_file())
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pyinstaller_finds_backends_and_templates_by_itself(tmp_path: Path) -> None:
    pytest.importorskip("PyInstaller")
    (tmp_path / "shop.py").write_text(FROZEN)
    (tmp_path / "frozen_tasks.py").write_text("def chore(): print('chore', flush=True)\n")
    [hooks] = get_hook_dirs()  # an installed distribution has an entry point that says so
    options = ["--noconfirm", "--log-level", "WARN", "--additional-hooks-dir", hooks]
    subprocess.run(
        [sys.executable, "-m", "PyInstaller", *options, "shop.py"],
        cwd=tmp_path,
        check=True,
        env={**environment(), "PYTHONPATH": f"{ROOT}:{ROOT / 'integrations'}"},
    )

    for mode in ([], ["isolate"]):
        done = subprocess.run(
            [tmp_path / "dist" / "shop" / "shop", *mode],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert "chore\n" in done.stdout, done.stderr
        assert done.stdout.endswith("locmem://\nredis://localhost\nTrue\n"), done.stderr


def test_hook_is_where_its_entry_point_says() -> None:
    [folder] = get_hook_dirs()

    assert (Path(folder) / "hook-alligator.py").is_file()
