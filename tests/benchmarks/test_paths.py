"""The counting of functions that a task passes."""

import re
from collections.abc import Awaitable
from pathlib import Path

from alligator import Gator
from tests.benchmarks.paths import asteps_of, steps_of
from tests.harness.doc_examples import ROOT
from tests.harness.sample_tasks import add


def test_functions_are_counted_once_and_calls_each_time() -> None:
    gator = Gator("locmem://")

    one, two = (
        steps_of(lambda number=number: [gator.task(add, 1, 2) for _ in range(number)])  # type: ignore[misc]
        for number in (1, 2)
    )

    assert "alligator/gator.py: Gator.task" in one.names
    assert (two.functions, two.files) == (one.functions, one.files)
    assert two.calls == 2 * one.calls


def test_coroutine_that_waits_is_one_call() -> None:
    gator = Gator("locmem://")

    async def push() -> None:
        async with gator.transaction():
            gator.task(add, 1, 2)

    def call() -> Awaitable[None]:
        return push()

    steps = asteps_of(call)

    assert steps.functions <= steps.calls < 2 * steps.functions


def test_architecture_names_the_files_of_the_way_and_these_exist() -> None:
    gator = Gator("locmem://")
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    rows = re.findall(r"^\| \d \| (.+) \|$", page, re.MULTILINE)
    named = set(re.findall(r"`([\w/]+\.py)`", " ".join(rows)))

    def push() -> None:
        with gator.transaction():
            gator.task(add, 1, 2)

    passed = {name.partition(":")[0].partition("/")[2] for name in steps_of(push).names}

    assert {name for name in passed if not name.startswith(("_runtime/", "backends/"))} <= named
    assert [name for name in named if not Path(ROOT, "alligator", name).exists()] == []
