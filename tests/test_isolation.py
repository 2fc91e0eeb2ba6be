"""Tasks in processes of their own may hang, crash and eat memory: the worker and the others go on."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import call
from threading import Thread
from typing import Any

import pytest

from alligator import Gator, Task, Worker
from alligator.exceptions import ConfigurationError, InvalidOption
from tests.programs import environment, eventually, lines, run, running
from tests.sample_tasks import (
    add,
    add_later,
    crash,
    die,
    fail,
    hang_in_native_code,
    hog,
    interrupt,
    push_another,
    record,
    record_both_ends,
    record_error,
    record_pid,
    record_task,
    say,
    segfault,
    segfault_of,
    sleep_for,
    sleep_until,
    start_and_hang,
)

# Workers in threads of a test are what a program should not have.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/queue.db"


@pytest.fixture
def gator(dsn: str) -> Gator:
    return Gator(dsn)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alligator.isolation.GRACE_SECONDS", 0.4)


class Listening(Worker):
    """A worker that keeps the results it is told of."""

    results: list[Any]

    def result(self, result: Any) -> None:
        self.results.append(result)


def burst(gator: Gator, **settings: Any) -> Listening:
    """Run isolated tasks until nothing is ready."""
    worker = Listening(gator, burst=True, isolate=True, **settings)
    worker.results = []
    assert worker.run_forever() == 0
    return worker


def lives(pid: int) -> bool:
    """Whether there is such a process, and it is not only waiting to be collected."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with suppress(OSError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return True


# What goes on as without.


def test_tasks_run_in_another_process_which_is_kept(gator: Gator, out: Path) -> None:
    for _ in range(3):
        gator.task(record_pid, str(out))

    burst(gator)

    assert len(set(lines(out))) == 1
    assert lines(out)[0] != str(os.getpid())
    assert gator.stats().succeeded == 3


def test_each_thread_has_a_process(gator: Gator, out: Path) -> None:
    for number in range(2):
        gator.task(sleep_until, str(out) + str(1 - number))
        gator.task(record, str(out) + str(number), "go")
    for number in range(2):
        gator.task(record_both_ends, str(out), str(number), 0.4)

    burst(gator, concurrency=2)

    assert [line[:3] for line in lines(out)] == ["beg", "beg", "end", "end"]
    assert gator.stats().succeeded == 6


def test_results_come_back(gator: Gator) -> None:
    gator.task(add, 1, 2)
    gator.task(add_later, 3, 4)
    gator.task(repeat, "x", 100_000)

    worker = burst(gator)

    assert worker.results[:2] == [3, 7]
    assert worker.results[2].startswith("'xxx")
    assert len(worker.results[2]) < 1000


def repeat(text: str, times: int) -> str:
    """Return a long text."""
    return text * times


def test_a_task_knows_itself_and_its_headers(gator: Gator, out: Path) -> None:
    gator.options(headers={"request_id": "r-1"}).task(record_task, str(out))

    burst(gator)

    assert lines(out) == ["attempt 1 {'request_id': 'r-1'}"]


def test_retries_hooks_and_dead_letters_are_as_ever(gator: Gator, out: Path) -> None:
    gator.options(retries=1, backoff=0, on_error=record_error).task(fail, str(out))

    burst(gator)

    [letter] = gator.dead_letters()
    assert letter.reason == f"RuntimeError: {out}"
    assert "sample_tasks.py" in letter.traceback
    assert lines(out) == [f"attempt {number} RuntimeError: {out}" for number in (1, 2)]
    assert (gator.stats().retried, gator.stats().lost) == (1, 0)


def test_a_task_may_put_tasks_on_the_queue(gator: Gator, dsn: str, out: Path) -> None:
    gator.task(push_another, dsn, str(out), "second")

    burst(gator)

    assert lines(out) == ["second"]


