"""Tell a form of our own page from one that another site had a browser send.

A signed double submit: the page carries the signature of a random cookie, and a form must bring
both. No process keeps anything, and all that have the same configuration agree.
"""

import hmac
import re
from collections.abc import Iterable, Mapping
from secrets import token_urlsafe
from urllib.parse import urlsplit

COOKIE = "alligator_csrf"

_COOKIE = re.compile(rf"(?:^|;)\s*{COOKIE}=([\w-]{{43}})\s*(?:;|$)", re.ASCII)


class Csrf:
    """Signs and checks, with what only the processes of one site know: *keys*."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._key = "\n".join(["alligator-csrf", *keys]).encode(errors="backslashreplace")

    def cookie_of(self, headers: Mapping[str, str]) -> str:
        """Find the cookie that a browser brings, empty if it has none yet."""
        found = _COOKIE.search(headers.get("cookie", ""))
        return found[1] if found else ""

    def sign(self, cookie: str) -> str:
        """Make what a form carries beside *cookie*."""
        return hmac.new(self._key, cookie.encode(), "sha256").hexdigest()

    def accepts(self, headers: Mapping[str, str], given: str) -> bool:
        """Whether *given* is what our page would have put into the form."""
        cookie = self.cookie_of(headers)
        expected = self.sign(cookie).encode()
        same = hmac.compare_digest(given.encode(errors="backslashreplace"), expected)
        return bool(cookie) and same


def new_cookie() -> str:
    """Make the value of a cookie."""
    return token_urlsafe(32)


def set_cookie(value: str) -> str:
    """Write the header that gives a browser the cookie, for this page and what is below it."""
    return f"{COOKIE}={value}; HttpOnly; SameSite=Strict"


def is_same_origin(headers: Mapping[str, str]) -> bool | None:
    """Whether a browser says that our own page sent it; None when no browser says anything.

    >>> is_same_origin({"sec-fetch-site": "same-origin"}), is_same_origin({})
    (True, None)
    >>> is_same_origin({"origin": "https://evil.example", "host": "shop.example"})
    False
    """
    site = headers.get("sec-fetch-site")
    if site is not None:  # a proxy cannot have changed it, as it may the Host
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return None
    try:
        place = urlsplit(origin).netloc
    except ValueError:
        return False
    return bool(place) and place == headers.get("host")
