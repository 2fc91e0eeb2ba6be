"""Health, stats and metrics of real processes, while the store hangs and under load."""

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from alligator import Gator
from alligator.monitoring.stats import measure
from asgi_alligator import AlligatorEndpoint
from tests.harness.programs import ROOT, SLACK, environment, eventually, lines, running
from tests.harness.requirements import needed
from tests.harness.store_servers import valkey_server

TOKEN = "a token of many characters"

APP = """
import os
from alligator import Gator
from tests.harness.sample_tasks import fail, record
from wsgi_alligator import AlligatorEndpoint, AlligatorMiddleware

gator = Gator(os.environ["ALLIGATOR_CONN"])
endpoint = AlligatorEndpoint(gator)


def pages(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/alligator"):
        return endpoint({**environ, "PATH_INFO": path.removeprefix("/alligator")}, start_response)
    status = int(path[1:])
    gator.task(record, os.environ["OUT"], path)
    gator.task(fail, "badly")
    if status == 500:
        raise RuntimeError("the view fails")
    start_response(f"{status} Whatever", [("Content-Type", "text/plain")])
    return [b"done"]


app = AlligatorMiddleware(pages, gator)
"""


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLIGATOR_TOKEN", TOKEN)


def server_side(gator: Gator) -> Any:
    client: Any = gator.client
    return client.conn


def pings(gator: Gator) -> int:
    """Ask the server how many it has had: a ping of ours writes what a push would."""
    found: int = server_side(gator).info("commandstats").get("cmdstat_rpush", {"calls": 0})["calls"]
    return found


async def call(endpoint: AlligatorEndpoint, path: str) -> int:
    statuses: list[int] = []

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(b"authorization", f"Bearer {TOKEN}".encode())]
    scope = {"type": "http", "method": "GET", "path": path, "headers": headers}
    await endpoint(scope, receive, send)  # type: ignore[arg-type]
    return statuses[0]


def test_health_of_a_hanging_store_fails_in_time_with_a_single_ping(tokens: None) -> None:
    with needed(), valkey_server() as server:
        gator = Gator(server)
        endpoint = AlligatorEndpoint(gator)
        assert asyncio.run(call(endpoint, "/health")) == 200
        server_side(gator).config_resetstat()
        server.freeze()

        async def probe() -> tuple[list[int], float, int]:
            await asyncio.sleep(1.1)  # until the answer from before the frost is no longer fresh
            began = monotonic()
            probes = [asyncio.create_task(call(endpoint, "/health")) for _ in range(19)]
            probes.append(asyncio.create_task(call(endpoint, "/metrics")))
            requests = 0
            while not all(each.done() for each in probes):
                await asyncio.sleep(0.01)  # a request of the application's own
                requests += 1
            return [await each for each in probes], monotonic() - began, requests

        statuses, seconds, requests = asyncio.run(probe())
        server.thaw()
        eventually(lambda: pings(gator))
        asked = pings(gator)
        eventually(lambda: asyncio.run(call(endpoint, "/health")) == 200)
        gator.client.close()

    assert Counter(statuses) == {503: 19, 200: 1}
    assert seconds < 0.5 + SLACK
    assert requests > 5  # a loop that waits for the store serves one or two
    assert asked == 1


@pytest.fixture(params=["sqlite", "valkey"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield a store that several processes use."""
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path / 'queue.db'}"
        return
    with needed(), valkey_server() as server:
        yield str(server)


def test_figures_equal_a_recount_under_load(tmp_path: Path, dsn: str) -> None:
    (tmp_path / "watched_site.py").write_text(APP)
    out = tmp_path / "out"
    env = {"ALLIGATOR_CONN": dsn, "ALLIGATOR_TOKEN": TOKEN, "OUT": str(out)}
    paths = ["/201"] * 60 + ["/404"] * 20 + ["/500"] * 10
    with ExitStack() as stack:
        url = stack.enter_context(site(tmp_path, env))
        workers = [
            stack.enter_context(running(dsn, log=tmp_path / f"worker{n}", env=env)) for n in (1, 2)
        ]
        with httpx.Client(base_url=url, timeout=30) as http, ThreadPoolExecutor(8) as pool:
            statuses = Counter(pool.map(lambda path: http.get(path).status_code, paths))
            eventually(lambda: len(lines(out)) == 60)
            headers = {"Authorization": f"Bearer {TOKEN}"}
            eventually(lambda: http.get("/alligator/metrics", headers=headers).is_success)
        gator = Gator(dsn)
        eventually(lambda: gator.stats().dead == 60)
        for worker in workers:
            worker.terminate()
            worker.wait(30)
        # Web processes report their commits within five seconds.
        eventually(lambda: sum(_commits(gator).values()) == 180)
        (queue,) = measure(gator)["stores"][0]["queues"]
        gator.client.close()

    assert statuses == {201: 60, 404: 20, 500: 10}
    assert queue["counters"] == {
        **dict.fromkeys(queue["counters"], 0),
        "pushed": 120,
        "succeeded": 60,
        "failed": 60,
        "died": 60,
    }
    assert queue["run_time"]["count"] == queue["latency"]["count"] == 120
    assert queue["history"]


def _commits(gator: Gator) -> dict[str, int]:
    return dict(gator.client.figures("") or {})


@contextmanager
def site(folder: Path, env: dict[str, str]) -> Iterator[str]:
    """Run four web processes, and give their URL."""
    log = folder / "log"
    paths = os.pathsep.join([str(folder), str(ROOT), str(ROOT / "integrations")])
    command = [sys.executable, "-m", "gunicorn", "watched_site:app", "-b", "127.0.0.1:0"]
    with log.open("wb") as stderr:
        server = subprocess.Popen(
            [*command, "-w", "4"],
            cwd=folder,
            env={**environment(env), "PYTHONPATH": paths},
            stderr=stderr,
        )
    try:
        eventually(lambda: "Listening at" in log.read_text())
        (url,) = re.findall(r"Listening at: (http://\S+)", log.read_text())
        yield url
    finally:
        server.terminate()
        server.wait(30)
