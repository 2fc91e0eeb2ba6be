"""Fixtures that the web integrations share."""

import pytest

from alligator import Gator
from tests.harness.web_sites import SITES, Site


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest) -> Site:
    """A maker of web sites, once for each integration."""
    return SITES[request.param]


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")
