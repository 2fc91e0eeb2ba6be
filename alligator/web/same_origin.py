"""Check that a browser sent a request from our own page (protection against CSRF).

The check uses only what the browser states in its headers. The forms hold no token, because a token
would add nothing: an attacker who can forge these headers can also read or choose the token.

- Another site, or a page without an origin: `Sec-Fetch-Site` is ``cross-site``. Without that header,
  `Origin` is another host or ``null``.
- Another host or port of the same site (``blog.shop.example``): ``same-site``, or another `Origin`.
  Such a host could set the cookie that a token is compared with, so a token would not help here.
- An old browser that sends neither header: refused. Only a program may send neither header. It must
  send the token of the endpoint as a Bearer token, which no browser adds by itself.
- DNS rebinding: a page of the attacker's host has the same origin and could read a token in a form.
  But cookies and passwords belong to the real host name, so its request is not authorized.
- A proxy that changes `Host`: `Sec-Fetch-Site` decides. Without that header, the form is refused.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit


def is_same_origin(headers: Mapping[str, str]) -> bool | None:
    """Return whether the browser states that our own page sent the request; None without a statement.

    >>> is_same_origin({"sec-fetch-site": "same-origin"}), is_same_origin({})
    (True, None)
    >>> is_same_origin({"origin": "https://evil.example", "host": "shop.example"})
    False
    """
    site = headers.get("sec-fetch-site")
    if site is not None:  # decides first: a proxy may change Host, but not this header
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return None
    try:
        host = urlsplit(origin).netloc
    except ValueError:
        return False
    return bool(host) and host == headers.get("host")
