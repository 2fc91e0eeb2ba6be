"""What all tests share."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.harness.programs import accept_signals
from tests.harness.requirements import needed
from tests.harness.store_servers import valkey_server

pytest_plugins = ["pytester"]


def pytest_configure() -> None:
    """Restore default signals for programs, also under nohup; let Hypothesis take its time."""
    accept_signals()
    # Tests have no deadlines of some milliseconds: a busy machine is no fault of the code.
    settings.register_profile(
        "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("any machine")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what is granted more time than usual: at the end all would wait for it."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """Undo what a worker has set of Alligator's log, which all tests of a process share."""
    log = logging.getLogger("alligator")
    level, handlers, propagate = log.level, log.handlers[:], log.propagate
    yield
    log.setLevel(level)
    log.handlers[:] = handlers
    log.propagate = propagate


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """Yield the DSN of a Valkey that runs as long as the tests do."""
    with needed(), valkey_server() as dsn:
        yield dsn
