"""Create an environment for each peer, and keep it in the folder ``.bench``."""

import json
import os
import shutil
import subprocess
import sys
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
    "pgqueuer": ("pgqueuer[asyncpg]",),
    "oban": ("oban", "psycopg[binary]"),
    "chancy": ("chancy", "psycopg[binary]"),
}
"""The distributions of the other queues."""

ON_POSTGRES = ("procrastinate", "pgqueuer", "oban", "chancy")
"""Those that keep their tasks in PostgreSQL; the others use Redis."""

NEEDS: Mapping[str, tuple[int, int]] = {"oban": (3, 12)}
"""The oldest Python of a peer, if ours may be older."""

NEWEST = (3, 15)

OURS = ("msgspec", "psycopg[binary]", "redis", "click", "rich", "prometheus-client", "httpx")

PATH = os.pathsep.join(map(str, (ROOT, ROOT / "integrations")))
"""The path on which each process of a benchmark finds this checkout."""


def interpreter(name: str) -> str | None:
    """Return a Python for the environment *name*; None if there is none that is new enough."""
    oldest = NEEDS.get(name, (3, 0))
    if sys.version_info >= oldest:
        return sys.executable
    for minor in range(oldest[1], NEWEST[1] + 1):
        found = shutil.which(f"python3.{minor}")
        # A program of that name may only say that this version is not chosen here.
        if found and not subprocess.run([found, "--version"], capture_output=True).returncode:
            return found
    return None


def make(name: str) -> Path | None:
    """Return the Python of the environment *name*; create it if it is missing or incomplete.

    None if the peer needs a newer Python than there is on the PATH.
    """
    folder = FOLDER / name
    python = folder / "bin" / "python"
    done = folder / "complete"
    wanted = "\n".join([*(PEERS.get(name) or OURS), *WEB])
    if not done.exists() or done.read_text() != wanted:
        base = interpreter(name)
        if base is None:
            return None
        subprocess.run([base, "-m", "venv", "--clear", str(folder)], check=True)
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
