"""The fixtures `alligator_sync`, `alligator_tasks` and `gator`, and the settings that select them.

Ex::

    def test_an_order_sends_a_receipt(client, alligator_tasks):
        client.post("/orders")

        alligator_tasks.assert_pushed(send_receipt, args=[1])

A test selects a mode by requesting its fixture, or by a marker of the test, its class or its module:
``@pytest.mark.alligator(mode="sync")``. ``alligator_mode = sync`` in pytest's configuration selects it
for all tests. The modes are ``sync``, ``tasks`` and ``off``; the nearest of the three settings is
used. The marker of a class or a module, and the configuration, also apply to fixtures of that scope.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import pytest

# Alligator is imported in the fixtures, because pytest loads plugins before coverage starts.
if TYPE_CHECKING:
    from alligator import Gator
    from alligator.testing import CapturedTasks

FIXTURES = {"sync": "alligator_sync", "tasks": "alligator_tasks"}
MODES = ("off", *FIXTURES)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting `alligator_mode`."""
    parser.addini(
        "alligator_mode",
        "How Alligator handles tasks in tests: sync (run when their request succeeds), tasks "
        "(recorded, not run) or off (as outside of tests, the default).",
        default="off",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker `alligator`, and check the setting."""
    config.addinivalue_line(
        "markers",
        'alligator(mode): how Alligator handles tasks during the test: "sync" (run when their '
        'request succeeds), "tasks" (recorded, not run) or "off".',
    )
    mode = config.getini("alligator_mode")
    if mode not in MODES:
        raise pytest.UsageError(f"alligator_mode must be one of {', '.join(MODES)}, not {mode!r}.")


@pytest.fixture
def alligator_sync() -> Iterator[None]:
    """Run the tasks of all gators in this process, when the request that started them succeeds."""
    from alligator.testing import sync

    with sync():
        yield


@pytest.fixture
def alligator_tasks() -> Iterator["CapturedTasks"]:
    """Return the tasks of all gators, which are recorded and neither queued nor run."""
    from alligator.testing import capture

    with capture() as tasks:
        yield tasks


@pytest.fixture
def gator() -> Iterator["Gator"]:
    """Return a gator with a queue of its own in memory."""
    from alligator import Gator

    gator = Gator("locmem://")
    yield gator
    gator.client.close()


# One fixture for each scope, so that the mode also applies to other fixtures of that scope.


@pytest.fixture(scope="session", autouse=True)
def _alligator_session(pytestconfig: pytest.Config) -> Iterator[None]:
    with _mode(pytestconfig.getini("alligator_mode")):
        yield


@pytest.fixture(scope="module", autouse=True)
def _alligator_module(request: pytest.FixtureRequest) -> Iterator[None]:
    with _mode(_marked(request.node.get_closest_marker("alligator"))):
        yield


@pytest.fixture(scope="class", autouse=True)
def _alligator_class(request: pytest.FixtureRequest) -> Iterator[None]:
    with _mode(_marked(request.node.get_closest_marker("alligator"))):
        yield


@pytest.fixture(autouse=True)
def _alligator_mode(request: pytest.FixtureRequest) -> Iterator[None]:
    asked = [mode for mode, name in FIXTURES.items() if name in request.fixturenames]
    marked = _marked(request.node.get_closest_marker("alligator"))
    if len(asked) > 1:
        _fail("alligator_sync runs tasks and alligator_tasks only records them: request one.")
    if asked and marked and marked != asked[0]:
        _fail(f"The test requests {FIXTURES[asked[0]]} and is marked with mode={marked!r}.")
    mode: str = asked[0] if asked else marked or request.config.getini("alligator_mode")
    if mode != "off":
        request.getfixturevalue(FIXTURES[mode])
        yield
    else:
        with _mode(marked):
            yield


def _mode(mode: str | None) -> AbstractContextManager[object]:
    """Return the context of a mode; None changes nothing."""
    if mode == "sync":
        from alligator.testing import sync

        return sync()
    if mode == "tasks":
        from alligator.testing import capture

        return capture()
    return _off() if mode == "off" else nullcontext()


@contextmanager
def _off() -> Iterator[None]:
    """Turn off an outer mode in the block."""
    from alligator.commits.interception import set_interceptor

    before = set_interceptor(None)
    try:
        yield
    finally:
        set_interceptor(before)


def _marked(marker: pytest.Mark | None) -> str | None:
    """Return the mode of ``@pytest.mark.alligator(mode=...)``."""
    if marker is None:
        return None
    given = [*marker.args, *marker.kwargs.values()]
    if len(given) != 1 or given[0] not in MODES or set(marker.kwargs) - {"mode"}:
        _fail(f"@pytest.mark.alligator needs mode=, one of {', '.join(MODES)}.")
    mode: str = given[0]
    return mode


def _fail(reason: str) -> None:
    pytest.fail(reason, pytrace=False)
