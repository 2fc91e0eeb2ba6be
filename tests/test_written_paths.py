"""What Alligator writes to disk: files at the paths that were configured, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.programs import environment

PROGRAM = """
import json, os, sys

written = set()

def note(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)) and args[2] & (os.O_WRONLY | os.O_RDWR):
        written.add(os.path.abspath(os.fsdecode(args[0])))
    elif event in ("sqlite3.connect", "os.mkdir", "os.rename", "os.remove"):
        written.add(os.path.abspath(os.fsdecode(args[0])))

sys.addaudithook(note)

from alligator import Gator, Worker
from alligator.backends.redis_backend import Client as Redis  # loads its scripts
from chores import chore

data, store = sys.argv[1:]
gator = Gator(store.format(data=data), spool=f"{data}/spool.db")
for number in range(3):
    gator.task(chore, number)
with gator.transaction():
    gator.task(chore, 3)
if "sqlite" in store:  # there is no such Redis: the spool keeps its tasks
    Worker(gator, burst=True).run_forever()
    gator.stats()
gator.close()
print(json.dumps(sorted(written)))
"""


@pytest.mark.parametrize(
    "store", ["sqlite://{data}/q.db", "redis://127.0.0.1:9/0"], ids=["sqlite", "spool"]
)
def test_stores_write_only_at_configured_paths(tmp_path: Path, store: str) -> None:
    pytest.importorskip("redis")
    folders = {name: tmp_path / name for name in ("data", "code", "HOME", "TMPDIR")}
    for folder in folders.values():
        folder.mkdir()
    (folders["code"] / "chores.py").write_text("def chore(number): pass\n")
    own = {name: str(folders[name]) for name in ("HOME", "TMPDIR")}

    done = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM, folders["data"], store],
        cwd=folders["code"],
        env={**environment(own), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    elsewhere = [
        path
        for path in json.loads(done.stdout.splitlines()[-1])
        if folders["data"] not in Path(path).parents and path != "/dev/null"
    ]
    assert elsewhere == []
    left = [path for name in ("code", "HOME", "TMPDIR") for path in folders[name].rglob("*")]
    assert left == [folders["code"] / "chores.py"]
    assert list(folders["data"].iterdir())
