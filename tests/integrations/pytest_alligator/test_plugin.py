"""The pytest plugin: its fixtures, its marker and its line of configuration."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

TASKS = """
calls = []

def note(value):
    calls.append(value)
"""

PREAMBLE = """
import pytest
from alligator import Gator
from alligator.testing import sync
from my_tasks import calls, note

nowhere = Gator("redis://127.0.0.1:1/0")

@pytest.fixture(autouse=True)
def clean():
    calls.clear()
"""


@pytest.fixture(autouse=True)
def _no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    # Loading what else is installed takes seconds; and ours must not be loaded twice.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, tests: str, *args: str, ini: str = "") -> pytest.RunResult:
    """Run *tests* in a project of their own."""
    pytester.makepyfile(my_tasks=TASKS)
    pytester.makepyfile(test_project=PREAMBLE + tests)
    pytester.makeini(f"[pytest]\n{ini}\n")
    return pytester.runpytest_inprocess(
        "-p", "pytest_alligator.plugin", "--strict-markers", "--strict-config", *args
    )


def test_alligator_sync_runs_tasks_where_they_are_started(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_tasks_run(alligator_sync):
    nowhere.task(note, 1)
    assert calls == [1]
""",
    )

    result.assert_outcomes(passed=1)


def test_alligator_tasks_records_tasks(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_tasks_are_recorded(alligator_tasks):
    nowhere.task(note, 1)
    alligator_tasks.assert_pushed(note, args=[1], times=1)
    assert calls == []
    alligator_tasks.run()
    assert calls == [1]

def test_each_test_begins_with_none(alligator_tasks):
    alligator_tasks.assert_not_pushed()
""",
    )

    result.assert_outcomes(passed=2)


def test_failed_assertion_shows_the_test_and_what_was_pushed(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_tasks_are_recorded(alligator_tasks):
    nowhere.task(note, 1)
    alligator_tasks.assert_pushed("my_tasks.other")
""",
    )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            '>*alligator_tasks.assert_pushed("my_tasks.other")',
            "E*my_tasks.other(...) was not pushed. These were:",
            "E*my_tasks.note(1) on 'all'",
        ]
    )
    result.stdout.no_fnmatch_line("*testing.py*")


def test_gator_has_a_queue_of_its_own(pytester: pytest.Pytester) -> None:
    test = """
def test_{}(gator):
    assert gator.len() == 0
    gator.task(note, 1)
    assert gator.len() == 1
    assert gator.pop().status == 1
    assert calls == [1]
"""

    result = run(pytester, test.format("one") + test.format("two"))

    result.assert_outcomes(passed=2)


def test_state_is_restored_after_a_test_even_if_it_failed(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
@pytest.mark.parametrize("mode", ["alligator_sync", "alligator_tasks"])
def test_1(request, mode):
    request.getfixturevalue(mode)
    assert False

def test_2(gator):
    gator.task(note, 1)
    assert (gator.len(), calls) == (1, [])
""",
    )

    result.assert_outcomes(failed=2, passed=1)


def test_both_fixtures_at_once_are_refused_in_one_line(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_1(alligator_sync, alligator_tasks): pass")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*alligator_sync runs tasks and alligator_tasks only records*"])


def test_inner_of_two_modes_decides(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_1(alligator_tasks):
    with sync():
        nowhere.task(note, 1)
    nowhere.task(note, 2)

    assert calls == [1]
    assert len(alligator_tasks) == 1
""",
    )

    result.assert_outcomes(passed=1)


def test_marker_switches_a_mode_on(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
@pytest.mark.alligator(mode="sync")
def test_sync():
    nowhere.task(note, 1)
    assert calls == [1]

@pytest.mark.alligator("tasks")
class TestTasks:
    def test_tasks(self):
        nowhere.task(note, 1)
        assert calls == []

    @pytest.mark.alligator(mode="sync")
    def test_the_nearest_marker_counts(self):
        nowhere.task(note, 1)
        assert calls == [1]

    def test_the_fixture_is_the_same(self, alligator_tasks):
        nowhere.task(note, 1)
        assert len(alligator_tasks) == 1
""",
    )

    result.assert_outcomes(passed=4)


def test_configuration_switches_a_mode_on_for_all_tests(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import unittest

def test_sync():
    nowhere.task(note, 1)
    assert calls == [1]

class TestUnit(unittest.TestCase):
    def test_sync(self):
        nowhere.task(note, 1)
        self.assertEqual(calls, [1])

def test_a_fixture_is_nearer(alligator_tasks):
    nowhere.task(note, 1)
    assert calls == []

@pytest.mark.alligator(mode="off")
def test_a_marker_is_nearer(gator):
    gator.task(note, 1)
    assert gator.len() == 1
""",
        ini="alligator_mode = sync",
    )

    result.assert_outcomes(passed=4)


@pytest.mark.parametrize(
    "marker", ["", "mode='on'", "'sync', 'tasks'", "mood='sync'", "'sync', mode='sync'"]
)
def test_invalid_marker_is_refused(pytester: pytest.Pytester, marker: str) -> None:
    result = run(pytester, f"@pytest.mark.alligator({marker})\ndef test_1(): pass")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*@pytest.mark.alligator needs mode=, one of off, sync, tasks."])


