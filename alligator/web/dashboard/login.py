"""Log-in for browsers: a page that asks for the token, and a session cookie for twelve hours."""

import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import pbkdf2_hmac, sha256
from html import escape
from importlib.resources import files
from secrets import token_urlsafe
from time import time

from ..http import Response, make_response

COOKIE = "alligator_session"

SESSION_SECONDS = 12 * 3600
"""How long a browser stays logged in."""

ROUNDS = 100_000
"""Key-derivation rounds, which make it slow to try tokens against a stolen cookie."""

_COOKIE = re.compile(
    rf"(?:^|;)\s*{COOKIE}=((\d{{10,12}})\.[\w-]{{22}})\.([\w-]{{43}})(?=\s*(?:;|$))", re.ASCII
)


class Sessions:
    """Makes and checks the session cookies of browsers that have sent *token*.

    Nothing is stored: each process with the same token accepts them; with another token none does.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self._key = b""

    def begin(self) -> str:
        """Return the value of a new cookie."""
        content = f"{int(time()) + SESSION_SECONDS}.{token_urlsafe(16)}"
        return f"{content}.{self._sign(content)}"

    def accept(self, cookies: str) -> bool:
        """Return whether a ``Cookie`` header has a session cookie that is ours and not expired."""
        return any(
            # Takes constant time.
            hmac.compare_digest(found[3], self._sign(found[1])) and int(found[2]) > time()
            for found in _COOKIE.finditer(cookies)
        )

    def _sign(self, content: str) -> str:
        if not self._key:  # derived once, at the first cookie, because it is slow
            self._key = pbkdf2_hmac("sha256", self._token.encode(), b"alligator-session", ROUNDS)
        signature = hmac.digest(self._key, content.encode(), "sha256")
        return b64encode(signature, b"-_").decode().rstrip("=")


def set_session(value: str, headers: Mapping[str, str]) -> str:
    """Return the ``Set-Cookie`` header for the pages of the endpoint; an empty *value* removes it.

    The ``Origin`` shows whether the browser uses https, also behind a proxy. A form without it is
    accepted by ``Sec-Fetch-Site`` only, which browsers send only over https or to localhost.
    """
    age = SESSION_SECONDS if value else 0
    secure = "" if headers.get("origin", "").startswith("http://") else "; Secure"
    return f"{COOKIE}={value}; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"


def read_token(authorization: str) -> str:
    """Return the token in an ``Authorization`` header: a Bearer, or the password of Basic.

    >>> read_token("Bearer abc"), read_token("Basic YW5uOmFiYw=="), read_token("Digest abc")
    ('abc', 'abc', '')
    """
    scheme, _, given = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    if scheme.lower() == "basic":
        try:
            return b64decode(given.strip(), validate=True).decode().partition(":")[2]
        except ValueError:  # not Base64, or not UTF-8
            return ""
    return ""


def render_login(action: str, *, wrong: bool = False) -> Response:
    """Return the page that asks for the token and posts it to *action*."""
    folder = files("alligator.web.dashboard")
    style, page = ((folder / name).read_text("utf-8") for name in ("login.css", "login.html"))
    error = '<p class="wrong" role="alert">The token is wrong.</p>' if wrong else ""
    html = page.format(style=style, action=escape(action), error=error)
    response = make_response(403, "text/html; charset=utf-8", html.encode())
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    )
    response.headers.extend([("Content-Security-Policy", policy), ("Vary", "Accept")])
    return response
