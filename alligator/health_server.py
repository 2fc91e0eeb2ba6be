"""Show whoever runs a worker's container that it lives, over HTTP."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import dumps
from threading import Thread
from typing import Any

from .constants import FAIL, PASS
from .exceptions import ConfigurationError
from .http import HEALTH_JSON
from .signs import Sign


class HealthServer:
    """``/health/live`` and ``/health/ready`` of a worker, over HTTP, from a thread of its own."""

    def __init__(self, ask: Callable[[], Sign], port: int, host: str = "127.0.0.1") -> None:
        class Handler(_Handler):
            sign = staticmethod(ask)

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise ConfigurationError(
                f"--health-port: {host}:{port} cannot be listened on ({error.strerror}). Name "
                "another port; each of several workers on one host needs its own."
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = Thread(
            target=self._server.serve_forever, args=(0.1,), name="alligator-port", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop to answer."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers two paths, and writes no log."""

    sign: Callable[[], Sign]
    timeout = 5
    server_version = "Alligator"
    sys_version = ""

    def do_GET(self) -> None:
        """Say how the worker is."""
        sign = self.sign()
        good = {"/health/live": sign.lives, "/health/ready": sign.lives and sign.store}
        passes = good.get(self.path)
        status = 404 if passes is None else 200 if passes else 503
        document = {} if passes is None else {"status": PASS if passes else FAIL}
        body = dumps(document).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", HEALTH_JSON)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - http.server calls it so

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: a probe every few seconds is no news."""