def test_marker_that_contradicts_a_fixture_is_refused(pytester: pytest.Pytester) -> None:
    result = run(pytester, "@pytest.mark.alligator(mode='sync')\ndef test_1(alligator_tasks): pass")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*requests alligator_tasks and is marked with mode='sync'."])


def test_invalid_configuration_is_refused(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_1(): pass", ini="alligator_mode = on")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*alligator_mode must be one of off, sync, tasks, not 'on'."])


def test_fixtures_and_marker_are_documented(pytester: pytest.Pytester) -> None:
    fixtures = run(pytester, "", "--fixtures")
    markers = run(pytester, "", "--markers")

    fixtures.stdout.fnmatch_lines(["alligator_sync *", "alligator_tasks *", "gator *"])
    markers.stdout.fnmatch_lines(["@pytest.mark.alligator(mode): *"])


def test_loading_the_plugin_does_not_load_alligator() -> None:
    # What is loaded before coverage begins to measure would count as never run.
    code = "import sys, pytest_alligator.plugin; sys.exit('alligator' in sys.modules)"

    result = subprocess.run([sys.executable, "-c", code], check=False)

    assert result.returncode == 0


def test_installed_plugin_is_found_by_pytest_itself(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not any(entry.name == "alligator" for entry in entry_points(group="pytest11")):
        pytest.skip("Alligator is not installed here: pip install -e .")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    pytester.makepyfile("def test_1(alligator_tasks): alligator_tasks.assert_not_pushed()")

    result = pytester.runpytest_subprocess()

    result.assert_outcomes(passed=1)


WIDE = """
@pytest.fixture(scope="{scope}")
def order():
    nowhere.task(note, "fixture")
    return calls[:]
"""


@pytest.mark.parametrize("scope", ["session", "package", "module", "class", "function"])
@pytest.mark.parametrize(("mode", "seen"), [("sync", ["fixture"]), ("tasks", [])])
def test_configuration_applies_to_fixtures_of_every_scope(
    pytester: pytest.Pytester, scope: str, mode: str, seen: list[str]
) -> None:
    tests = f"""
def test_1(order):
    assert order == {seen}

def test_2(order, alligator_tasks):
    nowhere.task(note, "test")
    assert [task.func_args[0] for task in alligator_tasks][-1:] == ["test"]

@pytest.mark.alligator(mode="off")
def test_3(order):
    with pytest.raises(Exception, match="127.0.0.1"):
        nowhere.task(note, "test")

def test_4(order, alligator_sync):
    nowhere.task(note, "test")
    assert calls[-1] == "test"
"""

    result = run(pytester, WIDE.format(scope=scope) + tests, ini=f"alligator_mode = {mode}")

    # One that belongs to the test alone does as the test's own mode says.
    own = scope in ("class", "function")
    result.assert_outcomes(passed=3 if own else 4, errors=1 if own else 0)


@pytest.mark.parametrize("scope", ["module", "class"])
def test_marker_of_a_module_applies_to_its_fixtures(pytester: pytest.Pytester, scope: str) -> None:
    tests = """
pytestmark = pytest.mark.alligator(mode="sync")

def test_1(order):
    assert order == ["fixture"]
"""

    run(pytester, WIDE.format(scope=scope) + tests).assert_outcomes(passed=1)


def test_marker_of_a_class_applies_to_its_fixtures(pytester: pytest.Pytester) -> None:
    tests = """
@pytest.mark.alligator(mode="sync")
class TestOrders:
    def test_1(self, order):
        assert order == ["fixture"]
"""

    run(pytester, WIDE.format(scope="class") + tests).assert_outcomes(passed=1)


def test_fixture_of_the_project_can_use_a_mode(pytester: pytest.Pytester) -> None:
    tests = """
@pytest.fixture(scope="module")
def recorded():
    from alligator.testing import capture

    with capture() as tasks:
        nowhere.task(note, "fixture")
        yield tasks

def test_1(recorded, alligator_sync):
    nowhere.task(note, "test")
    assert calls == ["test"]

def test_2(recorded):
    nowhere.task(note, "later")
    assert [task.func_args[0] for task in recorded] == ["fixture", "later"]
"""

    run(pytester, tests).assert_outcomes(passed=2)


@pytest.mark.parametrize("plugin", ["anyio.pytest_plugin", "pytest_asyncio.plugin"])
def test_coroutine_tasks_run_on_the_loop_of_an_async_test(
    pytester: pytest.Pytester, plugin: str
) -> None:
    pytester.makepyfile(
        my_tasks="import asyncio\nloops = []\n"
        "async def note_loop():\n    loops.append(asyncio.get_running_loop())\n"
    )
    marker = "anyio" if plugin.startswith("anyio") else "asyncio"
    pytester.makepyfile(
        test_project=f"""
import asyncio
import pytest
from alligator import Gator
from my_tasks import loops, note_loop

nowhere = Gator("redis://127.0.0.1:1/0")

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.{marker}
async def test_loop(alligator_sync):
    async with nowhere.transaction():
        for _ in range(3):
            nowhere.task(note_loop)
    assert loops == [asyncio.get_running_loop()] * 3
"""
    )

    result = pytester.runpytest_subprocess("-p", "pytest_alligator.plugin", "-p", plugin)

    result.assert_outcomes(passed=1)
