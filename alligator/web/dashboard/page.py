"""The dashboard as one HTML document, with its style and its script."""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from logging import Logger, getLogger
from secrets import token_urlsafe
from typing import TYPE_CHECKING

from ..._runtime.failures import describe
from ...constants import FAIL
from ...exceptions import BackendError, MissingExtra
from ...gator import Gator
from ...monitoring.health import Verdict
from ...monitoring.stats import measure
from ...monitoring.stores import find_stores
from ..http import Request, Response, make_response, read_fields
from . import formats
from .actions import NOTICES
from .page_query import PageQuery
from .view import View

if TYPE_CHECKING:
    from jinja2 import Environment

log: Logger = getLogger("alligator")

POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


FILTERS = (
    *(formats.number, formats.duration, formats.at_most, formats.rate),
    *(formats.size, formats.clock, formats.date_time),
    *(formats.limit, formats.limit_of_key, formats.keys),
)
"""The filters of the templates."""

MAX_FINDINGS = 10
"""How many findings of health are shown."""


class Dashboard:
    """The page for *gators*; *actions* adds buttons, and *details* shows arguments and tracebacks."""

    def __init__(self, gators: Sequence[Gator], *, actions: bool, details: bool) -> None:
        self._gators = gators
        self._actions = actions
        self._details = details

    def render(self, request: Request, verdict: Verdict, *, has_session: bool = False) -> Response:
        """Return the page for an authorized caller; *has_session* adds a button to log out.

        Raises `MissingExtra` without Jinja.
        """
        fields = read_fields(request.query)
        template = _templates().get_template("main.html" if "live" in fields else "page.html")
        view = None if verdict.status == FAIL else self._read_stores(request.query)
        findings = list(_findings(verdict))
        nonce = token_urlsafe(16)
        page = template.render(
            view=view,
            verdict=verdict,
            findings=findings[:MAX_FINDINGS],
            more_findings=len(findings[MAX_FINDINGS:]),
            notice=NOTICES.get(PageQuery.parse(request.query).done, ""),
            actions=self._actions,
            nonce=nonce,
            has_session=has_session,
        )
        # A name may contain a lone surrogate, which UTF-8 cannot encode.
        status = 503 if view is None else 200
        response = make_response(
            status, "text/html; charset=utf-8", page.encode(errors="backslashreplace")
        )
        response.headers.append(("Content-Security-Policy", POLICY.format(nonce=nonce)))
        return response

    def _read_stores(self, query: str) -> View | None:
        """Return what the page shows; None if a store does not answer."""
        try:
            stores, document = find_stores(self._gators), measure(self._gators)
            return View(stores, document, query, details=self._details)
        except BackendError as error:
            log.warning("the dashboard cannot read the store: %s", describe(error))
            return None


def _findings(verdict: Verdict) -> Iterable[str]:
    """Return the messages of all checks that do not pass, each once."""
    outputs = (
        entry["output"]
        for entries in verdict.checks.values()
        for entry in entries
        if entry["status"] != "pass" and "output" in entry
    )
    return dict.fromkeys(outputs)


def _read(name: str) -> str:
    """Return the text of a template; the package may be in a zip archive, so it may be no file."""
    return files("alligator.web.dashboard").joinpath(name).read_text("utf-8")


@cache
def _templates() -> "Environment":
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise MissingExtra("The dashboard needs: pip install 'alligator[dashboard]'") from error
    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for each in FILTERS:
        environment.filters[each.__name__] = environment.globals[each.__name__] = each
    return environment
