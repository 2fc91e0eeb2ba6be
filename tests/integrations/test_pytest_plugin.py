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


def test_a_failed_assertion_shows_the_test_and_what_was_pushed(pytester: pytest.Pytester) -> None:
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


def test_everything_is_as_before_after_a_test_even_if_it_failed(pytester: pytest.Pytester) -> None:
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


def test_a_mode_inside_of_a_mode_is_refused(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_1(alligator_tasks):
    with pytest.raises(ValueError, match="nest"), sync():
        pass
""",
    )

    result.assert_outcomes(passed=1)


def test_the_marker_switches_a_mode_on(pytester: pytest.Pytester) -> None:
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


def test_the_configuration_switches_a_mode_on_for_all_tests(pytester: pytest.Pytester) -> None:
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
def test_a_marker_that_says_something_else_is_refused(
    pytester: pytest.Pytester, marker: str
) -> None:
    result = run(pytester, f"@pytest.mark.alligator({marker})\ndef test_1(): pass")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*@pytest.mark.alligator takes mode=, one of off, sync, tasks."])


def test_a_marker_against_a_fixture_is_refused(pytester: pytest.Pytester) -> None:
    result = run(pytester, "@pytest.mark.alligator(mode='sync')\ndef test_1(alligator_tasks): pass")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*asks for alligator_tasks and is marked with mode='sync'."])


def test_a_configuration_that_says_something_else_is_refused(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_1(): pass", ini="alligator_mode = on")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*alligator_mode is one of off, sync, tasks, not 'on'."])


def test_the_fixtures_and_the_marker_are_documented(pytester: pytest.Pytester) -> None:
    fixtures = run(pytester, "", "--fixtures")
    markers = run(pytester, "", "--markers")

    fixtures.stdout.fnmatch_lines(["alligator_sync *", "alligator_tasks *", "gator *"])
    markers.stdout.fnmatch_lines(["@pytest.mark.alligator(mode): *"])


def test_loading_the_plugin_does_not_load_alligator() -> None:
    # What is loaded before coverage begins to measure would count as never run.
    code = "import sys, pytest_alligator.plugin; sys.exit('alligator' in sys.modules)"

    result = subprocess.run([sys.executable, "-c", code], check=False)

    assert result.returncode == 0


def test_the_installed_plugin_is_found_by_pytest_itself(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not any(entry.name == "alligator" for entry in entry_points(group="pytest11")):
        pytest.skip("Alligator is not installed here: pip install -e .")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    pytester.makepyfile("def test_1(alligator_tasks): alligator_tasks.assert_not_pushed()")

    result = pytester.runpytest_subprocess()

    result.assert_outcomes(passed=1)
