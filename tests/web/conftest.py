"""An endpoint with actions for the tests of the pages."""

from collections.abc import Callable

import pytest

from alligator import Gator
from alligator.monitoring.health import Health
from alligator.web.endpoint import Endpoint
from alligator.web.http import Request
from tests.harness.dashboard import OURS, TOKEN, Forms


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALLIGATOR_TOKEN", raising=False)


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


@pytest.fixture
def endpoint(gator: Gator) -> Endpoint:
    # With a longer timeout than by default, as the machine of the tests may be busy.
    return Endpoint(gator, token=TOKEN, actions=True, health=Health(gator, timeout=30))


@pytest.fixture
def browse(endpoint: Endpoint) -> Callable[[], tuple[list[dict[str, str]], dict[str, str]]]:
    """Load the page as a browser does: its forms, and the headers that a browser sends with them."""

    def browse() -> tuple[list[dict[str, str]], dict[str, str]]:
        response = endpoint.respond(Request("GET", "/", True))
        return Forms(response.body.decode()).found, OURS

    return browse
