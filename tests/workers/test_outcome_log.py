"""With any formatter a line of a worker says which task, what happened and why."""

import importlib
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from alligator import Gator, Worker
from alligator.telemetry.logs import LineFormatter
from tests.harness.programs import run
from tests.harness.requirements import do_without
from tests.harness.sample_tasks import add, fail

DEAD = "failed permanently; moved to the dead letters"


def burst(gator: Gator) -> None:
    Worker(gator, burst=True).run_forever()


def messages(caplog: pytest.LogCaptureFixture, task_id: str) -> list[str]:
    """Return what any formatter shows of the lines about a task."""
    return [record.getMessage() for record in caplog.records if task_id in record.getMessage()]


def test_message_says_which_task_is_done(caplog: pytest.LogCaptureFixture) -> None:
    gator = Gator("locmem://")
    task = gator.task(add, 1, 2)

    burst(gator)

    [done] = messages(caplog, task.task_id)
    assert done.startswith("done in 0.")
    assert done.endswith(f" s: tests.harness.sample_tasks.add {task.task_id}")


def test_message_says_what_failed_and_why_and_when_it_is_retried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gator = Gator("locmem://")
    task = gator.options(retries=1, backoff=0).task(fail, "no\nluck")

    burst(gator)

    failed, dead = messages(caplog, task.task_id)
    which = f"tests.harness.sample_tasks.fail {task.task_id}: RuntimeError: no\\nluck"
    assert failed == f"failed; will be retried in 0 s: {which}"
    assert dead == f"{DEAD}: {which}"


FAILING = """
def fail(): raise RuntimeError("no luck")
async def fail_later(): raise RuntimeError("no luck")
"""


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("name", ["fail", "fail_later"])
@pytest.mark.parametrize("timeout", [None, 60])
@pytest.mark.parametrize("isolate", [False, True], ids=["plain", "isolated"])
def test_traceback_begins_with_the_code_of_the_task(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    timeout: int | None,
    isolate: bool,
) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "failing", raising=False)
    gator = Gator(f"sqlite://{tmp_path}/queue.db")
    gator.options(timeout=timeout).task(getattr(importlib.import_module("failing"), name))

    Worker(gator, burst=True, isolate=isolate).run_forever()

    [letter] = gator.dead_letters()
    begin = f'Traceback (most recent call last):\n  File "{tmp_path}/failing.py"'
    assert letter.traceback.startswith(begin)
    assert letter.traceback.count("  File ") == 1
    assert begin in caplog.text


def test_message_says_which_payload_is_no_task(caplog: pytest.LogCaptureFixture) -> None:
    gator = Gator("locmem://")
    gator.client.push("all", "bad\x1b[2J", "garbage")

    burst(gator)

    [dead] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert dead.startswith(r"cannot be run; moved to the dead letters: ? bad\x1b[2J: PayloadError")


def test_message_says_what_a_worker_cannot_run_and_why(caplog: pytest.LogCaptureFixture) -> None:
    gator = Gator("locmem://")
    gator.client.push(
        "all",
        "lost",
        '{"task_id": "lost", "retries": 0, "is_async": true, "module": "no_such_shop", '
        '"callable": "f", "args": [], "kwargs": {}}',
    )

    burst(gator)

    [line] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "cannot run no_such_shop.f" in line
    assert "Task lost, offered again in " in line
    assert "UnknownModuleError" in line


def test_our_own_formatter_says_nothing_twice(caplog: pytest.LogCaptureFixture) -> None:
    gator = Gator("locmem://")
    task = gator.options(retries=1, backoff=0).task(fail, "no luck")

    burst(gator)

    [failed] = [record for record in caplog.records if record.levelname == "WARNING"]
    line = LineFormatter().format(failed)
    assert " WARNING failed; will be retried task_id=" in line
    assert line.count(task.task_id) == line.count("no luck") == 1


# With the libraries that programs use for logging.

TASKS = """
def good(): pass
def bad(): raise ValueError("no luck")
"""

STRUCTLOG = """
import logging, structlog
formatter = structlog.stdlib.ProcessorFormatter(
    foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()],
    processors=[
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.JSONRenderer(),
    ],
)
handler = logging.StreamHandler()
handler.setFormatter(formatter)
logging.getLogger().addHandler(handler)
"""

