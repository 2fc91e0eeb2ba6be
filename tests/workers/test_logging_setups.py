"""However and whenever a program sets up logging, each line of a worker is shown once."""

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from alligator import Gator
from alligator._runtime.log import log as alligator_log
from tests.harness.programs import environment, run

BASIC = "import logging\nlogging.basicConfig(format='shop: %(message)s')\n"

DICT = """
import logging.config
logging.config.dictConfig({
    "version": 1,
    "formatters": {"f": {"format": "shop: %(message)s"}},
    "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
    "root": {"level": "WARNING", "handlers": ["h"]},
})
"""

FILE = """
import io, logging.config
logging.config.fileConfig(io.StringIO('''
[loggers]
keys=root
[handlers]
keys=h
[formatters]
keys=f
[logger_root]
level=WARNING
handlers=h
[handler_h]
class=StreamHandler
args=()
formatter=f
[formatter_f]
format=shop: %(message)s
'''))
"""

OF_OTHERS = """
import logging.config
logging.config.dictConfig({"version": 1, "loggers": {"shop": {"level": "INFO"}}})
"""

EXPORTED = """
import logging
class Exporter(logging.Handler):
    def emit(self, record): pass
Exporter.__module__ = "opentelemetry.sdk._logs"
logging.getLogger().addHandler(Exporter())
"""

SETUPS = {"basic": BASIC, "dict": DICT, "file": FILE, "of others": OF_OTHERS, "exported": EXPORTED}

TASKS = """
def good(): pass
def bad(): raise RuntimeError("no luck")
"""

MODES = {"plain": [], "threads": ["-c", "2"], "processes": ["-p", "2"], "isolated": ["--isolate"]}


def prepare(folder: Path, setup: str, *, first: bool) -> Gator:
    """Write a module of tasks that sets up logging, or a program that did so before."""
    (folder / "shop_tasks.py").write_text(TASKS if first else setup + TASKS)
    dsn = f"sqlite://{folder}/queue.db"
    (folder / "shop.py").write_text(
        f"from alligator import Gator\n{setup if first else ''}\ngator = Gator({dsn!r})\n"
    )
    return Gator(dsn)


@pytest.mark.parametrize(
    ("first", "mode"),
    [*((False, mode) for mode in MODES.values()), (True, []), (True, ["--isolate"])],
    ids=lambda value: (
        {False: "tasks", True: "program"}[value]
        if isinstance(value, bool)
        else " ".join(value) or "plain"
    ),
)
@pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS)
def test_each_line_is_there_once(tmp_path: Path, setup: str, mode: list[str], first: bool) -> None:
    gator = prepare(tmp_path, setup, first=first)
    for number, name in enumerate(["good", "bad", "good"]):
        gator.client.push(
            "all",
            f"id-{number}",
            f'{{"task_id": "id-{number}", "retries": 0, "is_async": true, "module": "shop_tasks", '
            f'"callable": "{name}", "args": [], "kwargs": {{}}}}',
        )

    done = run("--app", "shop:gator", "--path", str(tmp_path), "--burst", *mode)

    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if line[:1] not in (" ", "T")]
    workers = 2 if "-p" in mode else 1
    assert sum(" has stopped after " in line for line in lines) == workers, done.stderr
    for event, times in (("done", 2), ("failed permanently; moved to the dead letters", 1)):
        found = [line for line in lines if re.search(rf"\b{event}\b", line)]
        assert len(found) == times, done.stderr


@pytest.mark.parametrize("setup", [DICT, FILE, OF_OTHERS], ids=["dict", "file", "of others"])
def test_web_process_logs_whenever_logging_is_configured(setup: str) -> None:
    code = (
        f"from alligator import Gator\n{setup}\n"
        "import logging; log = logging.getLogger('alligator')\n"
        "log.error('the store is away')\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )

    assert done.stderr.splitlines()[-1].removeprefix("shop: ") == "the store is away"


def test_program_can_disable_the_logger_itself() -> None:
    alligator_log.disabled = True
    try:
        assert not alligator_log.isEnabledFor(logging.CRITICAL)
        assert alligator_log.disabled
    finally:
        alligator_log.disabled = False


def test_custom_logger_class_of_the_program_is_kept() -> None:
    code = (
        "import logging, logging.config\n"
        "class Own(logging.Logger): mine = True\n"
        "logging.setLoggerClass(Own)\n"
        "import alligator\n"
        "logging.config.dictConfig({'version': 1})\n"
        "log = logging.getLogger('alligator')\n"
        "print(isinstance(log, Own), log.mine, log.disabled)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )

    assert done.stdout == "True True False\n", done.stderr
