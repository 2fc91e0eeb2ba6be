"""Do without what a machine may lack: the test is skipped, or fails where ``CI`` is set."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import pytest

from tests.servers import Missing


def do_without(reason: str) -> NoReturn:
    """Skip the test, or fail it where everything should be installed."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@contextmanager
def needed() -> Iterator[None]:
    """Do without the test when a server is missing that the block starts."""
    try:
        yield
    except Missing as missing:
        do_without(str(missing))
