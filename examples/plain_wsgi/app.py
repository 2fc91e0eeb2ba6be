"""Count the words of texts: pure WSGI, with the server of the standard library."""

import sys
from collections.abc import Iterable
from hashlib import sha256
from re import fullmatch
from wsgiref.simple_server import make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from alligator import Gator
from wsgi_alligator import AlligatorEndpoint, AlligatorMiddleware

from .tasks import DATA, count_words, result_file

gator = Gator.from_env()
health = AlligatorEndpoint(gator)


def route(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Accept a text at ``POST /``, return its count at ``GET /results/ID``."""
    path = environ["PATH_INFO"]
    if path.startswith("/alligator/"):
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/alligator", path.removeprefix("/alligator")
        return health(environ, start_response)
    if path == "/" and environ["REQUEST_METHOD"] == "POST":
        return take_text(environ, start_response)
    found = fullmatch("/results/([0-9a-f]{32})", path)
    if found:
        return show_result(found[1], start_response)
    start_response("200 OK" if path == "/" else "404 Not Found", [("Content-Type", "text/plain")])
    return [b"POST a text to /\n"]


def take_text(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Store the text, start a task that counts it, and return the address of the result."""
    text = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    name = sha256(text).hexdigest()
    DATA.mkdir(parents=True, exist_ok=True)
    (DATA / name).write_bytes(text)
    task = gator.task(count_words, name)
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        # The task was started above. It is not queued, for this response is not a success.
        start_response("422 Unprocessable Content", [("Content-Type", "text/plain")])
        return [b"The text is not UTF-8.\n"]
    start_response(
        "202 Accepted",
        [("Content-Type", "text/plain"), ("Location", f"/results/{task.task_id}")],
    )
    return [f"/results/{task.task_id}\n".encode()]


def show_result(task_id: str, start_response: StartResponse) -> Iterable[bytes]:
    """Return the count, if the worker has finished."""
    try:
        result = result_file(task_id).read_bytes()
    except FileNotFoundError:
        start_response("404 Not Found", [("Content-Type", "text/plain"), ("Retry-After", "1")])
        return [b"Not yet.\n"]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [result]


app = AlligatorMiddleware(route, gator, options={"retries": 3})


def main(port: int = 8000) -> None:
    """Serve the example locally; a real server would use ``examples.plain_wsgi.app:app``."""
    with make_server("127.0.0.1", port, app) as server:
        print(f"http://127.0.0.1:{server.server_port}/", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
