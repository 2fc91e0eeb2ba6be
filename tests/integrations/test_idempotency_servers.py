"""Requests that are repeated under their idempotency key, through real servers, stores and workers."""

import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from alligator import Gator
from tests.harness.programs import eventually, lines, running
from tests.harness.redis_network import LossyNetwork
from tests.harness.store_servers import valkey_server
from tests.harness.web_servers import Site, serving

APP = """
import os
import time
from pathlib import Path

from alligator import Gator
from tests.harness.sample_tasks import record

gator = Gator(os.environ["ALLIGATOR_CONN"])
out = os.environ["OUT"]


def wait_for(name):
    Path(out + ".started").touch()
    while not os.path.exists(out + "." + name):
        time.sleep(0.01)


def work(path):
    gator.task(record, out, path)
    if path == "/slow":
        wait_for("client-left")
    if path == "/hang-after-the-commit":
        gator.current.on_commit(lambda: wait_for("never"))
"""

WSGI = """
import flask

from wsgi_alligator import AlligatorMiddleware


def page(environ, start_response):
    work(environ["PATH_INFO"])
    start_response("201 Created", [("Content-Type", "text/plain")])
    return [b"done"]


app = AlligatorMiddleware(page, gator, idempotency_key=True)
"""

ASGI = """
import asyncio

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from starlette_alligator import AlligatorMiddleware


async def page(request):
    await asyncio.to_thread(work, request.url.path)
    return PlainTextResponse("done", 201)


app = Starlette(
    routes=[Route("/{path:path}", page, methods=["POST"])],
    middleware=[Middleware(AlligatorMiddleware, gator=gator, idempotency_key=True)],
)
"""

HEADERS = {
    "Authorization": "Bearer ann",
    "Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"',
}


@pytest.fixture(params=["gunicorn", "gunicorn sync", "flask run", "uvicorn", "uvicorn with uvloop"])
def server(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def program_of(server: str) -> str:
    if server == "flask run":
        app = "in_flask = flask.Flask(__name__)\nin_flask.wsgi_app = app\n"
        return APP + WSGI + app
    return APP + (ASGI if server.startswith("uvicorn") else WSGI)


@pytest.fixture
def site(server: str, tmp_path: Path) -> Iterator[Site]:
    with serving(server, tmp_path, program_of(server)) as site:
        yield site


def post(site: Site, path: str) -> httpx.Response:
    return httpx.post(site.url + path, headers=HEADERS, timeout=20)


def sent(site: Site, path: str) -> socket.socket:
    """Return the connection of a request that the server is working on."""
    address = urlsplit(site.url)
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    client = socket.create_connection((address.hostname, address.port), 20)
    client.sendall(
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{head}\r\n".encode()
    )
    eventually(Path(f"{site.out}.started").exists)
    return client


def test_repeated_request_queues_once_also_after_its_task_has_run(
    site: Site, tmp_path: Path
) -> None:
    assert [post(site, "/orders").status_code for _ in range(2)] == [201, 201]
    assert site.gator.len() == 1

    with running(site.dsn, log=tmp_path / "worker.log"):
        eventually(lambda: lines(site.out) == ["/orders"])
    assert post(site, "/orders").status_code == 201

    assert site.gator.len() == 0


def test_request_of_a_client_that_left_is_queued_once_when_repeated(site: Site) -> None:
    with sent(site, "/slow") as client:  # reset the connection while the view runs
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    Path(f"{site.out}.client-left").touch()
    eventually(lambda: site.gator.len() == 1)

    assert [post(site, "/slow").status_code for _ in range(2)] == [201, 201]

    assert site.gator.len() == 1


def test_request_whose_server_was_killed_after_the_commit_is_queued_once(
    server: str, tmp_path: Path
) -> None:
    path = "/hang-after-the-commit"
    with serving(server, tmp_path, program_of(server)) as site, sent(site, path) as client:
        assert site.gator.len() == 1
        os.killpg(site.process.pid, signal.SIGKILL)
        assert client.recv(1) == b""  # the client has no response
    Path(f"{site.out}.never").touch()  # this time the callback returns

    with serving(server, tmp_path, program_of(server)) as site:
        assert post(site, path).status_code == 201

        assert site.gator.len() == 1


# The server does not matter to what the network loses: one of each kind.
@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"], indirect=True)
@pytest.mark.parametrize("lost", ["request", "reply"])
def test_request_that_is_repeated_after_a_503_queues_its_tasks_once(
    server: str, lost: str, tmp_path: Path
) -> None:
    with (
        valkey_server() as store,
        closing(LossyNetwork(str(store))) as network,
        serving(server, tmp_path, program_of(server), ALLIGATOR_CONN=network.dsn) as site,
        Gator(str(store)) as gator,
    ):
        assert post(site, "/other").status_code == 201
        network.lose.extend([lost] * 4)  # of the push, of its repetition, and of any abort

        assert post(site, "/orders").status_code == 503
        network.lose.clear()
        depth = gator.len()
        assert [post(site, "/orders").status_code for _ in range(2)] == [201, 201]

        assert (depth, gator.len()) == (1 if lost == "request" else 2, 2)
