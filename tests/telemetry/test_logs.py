"""One line for each event, in the log of the program."""

import io
import logging
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alligator import Gator, Task, Worker
from alligator.telemetry.logs import (
    FIELDS,
    MAX_VALUE,
    OF_TASK,
    LineFormatter,
    TaskFilter,
    escape,
    get_log,
)
from alligator.testing import sync
from tests.harness.sample_tasks import add, fail

ROOT = Path(__file__).parents[2]


def line(message: str, *args: object, **fields: Any) -> str:
    """Format one record."""
    record = logging.LogRecord("alligator", logging.INFO, __file__, 1, message, args, None)
    vars(record).update(fields)
    return LineFormatter().format(record)


@contextmanager
def alone() -> Iterator[logging.Logger]:
    """Put logging into the state of a program that has set up none."""
    log, root = logging.getLogger("alligator"), logging.getLogger()
    before = (log.handlers[:], log.level, root.handlers[:])
    log.handlers[:], root.handlers[:] = [], []
    try:
        yield log
    finally:
        log.handlers[:], log.level, root.handlers[:] = before


# The line.


def test_line_shows_time_level_event_and_task() -> None:
    text = line("done", task_id="a", task="app.f", seconds=0.5, queue="all", attempt=1)

    moment, *rest = text.split(" ")
    assert moment.endswith("Z")
    assert len(moment) == len("2026-11-21T19:00:00.000Z")
    assert rest == [
        "INFO",
        "done",
        "task_id=a",
        "task=app.f",
        "queue=all",
        "attempt=1",
        "seconds=0.500",
    ]


def test_missing_fields_are_left_out() -> None:
    assert line("done", task_id="a", request_id=None, reason="").endswith("done task_id=a")


def test_line_breaks_and_terminal_controls_are_escaped() -> None:
    text = line("two\nlines %s", "\x1b[31m\r\u2028\u202e", reason="a\nb\x00\x85")

    assert text.isprintable()
    assert r"two\nlines \x1b[31m\r\u2028\u202e" in text
    assert r"reason=a\nb\x00\x85" in text


@given(st.text(st.characters(), max_size=50), st.text(st.characters(), max_size=50))
def test_no_value_passes_for_another_line_or_field(reason: str, request_id: str) -> None:
    text = line("dead", task_id="a", reason=reason, request_id=request_id)

    assert text.isprintable()
    text.encode()
    names = [part.partition("=")[0] for part in split(text)[3:]]
    given_names = [("task_id", "a"), ("reason", reason), ("request_id", request_id)]
    assert names == [name for name, value in given_names if value]


def split(text: str) -> list[str]:
    """Split a line as a program would."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace, lexer.whitespace_split = " ", True
    lexer.quotes, lexer.commenters = '"', ""
    lexer.escape = "\\"
    return list(lexer)


def test_long_values_are_cut() -> None:
    assert len(line("dead", reason="x" * 10_000)) < MAX_VALUE + 100


def test_traceback_follows_indented() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError as error:
        text = line("dead", exc_info=(type(error), error, error.__traceback__))

    first, *rest = text.split("\n")
    assert first.endswith("INFO dead")
    assert all(each.startswith("    ") for each in rest)
    assert rest[-2:] == ["    ValueError: first", "    second"]


@given(st.text(st.characters()))
def test_printable_text_stays_as_it_is_and_the_rest_becomes_so(text: str) -> None:
    assert escape(text).isprintable()
    assert escape(text) == text or not text.isprintable()


# The handler.


def test_import_sets_up_no_logging() -> None:
    code = (
        "import logging, alligator, alligator.workers, alligator.telemetry.logs\n"
        "log = logging.getLogger('alligator')\n"
        "print(log.handlers, log.level, logging.getLogger().handlers)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)

    assert done.stdout == "[] 0 []\n", done.stderr


def test_however_many_workers_there_is_one_handler() -> None:
    gator = Gator("locmem://")

    with alone() as log:
        for _ in range(5):
            Worker(gator)
        handlers = log.handlers[:]

    assert len(handlers) == 1
    assert isinstance(handlers[0].formatter, LineFormatter)


@pytest.mark.parametrize("name", ["", "alligator"])
def test_logging_of_the_program_is_left_unchanged(name: str) -> None:
    own = logging.NullHandler()

    with alone() as log:
        logging.getLogger(name).addHandler(own)
        Worker(Gator("locmem://"))
        handlers = [*logging.getLogger().handlers, *log.handlers]

    assert handlers == [own]


def test_level_is_a_name_or_a_number() -> None:
    with alone():
        levels = [get_log("WARNING").level, get_log(logging.ERROR).level]

    assert levels == [logging.WARNING, logging.ERROR]


# What is said.


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """Collect the log lines, as a file would."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    log = logging.getLogger("alligator")
    log.addHandler(handler)
    yield stream
    log.removeHandler(handler)


def events(said: io.StringIO) -> list[str]:
    return [text for text in said.getvalue().splitlines() if not text.startswith("    ")]


def test_task_that_may_not_run_is_named(said: io.StringIO) -> None:
    gator = Gator("locmem://", allow=["shop.*"])
    gator.task(add, 1, 2)

    Worker(gator, burst=True).run_forever()

    _, dead, _ = events(said)
    assert " ERROR cannot be run; moved to the dead letters " in dead
    assert "task=tests.harness.sample_tasks.add queue=all" in dead


