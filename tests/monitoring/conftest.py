"""Gators and stores for the tests of monitoring."""

from collections.abc import Iterator

import pytest

from alligator import Gator
from tests.harness.health import Durable, Frozen, with_worker


@pytest.fixture
def gator() -> Gator:
    """A gator with a worker on its queue, in a store where no worker serves other queues."""
    return with_worker(Gator("locmem://", "mail", backend_class=Durable))


@pytest.fixture
def frozen() -> Iterator[Frozen]:
    client = Frozen("locmem://")
    yield client
    client.thawed.set()