def test_signatures_and_rules_hold(dsn: str, out: Path) -> None:
    gator = Gator(dsn, secret="s3cret", allow="tests.*")
    gator.options(retries=1, backoff=0).task(segfault)
    gator.task(os.getcwd)
    Gator(dsn).task(record, str(out), "forged")

    burst(gator)

    reasons = sorted(letter.reason.partition(":")[0] for letter in gator.dead_letters())
    assert reasons == ["BadSignature", "NotAllowed", "TaskCrashed"]
    assert lines(out) == []


def test_each_task_runs_in_its_context(gator: Gator, out: Path) -> None:
    class Context:
        def __enter__(self) -> None:
            record(str(out), "in")

        def __exit__(self, *error: object) -> None:
            record(str(out), "out")

    gator.task_context = Context
    gator.task(record, str(out), "task")
    gator.options(on_error=record_error).task(segfault_of, str(out))

    burst(gator)

    assert lines(out)[:4] == ["in", "task", "out", "in"]
    assert lines(out)[4:] == [
        "in",
        "attempt 1 TaskCrashed: its process was killed by SIGSEGV",
        "out",
    ]


# What would end a worker, or hold it up.


@pytest.mark.parametrize(
    ("func", "reason"),
    [
        (segfault, "TaskCrashed: its process was killed by SIGSEGV"),
        (crash, "TaskCrashed: its process ended with status 3"),
        (die, "TaskCrashed: its process was killed by SIGKILL, perhaps for want of memory"),
        (interrupt, "KeyboardInterrupt: "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_process_that_dies_costs_its_task_an_attempt_and_no_more(
    gator: Gator, out: Path, func: Callable[[], None], reason: str
) -> None:
    dying = gator.options(retries=1, backoff=0).task(func)
    for number in range(5):
        gator.task(record, str(out), str(number))

    burst(gator)

    [letter] = gator.dead_letters()
    assert (letter.task_id, letter.reason) == (dying.task_id, reason)
    assert sorted(lines(out)) == ["0", "1", "2", "3", "4"]
    assert (gator.stats().retried, gator.stats().lost) == (1, 0)


def test_a_dead_letter_shows_where_python_crashed(gator: Gator) -> None:
    gator.task(segfault)

    burst(gator)

    [letter] = gator.dead_letters()
    assert "sample_tasks.py" in letter.traceback
    assert "in segfault" in letter.traceback
    assert "isolation.py" not in letter.traceback


def test_the_log_says_which_task_has_crashed(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    task = gator.options(retries=1, backoff=0).task(crash)

    burst(gator)

    told = [
        (record.getMessage(), record.__dict__["attempt"], record.__dict__["reason"])
        for record in caplog.records
        if getattr(record, "task_id", "") == task.task_id
    ]
    reason = "TaskCrashed: its process ended with status 3"
    assert told == [("failed, to be retried", 1, reason), ("dead", 2, reason)]


def test_a_task_that_hangs_in_native_code_is_killed(gator: Gator, out: Path) -> None:
    gator.options(timeout=0.3, on_error=grant_one_more).task(hang_in_native_code)
    gator.task(record, str(out), "next")
    began = time.monotonic()

    burst(gator)

    [letter] = gator.dead_letters()
    assert letter.reason == "TaskTimeout: it took longer than 0.3 seconds, and was killed"
    assert "in hang_in_native_code" in letter.traceback
    assert (gator.stats().retried, gator.stats().succeeded) == (1, 1)
    assert time.monotonic() - began < 8


def grant_one_more(task: Task, error: BaseException) -> None:
    """Be a hook that grants an attempt, once."""
    task.backoff = 0
    task.retries = int(task.attempt == 1)


def test_a_task_that_can_be_interrupted_keeps_its_process(gator: Gator, out: Path) -> None:
    gator.task(record_pid, str(out))
    gator.options(timeout=0.1).task(spin)
    gator.task(record_pid, str(out))

    burst(gator)

    assert gator.dead_letters()[0].reason == "TaskTimeout: it took longer than its timeout"
    assert len(lines(out)) == 2
    assert len(set(lines(out))) == 1


def spin() -> None:
    """Be busy in Python."""
    while True:
        pass


def test_what_a_killed_task_has_started_is_killed_with_it(gator: Gator, out: Path) -> None:
    gator.options(timeout=0.3).task(start_and_hang, str(out))

    burst(gator)

    pids = [int(pid) for pid in lines(out)[0].split()]
    eventually(lambda: not any(lives(pid) for pid in pids))


def test_siblings_are_not_struck(gator: Gator, out: Path) -> None:
    gator.options(timeout=0.3).task(hang_in_native_code)
    gator.task(segfault)
    gator.task(record_both_ends, str(out), "sibling", 1.5)

    burst(gator, concurrency=3)

    assert lines(out) == ["begin sibling", "end sibling"]
    assert (gator.stats().dead, gator.stats().succeeded) == (2, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are kept by Linux")
def test_a_task_that_takes_too_much_memory_fails(gator: Gator, out: Path) -> None:
    gator.task(record_pid, str(out))
    gator.task(hog, 400)
    gator.task(record_pid, str(out))
    gator.task(hog, 50)

    worker = burst(gator, memory=200)

    assert gator.dead_letters()[0].reason.startswith("MemoryError")
    assert len(set(lines(out))) == 2, "what has run out of memory is not used again"
    assert worker.results[-1] == 50


def test_an_import_that_is_deadly_is_no_more_than_a_dead_task(
    gator: Gator, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly_to_import.py").write_text("import os\nos._exit(9)\n")
    monkeypatch.syspath_prepend(tmp_path)
    data = '{"task_id": "x", "retries": 3, "is_async": true, "module": "deadly_to_import", '
    gator.client.push("all", "x", data + '"callable": "f"}')
    gator.task(record, str(out), "next")

    burst(gator)

    assert gator.dead_letters()[0].reason == "TaskCrashed: its process ended with status 9"
    assert lines(out) == ["next"]


def test_a_process_that_was_killed_between_two_tasks_is_replaced(gator: Gator, out: Path) -> None:
    worker = Worker(gator, isolate=True)
    thread = Thread(target=worker.run_forever)
    thread.start()
    gator.task(record_pid, str(out))
    eventually(lambda: gator.stats().succeeded == 1)

    os.kill(int(lines(out)[0]), signal.SIGKILL)
    eventually(lambda: not lives(int(lines(out)[0])))
    gator.task(record_pid, str(out))
    eventually(lambda: gator.stats().succeeded == 2)
    worker.stop()
    thread.join(10)

    assert len(set(lines(out))) == 2
    assert gator.stats().retried == 0


def test_a_second_stop_ends_what_runs_and_gives_it_back(gator: Gator, out: Path) -> None:
    gator.task(record_pid, str(out))
    gator.task(sleep_for, 60)
    worker = Worker(gator, isolate=True)
    statuses: list[int] = []
    thread = Thread(target=lambda: statuses.append(worker.run_forever()))
    thread.start()
    eventually(lambda: lines(out) and gator.stats().leased == 1 and gator.stats().ready == 0)
    time.sleep(0.1)

    worker.stop()
    worker.stop()
    thread.join(10)

    assert statuses == [1]
    assert (gator.stats().ready, gator.stats().leased, gator.stats().retried) == (1, 0, 0)
    assert not lives(int(lines(out)[0]))


# How it is asked for.


def test_what_cannot_work_is_refused(gator: Gator) -> None:
    with pytest.raises(InvalidOption, match="say isolate, too"):
        Worker(gator, memory=100)
    with pytest.raises(ConfigurationError, match="locmem:// lives in one process"):
        Worker(Gator("locmem://"), isolate=True).run_forever()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--memory", "100"], "say --isolate, too"),
        (["--isolate", "--reload"], "drop --isolate"),
    ],
    ids=lambda value: value[0],
)
def test_the_command_line_refuses_it_in_one_line(
    dsn: str, arguments: list[str], message: str
) -> None:
    result = run(dsn, *arguments)

    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_latergator_isolates_and_passes_on_what_tasks_print(dsn: str, gator: Gator) -> None:
    gator.task(say, "hello there")
    gator.task(segfault)
    gator.task(hog, 300)

    result = run(dsn, "--isolate", "--memory", "100", "--burst")

    assert result.returncode == 0
    assert result.stdout.splitlines() == ["hello there"]
    assert "\nhello there\n" in result.stderr
    assert gator.stats().dead == 2


def test_a_worker_that_is_terminated_lets_an_isolated_task_finish(
    dsn: str, gator: Gator, out: Path, tmp_path: Path
) -> None:
    gator.task(record_both_ends, str(out), "task", 1.0)

    with running(dsn, "--isolate", log=tmp_path / "log") as worker:
        eventually(lambda: lines(out))
        # As a service manager does it: the signal reaches all of its processes.
        for pid in [worker.pid, *descendants(worker.pid)]:
            os.kill(pid, signal.SIGTERM)

        assert worker.wait(30) == 0
    assert lines(out) == ["begin task", "end task"]
    assert gator.stats().succeeded == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("victim", ["worker", "nursery"])
def test_tasks_do_not_outlive_their_worker(
    dsn: str, gator: Gator, out: Path, tmp_path: Path, victim: str
) -> None:
    gator.task(start_and_hang, str(out))

    with running(dsn, "--isolate", log=tmp_path / "log") as worker:
        eventually(lambda: lines(out))
        task = int(lines(out)[0].split()[0])
        [nursery] = [pid for pid in descendants(worker.pid) if task in descendants(pid)]
        os.kill(worker.pid if victim == "worker" else nursery, signal.SIGKILL)
        status = worker.wait(30)
        eventually(lambda: not lives(task) and not lives(nursery))

    if victim == "nursery":
        os.kill(int(lines(out)[0].split()[1]), signal.SIGKILL)
        assert status == 1
        assert (gator.stats().ready, gator.stats().leased) == (1, 0)


def descendants(pid: int) -> list[int]:
    """List the processes that *pid* has started, and theirs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(") ")[2].split()
            if int(fields[1]) == pid:
                child = int(path.parent.name)
                found += [child, *descendants(child)]
    return found


def test_processes_of_workers_isolate_too(
    dsn: str, gator: Gator, out: Path, tmp_path: Path
) -> None:
    for number in range(20):
        gator.task(record, str(out), str(number))
        gator.task(crash)

    with running(
        dsn, "--isolate", "--processes", "2", "--concurrency", "2", log=tmp_path / "log"
    ) as program:
        eventually(lambda: gator.stats().succeeded == 20 and gator.stats().dead == 20)
        program.terminate()
        assert program.wait(30) == 0

    assert sorted(lines(out), key=int) == [str(number) for number in range(20)]
    assert "worker process" in (tmp_path / "log").read_text()
    assert "another starts" not in (tmp_path / "log").read_text()


def test_the_main_path_loads_nothing_of_it(dsn: str) -> None:
    program = (
        "import sys; from alligator import Gator, Worker; "
        f"Worker(Gator({dsn!r}), burst=True, log_level='ERROR').run_forever(); "
        "sys.exit('alligator.isolation' in sys.modules)"
    )

    assert call([sys.executable, "-c", program], env=environment()) == 0


def test_no_descriptor_is_left_open(gator: Gator) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    logging.getLogger("alligator").setLevel(logging.CRITICAL)
    burst(gator)
    before = count()
    for _ in range(5):
        gator.task(crash)

    burst(gator)

    eventually(lambda: count() <= before)
