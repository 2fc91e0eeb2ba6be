"""Handle missing requirements: the test is skipped, or fails if ``CI`` is set."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import pytest

from tests.harness.store_servers import Missing


def do_without(reason: str) -> NoReturn:
    """Skip the test, or fail it if everything should be installed."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@contextmanager
def needed() -> Iterator[None]:
    """Skip the test if a server that the block starts is missing."""
    try:
        yield
    except Missing as missing:
        do_without(str(missing))
