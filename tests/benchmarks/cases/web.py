"""Figures 3, 4 and 5: requests a second when each enqueues tasks."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial

from tests.benchmarks import environments
from tests.benchmarks.bench import Bench, Failed, free_port
from tests.benchmarks.figures import OURS, RAW, Figure, Goal, Metrics, Shot, experiment, single
from tests.benchmarks.machine import tree_seconds

CONNECTIONS = 16

UVICORN = ("-m", "uvicorn", "--no-access-log", "--log-level", "warning", "--lifespan", "off")
GUNICORN = ("-m", "gunicorn", "--log-level", "warning", "--workers", "1")

HAVE_FUNCTIONS = ("huey", "rq", "dramatiq", "celery")
"""The peers that a plain function view can use."""


def load(bench: Bench, case: str, k: int, server: Sequence[str]) -> Metrics:
    """Measure how many requests with *k* tasks each a web server handles."""
    bench.empty()
    # By its number, for uvicorn takes an inherited socket for one of Unix and leaves Nagle's waits on.
    port = free_port()
    words = [word.format(port) for word in server]
    with bench.process(case, words, {"BENCH_CASE": case}) as process:
        path = f"/{k}"
        _wait_until_served(f"http://127.0.0.1:{port}{path}", process, bench)
        before = tree_seconds(process.pid)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.benchmarks.load", str(port), path),
                *(str(bench.sizes.seconds), str(CONNECTIONS)),
            ],
            cwd=environments.ROOT,
            env=bench.environ(),
            capture_output=True,
            check=True,
        )
        used = tree_seconds(process.pid) - before
    found: dict[str, float] = json.loads(done.stdout)
    found["cpu"] = used / found.pop("answered") * 1e6  # of the server, for a request: µs
    if found.pop("failed"):
        raise Failed(f"{case}: requests failed: {(bench.folder / 'log').read_text()[-800:]}")
    return found


def _wait_until_served(url: str, process: "subprocess.Popen[bytes]", bench: Bench) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 30
    while True:
        try:
            with opener.open(url, timeout=20):
                return
        except (OSError, urllib.error.HTTPError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                log = (bench.folder / "log").read_text()[-800:]
                raise Failed(f"{url}: {error}: {log}") from error
            time.sleep(0.05)


STARLETTE = (*UVICORN, "--port", "{}", "tests.benchmarks.web:starlette_app")
FLASK = (*GUNICORN, "-b", "127.0.0.1:{}", "tests.benchmarks.web:flask_app")
THREADS = (*FLASK, "--worker-class", "gthread", "--threads", "8")


def starlette_shots(k: int, bench: Bench) -> Sequence[Shot]:
    """Load Starlette under uvicorn."""
    return [
        single(name, partial(load, case=case, k=k, server=STARLETTE))
        for name, case in _named("bare", OURS, RAW, *bench.peers)
    ]


def flask_shots(k: int, bench: Bench) -> Sequence[Shot]:
    """Load Flask under gunicorn, with one request at a time and with eight threads."""
    peers = [name for name in bench.peers if name in HAVE_FUNCTIONS]
    threads = [
        single(f"{case}, gthread", partial(load, case=case, k=k, server=THREADS))
        for case in (OURS, RAW)
    ]
    return [
        *(
            single(name, partial(load, case=case, k=k, server=FLASK))
            for name, case in _named("bare", OURS, RAW, *peers)
        ),
        *threads,
    ]


def _named(*cases: str) -> list[tuple[str, str]]:
    return [("raw, bare application" if case == "bare" else case, case) for case in cases]


def _starlette(number: str, k: int, of_flush: float, of_peer: float | None) -> None:
    goals = [Goal(at_least=of_flush, to=RAW)]
    if of_peer is not None:
        goals.append(Goal(at_least=of_peer, to="best peer"))
    tasks = "1 task" if k == 1 else f"{k} tasks"
    figure = Figure(
        number=number,
        title=f"Starlette, {tasks} a request",
        metric="rate",
        unit="requests/s",
        raw_title="one LPUSH a request",
        goals=goals,
    )
    _note(f"starlette-{k}", partial(starlette_shots, k), figure)


def _flask(letters: str, k: int) -> None:
    common = {"metric": "rate", "unit": "requests/s", "raw_title": "one LPUSH a request"}
    _note(
        f"flask-{k}",
        partial(flask_shots, k),
        Figure(
            number=f"5{letters[0]}",
            title=f"Flask, {k} tasks a request",
            goals=[Goal(at_least=0.95, to=RAW)],
            **common,  # type: ignore[arg-type]
        ),
        Figure(
            number=f"5{letters[1]}",
            title=f"Flask with 8 threads, {k} tasks a request",
            case=f"{OURS}, gthread",
            raw=f"{RAW}, gthread",
            peers=False,
            goals=[Goal(at_least=1.1, to=RAW)],
            **common,  # type: ignore[arg-type]
        ),
    )


def _note(name: str, shots: Callable[[Bench], Sequence[Shot]], *figures: Figure) -> None:
    experiment(name, *figures)(shots)


_starlette("3", 5, 1.5, 5)
_starlette("4a", 20, 1.2, 10)
_starlette("4b", 1, 1.2, None)
_flask("ab", 5)
_flask("cd", 20)
