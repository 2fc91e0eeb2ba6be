"""Run Django's own tests of task backends with ours in the place of Django's two backends.

``nox -s django_tasks`` does; the tests are in the source distribution of Django::

    python -m tests.integrations.django_alligator.conformance Django-6.1/tests

What ours does otherwise is listed with the reason. Another failure ends with status 1, as does a
listed test that passes.
"""

import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from importlib import import_module
from io import StringIO
from typing import Any

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        ALLIGATOR={"CONN": "locmem://", "ASYNC": True},
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["django_alligator"],
        LOGGING={
            "version": 1,
            "handlers": {"none": {"class": "logging.NullHandler"}},
            "loggers": {"alligator": {"handlers": ["none"]}},
        },
        MIDDLEWARE=["django_alligator.Middleware"],
        SECRET_KEY="for tests",
        USE_TZ=True,
    )
    django.setup()

from django.test.runner import DiscoverRunner

from alligator.testing import sync
from django_alligator import gator
from django_alligator.task_backend import TaskBackend

MODULES = ["tasks.test_dummy_backend", "tasks.test_immediate_backend", "tasks.test_tasks"]

RESULTS = "results are not kept: get_result and refresh are refused"
DIFFERENCES = {
    "DummyBackendTestCase.test_clear": RESULTS,
    "DummyBackendTestCase.test_get_missing_result": RESULTS,
    "DummyBackendTestCase.test_get_result": RESULTS,
    "DummyBackendTestCase.test_get_result_async": RESULTS,
    "DummyBackendTestCase.test_refresh_result": RESULTS,
    "DummyBackendTestCase.test_refresh_result_async": RESULTS,
    "TaskTestCase.test_get_incorrect_result": RESULTS,
    "TaskTestCase.test_get_incorrect_result_async": RESULTS,
    "TaskTestCase.test_get_missing_result": RESULTS,
    "TaskTestCase.test_get_result": RESULTS,
    "TaskTestCase.test_get_result_async": RESULTS,
    "TaskTestCase.test_refresh_result": RESULTS,
    "ImmediateBackendTestCase.test_cannot_pass_run_after": "run_after is supported",
    "ImmediateBackendTestCase.test_complex_return_value": (
        "a return value is not kept, so it may be of any type"
    ),
    "ImmediateBackendTransactionTestCase.test_doesnt_wait_until_transaction_commit_by_default": (
        "a task waits for the commit of its transaction"
    ),
}
"""The tests that fail with our backend, and why."""


class Queued(TaskBackend):
    """In the place of `DummyBackend`, which keeps what was enqueued for its tests."""

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self.results: list[Any] = []
        # Not an option, because the tests expect that there is none.
        self.priorities = {1: "high", -1: "low"}
        self.supports_priority = True

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Put a task on the queue."""
        result = super().enqueue(task, args, kwargs)
        self.results.append(deepcopy(result))
        return result

    def clear(self) -> None:
        """Empty the queue."""
        self.results.clear()
        gator.client.drop_all("all")


class Inline(TaskBackend):
    """In the place of `ImmediateBackend`, which runs a task at the call."""

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run a task, as `alligator.testing.sync` does."""
        with sync(propagate=False):
            return super().enqueue(task, args, kwargs)


class Runner(DiscoverRunner):
    """Keeps the failures, by the names of the tests."""

    failures: Mapping[str, str]

    def get_test_runner_kwargs(self) -> dict[str, Any]:
        """Return the arguments of the runner of unittest, which is to print nothing."""
        return {**super().get_test_runner_kwargs(), "stream": StringIO()}

    def suite_result(self, suite: Any, result: Any, **kwargs: Any) -> int:
        """Return the number of tests that have run."""
        self.failures = {
            getattr(test, "test_case", test).id().partition(".test_")[2].partition(".")[2]: text
            for test, text in [*result.failures, *result.errors]
        }
        return int(result.testsRun)


def main(folder: str) -> int:
    """Run the tests, print what differs, and return the exit status."""
    sys.path.insert(0, folder)
    import_module("django.tasks.backends.dummy").__dict__["DummyBackend"] = Queued
    import_module("django.tasks.backends.immediate").__dict__["ImmediateBackend"] = Inline
    runner = Runner(verbosity=0)
    number = runner.run_tests(MODULES)
    for name, reason in DIFFERENCES.items():
        print(f"{'differs' if name in runner.failures else 'PASSES'}: {name}: {reason}")
    unexpected = [name for name in runner.failures if name not in DIFFERENCES]
    for name in unexpected:
        print(f"FAILS: {name}\n{runner.failures[name]}")
    passed = number - len(runner.failures)
    print(f"Django {django.__version__}: {passed} of {number} tests pass, {number - passed} differ")
    return int(runner.failures.keys() != DIFFERENCES.keys())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
