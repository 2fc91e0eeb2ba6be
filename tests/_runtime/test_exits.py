"""What is registered with `atexit` runs in the children of a worker, too: within a bound."""

import json
import time
from pathlib import Path

import pytest

from alligator import Gator
from alligator._runtime import exits
from alligator.backends.stats import COMMITS
from tests.harness.programs import eventually, lines, run, running
from tests.harness.requirements import do_without

SHOP = """
from alligator import Gator
gator = Gator("sqlite://queue.db")
"""

TASKS = """
import atexit, logging, time
from shop import gator

def note(word):
    with open("noted", "a") as file:
        file.write(word + "\\n")

atexit.register(lambda: note("ended"))

def good(): pass

def doomed():
    with gator.transaction() as transaction:
        gator.task(good)
        transaction.doom()

def last_for_ever():
    atexit.register(hang)
    atexit.register(note, "sleeps")

def hang():
    with logging._lock:  # as a handler that waits for a server may
        time.sleep(600)
"""

SPANS = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

class ToFile(SpanExporter):
    def export(self, spans):
        with open("spans", "a") as file:
            file.writelines(f"{span.name}\\n" for span in spans)
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ToFile(), schedule_delay_millis=600_000))
trace.set_tracer_provider(provider)
"""

MODES = {"plain": [], "processes": ["-p", "2"], "isolated": ["--isolate"]}
in_each_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "chores.py").write_text(TASKS)
    return tmp_path


def push(folder: Path, *names: str) -> Gator:
    gator = Gator(f"sqlite://{folder}/queue.db")
    for number, name in enumerate(names):
        payload = {"task_id": f"id-{number}", "retries": 0, "is_async": True, "module": "chores"}
        payload |= {"callable": name, "args": [], "kwargs": {}}
        gator.client.push("all", f"id-{number}", json.dumps(payload))
    return gator


def burst(folder: Path, *mode: str) -> None:
    done = run("--app", "shop:gator", "--burst", *mode, cwd=folder)
    assert done.returncode == 0, done.stderr


@in_each_mode
def test_exit_function_of_the_tasks_module_runs(folder: Path, mode: list[str]) -> None:
    push(folder, "good")

    burst(folder, *mode)

    # Once: only the process that has run the task has imported the module.
    assert lines(folder / "noted") == ["ended"]


@in_each_mode
def test_spans_of_a_batch_processor_are_exported(folder: Path, mode: list[str]) -> None:
    (folder / "shop.py").write_text(SPANS + SHOP)
    push(folder, "good", "good")

    burst(folder, *mode)

    assert lines(folder / "spans") == ["process all"] * 2


def test_spans_are_exported_after_sigterm(folder: Path) -> None:
    (folder / "shop.py").write_text(SPANS + SHOP)
    gator = push(folder, "good", "good")
    with running("--app", "shop:gator", "-p", "2", log=folder / "log", cwd=folder) as program:
        eventually(lambda: gator.stats().succeeded == 2)
        program.terminate()
        assert program.wait(30) == 0

    assert lines(folder / "spans") == ["process all"] * 2


@in_each_mode
def test_tasks_of_doomed_transactions_are_counted(folder: Path, mode: list[str]) -> None:
    gator = push(folder, "doomed", "doomed", "doomed")

    burst(folder, *mode)

    assert gator.client.figures(COMMITS) == {"doomed": 3}


@pytest.mark.parametrize("mode", [["-p", "2"], ["--isolate"]], ids=["processes", "isolated"])
def test_exit_function_that_hangs_delays_the_end_for_seconds(folder: Path, mode: list[str]) -> None:
    push(folder, "last_for_ever")
    began = time.monotonic()

    burst(folder, *mode)

    assert lines(folder / "noted") == ["sleeps"]
    assert time.monotonic() - began < exits.CHILD_EXIT_SECONDS + 30


def test_coverage_measures_code_of_children(folder: Path) -> None:
    try:
        import coverage
    except ImportError:
        do_without("coverage is not installed")
    (folder / ".coveragerc").write_text("[run]\nparallel = true\nsource = .\npatch = fork\n")
    push(folder, "good")

    import sys

    program = [sys.executable, "-m", "coverage", "run", "-m", "alligator"]
    done = run("--app", "shop:gator", "--burst", "-p", "2", cwd=folder, program=program)
    assert done.returncode == 0, done.stderr

    seen = coverage.Coverage(data_file=str(folder / ".coverage"), config_file=False)
    seen.combine([str(folder)])
    executed = seen.get_data().lines(str(folder / "chores.py")) or []
    assert TASKS.splitlines().index("def good(): pass") + 1 in executed
