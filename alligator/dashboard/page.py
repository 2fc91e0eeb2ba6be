"""Draw the dashboard: HTML, made on the server, with its style and its script in it."""

from collections.abc import Iterable, Sequence
from functools import cache
from logging import Logger, getLogger
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING

from ..constants import FAIL
from ..exceptions import MissingExtra
from ..gator import Gator
from ..health import Verdict
from ..http import Request, Response, answer, read_fields
from ..stats import measure
from ..stores import find_stores
from . import words
from .actions import DONE
from .view import Look, View

if TYPE_CHECKING:
    from jinja2 import Environment

log: Logger = getLogger("alligator")

POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Dashboard:
    """The page for one gator or several; with *actions* it has buttons, with *details* payloads."""

    def __init__(self, gators: Sequence[Gator], *, actions: bool, details: bool) -> None:
        self._gators = gators
        self._actions = actions
        self._details = details

    def draw(self, request: Request, verdict: Verdict, csrf: str = "") -> Response:
        """Draw it, for somebody who is allowed to see it; *csrf* goes into the forms.

        Raises `MissingExtra` without Jinja.
        """
        fields = read_fields(request.query)
        template = _templates().get_template("main.html" if "live" in fields else "page.html")
        view = None if verdict.status == FAIL else self._look(request.query)
        nonce = token_urlsafe(16)
        page = template.render(
            view=view,
            verdict=verdict,
            troubles=list(_troubles(verdict)),
            notice=DONE.get(Look.read(request.query).done, ""),
            actions=self._actions,
            csrf=csrf,
            nonce=nonce,
        )
        # What a task was named may hold halves of a pair, which UTF-8 has no bytes for.
        status = 503 if view is None else 200
        response = answer(status, "text/html; charset=utf-8", page.encode(errors="replace"))
        response.headers.append(("Content-Security-Policy", POLICY.format(nonce=nonce)))
        return response

    def _look(self, query: str) -> View | None:
        """Ask the stores; None when one of them does not answer."""
        try:
            stores, document = find_stores(self._gators), measure(self._gators)
            return View(stores, document, query, details=self._details)
        except Exception as error:  # a store may be anybody's, and a page is owed all the same
            log.warning("the store cannot be asked: %s", type(error).__name__)
            return None


def _troubles(verdict: Verdict) -> Iterable[str]:
    """Say what health finds wrong, each thing once."""
    outputs = (
        entry["output"]
        for entries in verdict.checks.values()
        for entry in entries
        if entry["status"] != "pass" and "output" in entry
    )
    return dict.fromkeys(outputs)


@cache
def _templates() -> "Environment":
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise MissingExtra("The dashboard needs: pip install 'alligator[dashboard]'") from error
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for word in (words.number, words.duration, words.rate, words.size, words.clock, words.moment):
        environment.filters[word.__name__] = environment.globals[word.__name__] = word
    return environment
