"""The fixtures `alligator_sync`, `alligator_tasks` and `gator`, and what switches them on.

Ex::

    def test_an_order_sends_a_receipt(client, alligator_tasks):
        client.post("/orders")

        alligator_tasks.assert_pushed(send_receipt, args=[1])

The fixture is used where a test asks for it; where the test (or its class, or its module) is marked
``@pytest.mark.alligator(mode="sync")``; or everywhere with ``alligator_mode = sync`` in pytest's
configuration. The modes are ``sync``, ``tasks`` and ``off``; the nearest of the three ways decides.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

# Alligator itself is imported in the fixtures: a plugin is loaded before coverage begins to measure.
if TYPE_CHECKING:
    from alligator import Gator
    from alligator.testing import CapturedTasks

FIXTURES = {"sync": "alligator_sync", "tasks": "alligator_tasks"}
MODES = ("off", *FIXTURES)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the line of configuration."""
    parser.addini(
        "alligator_mode",
        "What becomes of Alligator's tasks: sync (run when their request succeeds), tasks (recorded, "
        "not run) or off (Alligator is left alone, the default).",
        default="off",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker, and check the configuration."""
    config.addinivalue_line(
        "markers",
        'alligator(mode): what becomes of Alligator\'s tasks during the test: "sync" (run when '
        'their request succeeds), "tasks" (recorded, not run) or "off".',
    )
    mode = config.getini("alligator_mode")
    if mode not in MODES:
        raise pytest.UsageError(f"alligator_mode is one of {', '.join(MODES)}, not {mode!r}.")


@pytest.fixture
def alligator_sync() -> Iterator[None]:
    """Run the tasks of all gators in this process, when the request that started them succeeds."""
    from alligator.testing import sync

    with sync():
        yield


@pytest.fixture
def alligator_tasks() -> Iterator["CapturedTasks"]:
    """Record the tasks of all gators in place of queuing or running them."""
    from alligator.testing import capture

    with capture() as tasks:
        yield tasks


@pytest.fixture
def gator() -> Iterator["Gator"]:
    """Make a gator whose queue is in memory and nobody else's."""
    from alligator import Gator

    gator = Gator("locmem://")
    yield gator
    gator.client.close()


@pytest.fixture(autouse=True)
def _alligator_mode(request: pytest.FixtureRequest) -> None:
    asked = [mode for mode, name in FIXTURES.items() if name in request.fixturenames]
    marked = _marked(request.node.get_closest_marker("alligator"))
    if len(asked) > 1:
        _refuse("alligator_sync runs tasks and alligator_tasks only records them: ask for one.")
    if asked and marked and marked != asked[0]:
        _refuse(f"The test asks for {FIXTURES[asked[0]]} and is marked with mode={marked!r}.")
    mode: str = asked[0] if asked else marked or request.config.getini("alligator_mode")
    if mode != "off":
        request.getfixturevalue(FIXTURES[mode])


def _marked(marker: pytest.Mark | None) -> str | None:
    """Read the mode out of ``@pytest.mark.alligator(mode=...)``."""
    if marker is None:
        return None
    given = [*marker.args, *marker.kwargs.values()]
    if len(given) != 1 or given[0] not in MODES or set(marker.kwargs) - {"mode"}:
        _refuse(f"@pytest.mark.alligator takes mode=, one of {', '.join(MODES)}.")
    mode: str = given[0]
    return mode


def _refuse(reason: str) -> None:
    pytest.fail(reason, pytrace=False)
