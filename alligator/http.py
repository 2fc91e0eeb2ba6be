"""What the endpoint is asked, and what it answers, free of any protocol."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from json import dumps
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

MAX_BODY = 64 * 1024
"""How many bytes of a POST are read: enough to name some hundreds of tasks."""

MAX_FIELDS = 20
MAX_FORM_FIELDS = 1_000

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
HEALTH_JSON = "application/health+json"
FORM = "application/x-www-form-urlencoded"


class Request(NamedTuple):
    """A question, as a protocol hands it on."""

    method: str
    path: str
    """What comes after the mount: ``/health``."""
    allowed: bool = False
    """Whether the caller may see more than a stranger."""
    query: str = ""
    headers: Mapping[str, str] = MappingProxyType({})
    """Their names in lower case."""
    body: bytes | None = b""
    """What was posted by somebody who is allowed; None when it is longer than `MAX_BODY`."""
    mount: str = ""
    """Where the endpoint is, as far as the application knows: ``/alligator``."""

    def is_from_a_browser(self) -> bool:
        """Whether a person will read the answer."""
        return "text/html" in self.headers.get("accept", "")


class Response(NamedTuple):
    """An answer, for a protocol to send as it is."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def read_fields(text: str) -> dict[str, str]:
    """Read a query, the last of each name; nothing of one that has too many.

    >>> read_fields("queue=mail&limit=9&limit=10")
    {'queue': 'mail', 'limit': '10'}
    """
    return dict(_read_pairs(text, MAX_FIELDS))


def read_form(text: str) -> list[tuple[str, str]]:
    """Read a form, in which a name may stand several times; nothing of one that has too many."""
    return _read_pairs(text, MAX_FORM_FIELDS)


def _read_pairs(text: str, most: int) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=most)
    except ValueError:
        return []


def answer(status: int, media_type: str, body: bytes) -> Response:
    """Make an answer that nobody may keep, frame, or take for something else."""
    headers = [
        ("Content-Type", media_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "same-origin"),  # "no-referrer" would hide the Origin of our own forms
    ]
    return Response(status, headers, body)


def answer_json(status: int, media_type: str, document: dict[str, Any]) -> Response:
    """Make an answer of *document*."""
    return answer(status, media_type, dumps(document).encode() + b"\n")


def redirect(status: int, location: str) -> Response:
    """Send the caller on; *location* is relative, for a proxy may have put a prefix before us."""
    response = answer(status, "text/plain; charset=utf-8", b"")
    response.headers.append(("Location", location))
    return response


def problem(request: Request, status: int, title: str, detail: str) -> Response:
    """Say what is wrong: as a page to a browser, as ``application/problem+json`` to all else."""
    if not request.is_from_a_browser():
        document = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        response = answer_json(status, PROBLEM_JSON, document)
    else:
        page = PROBLEM_PAGE.format(style=STYLE, title=escape(title), detail=escape(detail))
        response = answer(status, "text/html; charset=utf-8", page.encode())
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
