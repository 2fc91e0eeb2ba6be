"""Web servers as people run them, a queue in SQLite between them and a worker, all real processes."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import httpx
import pytest

from alligator import Gator
from tests.programs import ROOT, environment, eventually, lines, running

APP = '''
import os
import time
from pathlib import Path

from alligator import Gator
from tests.sample_tasks import record

gator = Gator(os.environ["ALLIGATOR_CONN"])
out = os.environ["OUT"]


def work(path):
    """Do what the path says; return a status."""
    gator.task(record, out, path)
    if path == "/hang":
        Path(out + ".hanging").touch()
        time.sleep(60)
    if path == "/raise":
        raise RuntimeError("the view fails")
    return int(path[1:]) if path[1:].isdigit() else 200
'''

WSGI = """
from wsgi_alligator import AlligatorEndpoint, AlligatorMiddleware


def pages(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/alligator/health":
        return AlligatorEndpoint(gator)({**environ, "PATH_INFO": "/health"}, start_response)
    status = work(path)
    if path == "/file":
        file = open(__file__, "rb")
        start_response("200 OK", [("Content-Length", str(os.path.getsize(__file__)))])
        return environ["wsgi.file_wrapper"](file)
    start_response(f"{status} Whatever", [("Content-Type", "text/plain")])
    if path == "/stream":
        return (b"chunk " for _ in range(3))
    return [b"done"]


app = AlligatorMiddleware(pages, gator)
"""

ASGI = """
import asyncio

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import FileResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from starlette_alligator import AlligatorEndpoint, AlligatorMiddleware


async def chunks():
    for _ in range(3):
        yield b"chunk "


async def page(request):
    path = request.url.path
    status = await asyncio.to_thread(work, path)
    if path == "/file":
        return FileResponse(__file__)
    if path == "/stream":
        return StreamingResponse(chunks())
    return PlainTextResponse("done", status)


app = Starlette(
    routes=[Mount("/alligator", AlligatorEndpoint(gator)), Route("/{path:path}", page)],
    middleware=[Middleware(AlligatorMiddleware, gator=gator)],
)
"""


class Site:
    """A server that is running."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path, folder: Path) -> None:
        self.process = process
        self.log = log
        self.out = folder / "out"
        self.dsn = f"sqlite://{folder / 'queue.db'}"
        self.gator = Gator(self.dsn)
        self.url = ""

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=20)


Start = Callable[[], Site]

UVICORN = ["uvicorn", "site_under_test:app", "--host", "127.0.0.1", "--port", "0"]


@contextmanager
def serving(name: str, folder: Path, program: str = "", **env: str) -> Iterator[Site]:
    """Run the server of that name on a port that it chooses."""
    (folder / "site_under_test.py").write_text(
        program or APP + (WSGI if name == "gunicorn" else ASGI)
    )
    command = {
        "gunicorn": ["gunicorn", "site_under_test:app", "-b", "127.0.0.1:0", "--threads", "4"],
        "uvicorn": [*UVICORN, "--loop", "asyncio"],
        "uvicorn with uvloop": [*UVICORN, "--loop", "uvloop"],
    }[name]
    log = folder / "server.log"
    path = [str(ROOT), str(ROOT / "integrations"), str(folder)]
    env = environment(
        {
            "PYTHONPATH": os.pathsep.join(path),
            "ALLIGATOR_CONN": f"sqlite://{folder / 'queue.db'}",
            "OUT": str(folder / "out"),
            **env,
        }
    )
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=env,
            cwd=folder,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    site = Site(process, log, folder)
    try:
        eventually(lambda: _url(log) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        site.url = _url(log)
        yield site
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        site.gator.client.close()


def _url(log: Path) -> str:
    found = re.search(r"(?:Listening at:|running on) (http://127\.0\.0\.1:\d+)", log.read_text())
    return found[1] if found else ""


@pytest.fixture(params=["gunicorn", "uvicorn", "uvicorn with uvloop"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    for needed in request.param.split(" with "):
        pytest.importorskip(needed)
    with serving(request.param, tmp_path) as site:
        yield site


def test_a_task_of_a_request_that_succeeds_is_run_by_a_worker(site: Site, tmp_path: Path) -> None:
    with running(site.dsn, log=tmp_path / "worker.log"):
        assert site.get("/201").status_code == 201
        eventually(lambda: lines(site.out) == ["/201"])

    assert site.gator.len() == 0


@pytest.mark.parametrize(("path", "status"), [("/404", 404), ("/500", 500), ("/raise", 500)])
def test_a_request_that_fails_queues_nothing(site: Site, path: str, status: int) -> None:
    assert site.get(path).status_code == status
    assert site.gator.len() == 0


def test_files_and_streams_come_through(site: Site) -> None:
    file, stream = site.get("/file"), site.get("/stream")

    assert file.text == (site.out.parent / "site_under_test.py").read_text()
    assert stream.text == "chunk chunk chunk "
    assert site.gator.len() == 2


def test_the_health_is_seen_from_outside(site: Site) -> None:
    assert site.get("/alligator/health").json() == {"status": "warn"}  # there is no worker


def test_a_server_that_is_killed_before_the_commit_has_queued_nothing(
    site: Site, tmp_path: Path
) -> None:
    hanging = tmp_path / "out.hanging"
    with httpx.stream("GET", site.url + "/200") as response:
        assert response.status_code == 200
    depth = site.gator.len()
    with pytest.raises(httpx.TransportError):
        _kill_while(site, hanging)

    assert depth == 1
    assert site.gator.len() == depth


def _kill_while(site: Site, hanging: Path) -> None:
    """Ask for a page that hangs, and kill all of the server meanwhile."""

    def kill() -> None:
        eventually(hanging.exists)
        os.killpg(site.process.pid, signal.SIGKILL)

    killer = Thread(target=kill)
    killer.start()
    try:
        site.get("/hang")
    finally:
        killer.join()


def test_a_queue_that_is_away_is_a_503(site: Site, tmp_path: Path) -> None:
    assert site.get("/200").status_code == 200
    for path in tmp_path.glob("queue.db*"):
        path.unlink()
    (tmp_path / "queue.db").mkdir()

    answer = site.get("/200")

    assert answer.status_code == 503, site.log.read_text()
    assert int(answer.headers["retry-after"]) > 0
    assert str(tmp_path) not in answer.text
