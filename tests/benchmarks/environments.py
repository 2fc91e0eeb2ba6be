"""Create an environment for each peer, and keep it in the folder ``.bench``."""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".bench"

WEB = ("starlette", "flask", "gunicorn", "uvicorn", "uvloop", "httptools", "hiredis")
"""The libraries of the web figures, the same for all queues."""

PEERS: Mapping[str, tuple[str, ...]] = {
    "huey": ("huey", "redis"),
    "taskiq": ("taskiq", "taskiq-redis"),
    "saq": ("saq[redis]",),
    "rq": ("rq",),
    "streaq": ("streaq",),
    "dramatiq": ("dramatiq[redis]",),
    "celery": ("celery[redis]",),
    "procrastinate": ("procrastinate", "psycopg[binary]"),
    "pgqueuer": ("pgqueuer[psycopg]", "psycopg[binary]"),
}
"""The distributions of the other queues."""

ON_POSTGRES = ("procrastinate", "pgqueuer")
"""Those that keep their tasks in PostgreSQL; the others use Redis."""

OURS = ("msgspec", "psycopg[binary]", "redis", "click", "rich", "prometheus-client", "httpx")

PATH = os.pathsep.join(map(str, (ROOT, ROOT / "integrations")))
"""The path on which each process of a benchmark finds this checkout."""


def make(name: str) -> Path:
    """Return the Python of the environment *name*; create it if it is missing or incomplete."""
    folder = FOLDER / name
    python = folder / "bin" / "python"
    done = folder / "complete"
    wanted = "\n".join([*(PEERS.get(name) or OURS), *WEB])
    if not done.exists() or done.read_text() != wanted:
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, *wanted.split()], check=True, capture_output=True)
        done.write_text(wanted)
    return python


def versions(python: Path | str = sys.executable) -> dict[str, str]:
    """Return the installed distributions."""
    program = (
        "import json, importlib.metadata as m;"
        "print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
    )
    done = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found
