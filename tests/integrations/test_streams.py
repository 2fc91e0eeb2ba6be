"""Streams behind real servers: their head leaves at once, and their tasks are queued by then."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from alligator import Gator
from alligator.testing import drain
from tests.harness.programs import eventually
from tests.harness.web_process import web_process

PROGRAM = '''
import asyncio
import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from alligator import Gator
from starlette_alligator import AlligatorMiddleware
from tests.harness.sample_tasks import record

gator = Gator(os.environ["ALLIGATOR_CONN"])
OUT = Path(os.environ["OUT"])


async def until(condition):
    """Send what the task has done, once it has run."""
    while not condition():
        await asyncio.sleep(0.01)
    yield b"data: done\\r\\n\\r\\n"


async def progress(request):
    gator.task(record, str(OUT), "done")
    return StreamingResponse(until(OUT.exists), media_type="text/event-stream")


async def quiet(request):
    return StreamingResponse(until(Path(f"{OUT}.go").exists), media_type="text/event-stream")


async def events(request):
    from sse_starlette import EventSourceResponse

    async def data():
        async for _ in until(OUT.exists):
            yield {"data": "done"}

    gator.task(record, str(OUT), "done")
    return EventSourceResponse(data(), ping=3600)


async def refused(request):
    gator.task(record, str(OUT), "refused")
    response = PlainTextResponse("done")
    response.raw_headers.append((request.query_params["name"].encode(), b"value"))
    return response


async def newline(request):
    gator.task(record, str(OUT), "newline")
    return PlainTextResponse("done", headers={"x-name": "value\\n"})


app = Starlette(
    routes=[Route(f"/{view.__name__}", view) for view in (progress, quiet, events, refused, newline)],
    middleware=[Middleware(AlligatorMiddleware, gator=gator)],
)
'''

UVICORN = ["uvicorn", "streams:app", "--host", "127.0.0.1", "--port", "0"]
SERVERS = {
    "uvicorn asyncio h11": [*UVICORN, "--loop", "asyncio", "--http", "h11"],
    "uvicorn asyncio httptools": [*UVICORN, "--loop", "asyncio", "--http", "httptools"],
    "uvicorn uvloop h11": [*UVICORN, "--loop", "uvloop", "--http", "h11"],
    "uvicorn uvloop httptools": [*UVICORN, "--loop", "uvloop", "--http", "httptools"],
    "hypercorn": ["hypercorn", "streams:app", "--bind", "127.0.0.1:0"],
    "granian": ["granian", "--interface", "asgi", "--host", "127.0.0.1", "streams:app"],
}


class Site(NamedTuple):
    """A server that is running."""

    url: str
    gator: Gator
    out: Path
    log: Path


@pytest.fixture(params=SERVERS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    for needed in request.param.split():
        if needed != "asyncio":
            pytest.importorskip(needed)
    with serving(SERVERS[request.param], tmp_path) as site:
        yield site


@contextmanager
def serving(command: list[str], folder: Path) -> Iterator[Site]:
    (folder / "streams.py").write_text(PROGRAM)
    dsn = f"sqlite://{folder}/queue.db?timeout=15"
    settings = {"ALLIGATOR_CONN": dsn, "OUT": str(folder / "out")}
    with web_process(["-m", *command], folder, **settings) as web, Gator(dsn) as gator:
        eventually(lambda: _answers(web.url))
        yield Site(web.url, gator, folder / "out", web.log)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=20).status_code == 404
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("path", ["/progress", "/events"])
def test_stream_that_waits_for_its_own_task_receives_its_result(site: Site, path: str) -> None:
    if path == "/events":
        pytest.importorskip("sse_starlette")

    with httpx.stream("GET", site.url + path, timeout=20) as response:
        depth = site.gator.len()  # the head is here, and its task is queued
        ran = drain(site.gator)
        body = response.read()

    assert (response.status_code, depth, ran) == (200, 1, 1)
    assert body == b"data: done\r\n\r\n"


def test_head_of_a_silent_stream_does_not_wait_for_the_first_chunk(site: Site) -> None:
    with httpx.stream("GET", f"{site.url}/quiet", timeout=20) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        Path(f"{site.out}.go").touch()
        assert response.read() == b"data: done\r\n\r\n"


@pytest.mark.parametrize("path", ["/refused?name=a b", "/newline"])
def test_head_that_the_server_does_not_send_queues_nothing(site: Site, path: str) -> None:
    try:
        status = httpx.get(site.url + path, timeout=20).status_code
    except httpx.TransportError:
        status = 500

    # Some servers send a name with a space all the same.
    assert site.gator.len() == (1 if status < 400 else 0)
    if path == "/newline":
        assert status == 500
