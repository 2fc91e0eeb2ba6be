"""Requests and responses, above all of the endpoint, independent of the framework."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from json import dumps
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

MAX_BODY = 64 * 1024
"""How many bytes of a POST are read: enough for a form that names some hundred tasks."""

MAX_FIELDS = 20
MAX_FORM_FIELDS = 1_000

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
FORM = "application/x-www-form-urlencoded"


class Request(NamedTuple):
    """A request, as an adapter translates it."""

    method: str
    path: str
    """The path after the mount, such as ``/health``."""
    allowed: bool = False
    """Whether the caller is authorized."""
    query: str = ""
    headers: Mapping[str, str] = MappingProxyType({})
    """The headers; their names are in lower case."""
    body: bytes | None = b""
    """The posted body; None when it is longer than `MAX_BODY`."""
    mount: str = ""
    """The path of the endpoint as the application knows it, such as ``/alligator``."""

    def is_from_a_browser(self) -> bool:
        """Return whether the caller accepts HTML, so that a person will read the response."""
        return "text/html" in self.headers.get("accept", "")


class Response(NamedTuple):
    """A response, for an adapter to send unchanged."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def read_fields(text: str) -> dict[str, str]:
    """Return the fields of a query, the last of each name; none if there are too many.

    >>> read_fields("queue=mail&limit=9&limit=10")
    {'queue': 'mail', 'limit': '10'}
    """
    return dict(_read_pairs(text, MAX_FIELDS))


def read_form(text: str) -> list[tuple[str, str]]:
    """Return the fields of a form, which may repeat a name; none if there are too many."""
    return _read_pairs(text, MAX_FORM_FIELDS)


def _read_pairs(text: str, limit: int) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=limit)
    except ValueError:
        return []


def read_length(text: str) -> int:
    """Return the number in a ``Content-Length``: ASCII digits with any number of leading zeros.

    For anything else, and for more than `MAX_BODY`, return a number above `MAX_BODY`.

    >>> read_length("007"), read_length("9" * 99) > MAX_BODY, read_length("-1") > MAX_BODY
    (7, True, True)
    """
    if not (text.isascii() and text.isdigit()):
        return MAX_BODY + 1
    digits = text.lstrip("0") or "0"
    return int(digits) if len(digits) <= len(str(MAX_BODY)) else MAX_BODY + 1


def is_websocket(environ: Mapping[str, Any]) -> bool:
    """Return whether a request of WSGI opens a WebSocket.

    It must have all that a handshake has: a single header must not queue the tasks of a view before
    its response is known. Clients of HTTP/2 also ask for an upgrade.

    >>> is_websocket({"REQUEST_METHOD": "GET", "HTTP_UPGRADE": "WebSocket"})
    True
    >>> is_websocket({"REQUEST_METHOD": "GET", "HTTP_UPGRADE": "h2c"})
    False
    """
    upgrade: str = environ.get("HTTP_UPGRADE", "")
    return upgrade.lower() == "websocket" and bool(environ["REQUEST_METHOD"] == "GET")


def make_response(status: int, media_type: str, body: bytes) -> Response:
    """Return a response with headers that forbid caching and guessing its type."""
    headers = [
        ("Content-Type", media_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "same-origin"),  # with "no-referrer" our own forms have no Origin
    ]
    return Response(status, headers, body)


def make_json_response(status: int, media_type: str, document: dict[str, Any]) -> Response:
    """Return a response whose body is *document*."""
    return make_response(status, media_type, dumps(document).encode() + b"\n")


def redirect(status: int, location: str) -> Response:
    """Return a redirect; *location* is relative, because a proxy may add a prefix to the path."""
    response = make_response(status, "text/plain; charset=utf-8", b"")
    response.headers.append(("Location", location))
    return response


def problem(request: Request, status: int, title: str, detail: str) -> Response:
    """Return an error: a page for a browser, ``application/problem+json`` for other clients."""
    if not request.is_from_a_browser():
        document = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        response = make_json_response(status, PROBLEM_JSON, document)
    else:
        page = PROBLEM_PAGE.format(style=STYLE, title=escape(title), detail=escape(detail))
        response = make_response(status, "text/html; charset=utf-8", page.encode())
        response.headers.append(("Content-Security-Policy", PROBLEM_POLICY))
    response.headers.append(("Vary", "Accept"))
    return response


STYLE = (
    "body{max-width:36rem;margin:15vh auto 0;padding:0 1.5rem;font:16px/1.5 system-ui,sans-serif}"
)

PROBLEM_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

PROBLEM_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{detail}</p>
</main>
</body>
</html>
"""
