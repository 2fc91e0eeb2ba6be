"""Real web servers as processes, each with a queue in SQLite."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx

from alligator import Gator
from tests.harness.requirements import do_without
from tests.harness.web_process import WebProcess, web_process

APP = '''
import os
import time
from pathlib import Path

from alligator import Gator
from tests.harness.sample_tasks import record

gator = Gator(os.environ["ALLIGATOR_CONN"])
out = os.environ["OUT"]


def work(path):
    """Execute the action of the path; return a status."""
    gator.task(record, out, path)
    if path == "/hang":
        Path(out + ".hanging").touch()
        time.sleep(60)
    if path == "/raise":
        raise RuntimeError("the view fails")
    return int(path[1:]) if path[1:].isdigit() else 200
'''

WSGI = """
import sys
from wsgiref.util import FileWrapper

import flask

from wsgi_alligator import AlligatorEndpoint, AlligatorMiddleware

HEADERS = {
    "/latin-1": ("X-File", "\\u65e5\\u672c.pdf"),
    "/name": ("X File", "a.pdf"),
    "/newline": ("X-File", "a.pdf\\r\\n"),
    "/hop-by-hop": ("Connection", "keep-alive"),
}


def failing():
    raise RuntimeError("the query fails at its first row")
    yield b""


def pages(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/alligator/health":
        return AlligatorEndpoint(gator)({**environ, "PATH_INFO": "/health"}, start_response)
    status = work(path)
    if path == "/first-chunk":
        start_response("201 Created", [("Content-Type", "text/plain")])
        return failing()
    if path in HEADERS:
        start_response("201 Created", [("Content-Length", "4"), HEADERS[path]])
        return [b"done"]
    if path == "/reported":
        start_response("201 Created", [])
        try:
            raise RuntimeError("the template fails")
        except RuntimeError:
            start_response("500 Sorry", [("Content-Length", "5")], sys.exc_info())
        return [b"sorry"]
    if path == "/file":
        file = open(__file__, "rb")
        start_response("200 OK", [("Content-Length", str(os.path.getsize(__file__)))])
        return environ.get("wsgi.file_wrapper", FileWrapper)(file)
    start_response(f"{status} Whatever", [("Content-Type", "text/plain")])
    if path == "/stream":
        return (b"chunk " for _ in range(3))
    return [b"done"]


app = AlligatorMiddleware(pages, gator)
in_flask = flask.Flask(__name__)
in_flask.wsgi_app = app
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


def get(url: str) -> httpx.Response:
    """Send a request without loading the certificates of the machine, which takes 20 ms."""
    return httpx.get(url, timeout=20, verify=False)


class Site:
    """A running server."""

    def __init__(self, web: WebProcess, folder: Path) -> None:
        self.process = web.process
        self.log = web.log
        self.url = web.url
        self.out = folder / "out"
        self.dsn = f"sqlite://{folder / 'queue.db'}"
        self.gator = Gator(self.dsn)

    def get(self, path: str) -> httpx.Response:
        return get(self.url + path)


UVICORN = ["uvicorn", "site_under_test:app", "--host", "127.0.0.1", "--port", "0"]
GUNICORN = ["gunicorn", "site_under_test:app", "-b", "127.0.0.1:0"]
GRANIAN = ["granian", "--interface", "wsgi", "--host", "127.0.0.1", "--blocking-threads", "4"]
# An extension module, which cannot be run with -m.
UWSGI = ["-c", "import pyuwsgi, sys; pyuwsgi.run(sys.argv[1:])", "--http-socket", "127.0.0.1:0"]

WSGI_SERVERS: dict[str, list[str]] = {
    "gunicorn": ["-m", *GUNICORN, "--threads", "4"],
    "gunicorn sync": ["-m", *GUNICORN],
    "gunicorn gevent": ["-m", *GUNICORN, "--worker-class", "gevent"],
    "waitress": ["-m", "waitress", "--listen", "127.0.0.1:0", "site_under_test:app"],
    "flask run": ["-m", "flask", "--app", "site_under_test:in_flask", "run", "--port", "0"],
    "uwsgi": [*UWSGI, "--module", "site_under_test:app", "--enable-threads", "--threads", "4"],
    "uwsgi without threads": [*UWSGI, "--module", "site_under_test:app"],
    "granian": ["-m", *GRANIAN, "site_under_test:app"],
}
ASGI_SERVERS: dict[str, list[str]] = {
    "uvicorn": ["-m", *UVICORN, "--loop", "asyncio"],
    "uvicorn with uvloop": ["-m", *UVICORN, "--loop", "uvloop"],
}
SERVERS = {**WSGI_SERVERS, **ASGI_SERVERS}

MODULES = {"uwsgi": "pyuwsgi"}


def need(name: str) -> None:
    """Skip the test if the server of that name is not installed."""
    for word in name.split():
        module = MODULES.get(word, word)
        if module not in ("run", "sync", "with", "without", "threads") and not find_spec(module):
            do_without(f"{module} is not installed")


@contextmanager
def serving(name: str, folder: Path, program: str = "", **env: str) -> Iterator[Site]:
    """Run the server of that name on a port that it chooses."""
    need(name)
    (folder / "site_under_test.py").write_text(
        program or APP + (WSGI if name in WSGI_SERVERS else ASGI)
    )
    settings = {
        "ALLIGATOR_CONN": f"sqlite://{folder / 'queue.db'}",
        "OUT": str(folder / "out"),
        **env,
    }
    with web_process(SERVERS[name], folder, **settings) as web:
        site = Site(web, folder)
        try:
            yield site
        finally:
            site.gator.client.close()