LOGURU = """
import logging, sys
from loguru import logger
logger.remove()
logger.add(sys.stderr, format="loguru {level} {message}")
class Intercept(logging.Handler):
    def emit(self, record):
        logger.opt(exception=record.exc_info).log(record.levelname, record.getMessage())
logging.basicConfig(handlers=[Intercept()])
"""

SENTRY = """
import json, sentry_sdk
from sentry_sdk.transport import Transport
class ToFile(Transport):
    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event is not None:
            with open("events.jsonl", "a") as file:
                file.write(json.dumps(event, default=str) + "\\n")
sentry_sdk.init(dsn="http://key@localhost/1", transport=ToFile, default_integrations=False,
                integrations=[sentry_sdk.integrations.logging.LoggingIntegration()])
""".replace(
    "import json, sentry_sdk\n", "import json, sentry_sdk, sentry_sdk.integrations.logging\n"
)


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        do_without(f"{module} is not installed")


def work(folder: Path, setup: str, *mode: str, program: list[str] | None = None) -> str:
    """Run a good and a bad task in a program with that *setup* of logging; return what it logs."""
    (folder / "chores.py").write_text(TASKS)
    dsn = f"sqlite://{folder}/queue.db"
    (folder / "shop.py").write_text(
        f"{setup}\nfrom alligator import Gator\ngator = Gator({dsn!r})\n"
    )
    gator = Gator(dsn)
    for name in ("good", "bad"):
        gator.client.push(
            "all",
            f"id-of-{name}",
            f'{{"task_id": "id-of-{name}", "retries": 0, "is_async": true, "module": "chores", '
            f'"callable": "{name}", "args": [], "kwargs": {{}}}}',
        )
    done = run(
        "--app", "shop:gator", "--path", str(folder), "--burst", *mode, cwd=folder, program=program
    )
    assert done.returncode == 0, done.stderr
    assert gator.len() == 0
    return done.stderr


MODES = {"plain": [], "processes": ["-p", "2"], "isolated": ["--isolate"]}
in_each_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


@in_each_mode
def test_structlog_shows_the_message_and_the_fields(tmp_path: Path, mode: list[str]) -> None:
    needs("structlog")

    said = work(tmp_path, STRUCTLOG, *mode)

    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    [dead] = [line for line in lines if line["level"] == "error"]
    assert dead["event"] == f"{DEAD}: chores.bad id-of-bad: ValueError: no luck"
    assert (dead["task"], dead["task_id"]) == ("chores.bad", "id-of-bad")
    assert dead["alligator_event"] == DEAD


@in_each_mode
def test_loguru_shows_which_task_and_why(tmp_path: Path, mode: list[str]) -> None:
    needs("loguru")

    said = work(tmp_path, LOGURU, *mode)

    assert f"loguru ERROR {DEAD}: chores.bad id-of-bad: ValueError: no luck" in said
    assert "chores.py" in said  # the traceback


@in_each_mode
def test_sentry_gets_the_type_and_the_frames_of_the_error(tmp_path: Path, mode: list[str]) -> None:
    needs("sentry_sdk")

    work(tmp_path, SENTRY, *mode)

    [event] = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    [error] = event["exception"]["values"]
    assert (error["type"], error["value"]) == ("ValueError", "no luck")
    frame = error["stacktrace"]["frames"][-1]
    assert (frame["function"], frame["module"], frame["lineno"]) == ("bad", "chores", 3)
    assert 'raise ValueError("no luck")' in frame["context_line"]
    assert frame["in_app"]


def test_opentelemetry_instrument_leaves_the_lines_on_stderr(tmp_path: Path) -> None:
    needs("opentelemetry.instrumentation.auto_instrumentation")
    needs("opentelemetry.instrumentation.logging")
    exporters = ("TRACES", "METRICS", "LOGS")

    said = work(
        tmp_path,
        "",
        program=[
            sys.executable,
            "-c",
            "import os, sys; from opentelemetry.instrumentation.auto_instrumentation import run; "
            "sys.argv[0] = 'opentelemetry-instrument'; run()",
            *(f"--{name.lower()}_exporter=none" for name in exporters),
            sys.executable,
            "-m",
            "alligator",
        ],
    )

    assert f" ERROR {DEAD} task_id=id-of-bad task=chores.bad " in said
    assert " INFO done task_id=id-of-good " in said