def test_each_task_is_a_line(said: io.StringIO) -> None:
    gator = Gator("locmem://")
    gator.options(headers={"request_id": "r 1"}).task(add, 1, 2)
    gator.options(retries=1, backoff=0).task(fail, "no\nluck")

    Worker(gator, burst=True).run_forever()

    starts, done, failed, dead, stopped = events(said)
    assert " starts on locmem://, queue all, until nothing is ready" in starts
    assert " INFO done task_id=" in done
    assert "task=tests.harness.sample_tasks.add queue=all attempt=1" in done
    assert 'request_id="r 1"' in done
    assert " WARNING failed; will be retried " in failed
    assert "attempt=1" in failed
    assert r'reason="RuntimeError: no\nluck"' in failed
    assert " ERROR failed permanently; moved to the dead letters " in dead
    assert "attempt=2" in dead
    assert " has stopped after 3 tasks" in stopped


def test_arguments_are_in_no_line(said: io.StringIO) -> None:
    gator = Gator("locmem://")
    gator.task(add, 4711, 1)

    Worker(gator, burst=True, log_level="DEBUG").run_forever()

    assert "4711" not in said.getvalue()


def test_payload_that_is_no_task_has_a_line(said: io.StringIO) -> None:
    gator = Gator("locmem://")
    gator.client.push("all", "bad\x1b[2J", "garbage\n")

    Worker(gator, burst=True).run_forever()

    _, dead, _ = events(said)
    assert r"cannot be run; moved to the dead letters task_id=bad\x1b[2J task=? queue=all" in dead
    assert "PayloadError: this is not a task" in dead


# Which task it is about.

TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADERS = {"request_id": "r-1", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


def write_a_line() -> None:
    logging.getLogger("shop.mail").warning("at work")


def write_a_line_and_fail() -> None:
    write_a_line()
    raise RuntimeError("no luck")


def fail_as_a_hook(task: Task, result: object) -> None:
    raise ValueError("the hook fails")


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """Collect what a handler with the filter is given, of all loggers."""
    handler = Collecting()
    handler.addFilter(TaskFilter())
    root = logging.getLogger()
    root.addHandler(handler)
    yield handler.records
    root.removeHandler(handler)


class Collecting(logging.Handler):
    """A handler that keeps the records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def of_task(record: logging.LogRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in OF_TASK}


def test_record_has_the_task_it_was_written_in(records: list[logging.LogRecord]) -> None:
    gator = Gator("locmem://")
    with gator.options(retries=1, backoff=0, queue_name="mail", headers=HEADERS) as opts:
        task = opts.task(write_a_line_and_fail)

    Worker(gator, 0, "mail", burst=True, log_level="CRITICAL").run_forever()

    about = {
        "task_id": task.task_id,
        "task": f"{__name__}.write_a_line_and_fail",
        "queue": "mail",
        "request_id": "r-1",
        "trace_id": TRACE,
    }
    assert [of_task(record) for record in records] == [
        {**about, "attempt": 1},
        {**about, "attempt": 2},
    ]


def test_record_of_an_inline_task_has_its_task(records: list[logging.LogRecord]) -> None:
    gator = Gator("locmem://")

    with sync():
        task = gator.task(write_a_line)

    assert (records[0].task_id, records[0].queue) == (task.task_id, "all")  # type: ignore[attr-defined]


def test_outside_of_a_task_the_fields_are_empty(records: list[logging.LogRecord]) -> None:
    write_a_line()

    assert of_task(records[0]) == dict.fromkeys(OF_TASK, "")


def test_task_id_given_with_a_record_is_kept(records: list[logging.LogRecord]) -> None:
    logging.getLogger("shop").warning("of another", extra={"task_id": "other"})

    assert records[0].task_id == "other"  # type: ignore[attr-defined]


def test_task_filter_can_be_set_in_a_logging_configuration() -> None:
    code = (
        "import logging, logging.config\n"
        "from alligator import Gator\n"
        "from tests.telemetry.test_logs import write_a_line\n"
        "logging.config.dictConfig({'version': 1,\n"
        "    'filters': {'task': {'()': 'alligator.telemetry.logs.TaskFilter'}},\n"
        "    'formatters': {'f': {'format': '%(message)s <%(task_id)s %(queue)s %(attempt)s>'}},\n"
        "    'handlers': {'err': {'class': 'logging.StreamHandler', 'filters': ['task'],\n"
        "                         'formatter': 'f'}},\n"
        "    'root': {'handlers': ['err']}})\n"
        "logging.warning('outside')\n"
        "Gator('locmem://', is_async=False).options(task_id='a').task(write_a_line)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)

    assert done.stderr.splitlines() == ["outside <  >", "at work <a all 1>"]


def test_worker_without_logging_of_the_program_uses_its_own_format(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gator = Gator("locmem://")
    with alone(), gator.options(on_success=fail_as_a_hook, headers=HEADERS) as opts:
        task = opts.task(add, 1, 2)
        Worker(gator, burst=True).run_forever()

    about = f"task_id={task.task_id} task=tests.harness.sample_tasks.add queue=all attempt=1"
    hook, done = (text for text in capsys.readouterr().err.splitlines() if about in text)
    assert "ERROR a hook of " in hook
    assert "INFO done" in done
    assert all(text.endswith(f"request_id=r-1 trace_id={TRACE}") for text in (hook, done))


@pytest.mark.parametrize("isolate", [False, True])
def test_line_of_a_task_has_its_trace(said: io.StringIO, tmp_path: Path, isolate: bool) -> None:
    gator = Gator(f"sqlite://{tmp_path / 'queue.db'}")
    gator.options(headers=HEADERS).task(add, 1, 2)

    Worker(gator, burst=True, isolate=isolate).run_forever()

    gator.client.close()
    (done,) = (text for text in events(said) if " INFO done " in text)
    assert done.endswith(f" request_id=r-1 trace_id={TRACE}")


def test_fields_are_in_one_order() -> None:
    text = line("m", **dict.fromkeys(reversed(FIELDS), "v"))

    assert [part.partition("=")[0] for part in text.split(" ")[3:]] == list(FIELDS)
