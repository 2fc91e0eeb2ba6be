"""A plugin of pytest for Pyodide, which has no threads, processes, pairs of sockets or event loop.

A test that fails because of that is skipped.
"""

import sys
from collections.abc import Generator, Iterator

import pytest

MISSING = (
    "can't start new thread",
    "emscripten does not support processes",
    "has no attribute 'tzset'",
    "[Errno 28] Invalid argument",  # a pair of sockets
    "[Errno 52] Function not implemented",  # os.fork
    "WebAssembly stack switching not supported",  # an event loop
)
"""What the errors say that come of it."""

UNFIT = (
    *("contains_itself", "what_is_not_a_task", "nested_transactions_do_what"),
    "is_free_again_while_its_task_runs",
)
"""Parts of the names of tests that use more of the stack than WebAssembly has, which would end the
run; and of one that expects an error, and takes a missing thread for it."""


def pytest_configure(config: pytest.Config) -> None:
    """Ignore the coroutines that no event loop has run."""
    config.addinivalue_line("filterwarnings", "ignore:coroutine .* was never awaited")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what cannot be tried."""
    unfit = [item for item in items if any(word in item.name for word in UNFIT)]
    config.hook.pytest_deselected(items=unfit)
    items[:] = [item for item in items if item not in unfit]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a failure that the platform is to blame for as a test that is skipped."""
    report = yield
    if report.failed and call.excinfo is not None:
        for error in _chain(call.excinfo.value):
            if any(word in str(error) for word in MISSING):
                report.outcome = "skipped"
                report.longrepr = (str(item.path), 0, f"Skipped: {sys.platform}: {error}")
                break
    return report


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
