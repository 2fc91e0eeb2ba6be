"""Isolated tasks behave like others, and harm neither the worker nor each other."""

import os
import signal
import sys
import time
from pathlib import Path
from subprocess import call
from threading import Thread
from typing import Any

import pytest

from alligator import Gator, Lease, Worker
from alligator.exceptions import ConfigurationError, InvalidOption
from alligator.execution.attempt import LeaseEnded
from alligator.execution.lease_ends import clock
from alligator.workers.isolation.parent import Isolation
from alligator.workers.isolation.process import ChildProcess
from tests.harness.isolation import burst, descendants, lives
from tests.harness.programs import environment, eventually, lines, run, running
from tests.harness.sample_tasks import (
    add,
    add_later,
    crash,
    fail,
    hang_in_native_code,
    hog,
    push_another,
    record,
    record_batch,
    record_both_ends,
    record_error,
    record_pid,
    record_task,
    say,
    segfault,
    segfault_of,
    sleep_for,
    sleep_until,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


# What goes on as without.


def test_tasks_of_one_thread_share_a_process(gator: Gator, out: Path) -> None:
    for _ in range(3):
        gator.task(record_pid, str(out))

    burst(gator)

    assert len(set(lines(out))) == 1
    assert lines(out)[0] != str(os.getpid())
    assert gator.stats().succeeded == 3


def test_each_thread_has_its_own_process(gator: Gator, out: Path) -> None:
    for number in range(2):
        gator.task(sleep_until, str(out) + str(1 - number))
        gator.task(record, str(out) + str(number), "go")
    for number in range(2):
        gator.task(record_both_ends, str(out), str(number), 0.4)

    burst(gator, concurrency=2)

    assert [line[:3] for line in lines(out)] == ["beg", "beg", "end", "end"]
    assert gator.stats().succeeded == 6


def test_task_whose_lease_has_ended_is_not_started(gator: Gator, out: Path) -> None:
    gator.task(record, str(out), "frozen")
    gator.task(record, str(out), "held")
    first, second = gator.client.reserve("all", limit=2)
    isolation = Isolation(gator)

    with pytest.raises(LeaseEnded):
        isolation.run(first, lambda _: clock() - 1)
    done = isolation.run(second, lambda _: clock() + 60)
    isolation.close()

    assert done.outcome.verdict == "ack"
    assert lines(out) == ["held"]


def test_worker_skips_isolated_tasks_whose_lease_has_ended(gator: Gator, out: Path) -> None:
    gator.task(record, str(out), "once")
    worker = Worker(gator, isolate=True, burst=True)
    ends = worker.lease_ends
    ends.end_of = lambda asked: asked + 60 * ends.skipped  # type: ignore[method-assign]

    worker.run_forever()

    assert ends.skipped == 1
    assert lines(out) == ["once"]
    assert (gator.stats().succeeded, gator.stats().lost) == (1, 0)


def test_results_reach_the_worker(gator: Gator) -> None:
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


def test_isolated_task_knows_itself_and_its_headers(gator: Gator, out: Path) -> None:
    gator.options(headers={"request_id": "r-1"}).task(record_task, str(out))

    burst(gator)

    assert lines(out) == ["attempt 1 {'request_id': 'r-1'}"]


def test_isolated_follow_up_knows_its_batch(gator: Gator, out: Path) -> None:
    with gator.transaction() as tx:
        tx.then(record_batch, str(out))
        gator.task(fail, str(out))

    burst(gator)

    assert lines(out) == ["1 tasks, 1 dead"]


def test_isolated_task_has_retries_hooks_and_dead_letters(gator: Gator, out: Path) -> None:
    gator.options(retries=1, backoff=0, on_error=record_error).task(fail, str(out))

    burst(gator)

    [letter] = gator.dead_letters()
    assert letter.reason == f"RuntimeError: {out}"
    assert "sample_tasks.py" in letter.traceback
    assert lines(out) == [f"attempt {number} RuntimeError: {out}" for number in (1, 2)]
    assert (gator.stats().retried, gator.stats().lost) == (1, 0)


def test_isolated_task_may_push_tasks(gator: Gator, dsn: str, out: Path) -> None:
    gator.task(push_another, dsn, str(out), "second")

    burst(gator)

    assert lines(out) == ["second"]


def test_isolation_keeps_signatures_and_the_allow_list(dsn: str, out: Path) -> None:
    gator = Gator(dsn, secret="s3cret", allow="tests.*")
    gator.options(retries=1, backoff=0).task(segfault)
    gator.task(os.getcwd)
    Gator(dsn).task(record, str(out), "forged")

    burst(gator)

    reasons = sorted(letter.reason.partition(":")[0] for letter in gator.dead_letters())
    assert reasons == ["BadSignature", "NotAllowed", "TaskCrashed"]
    assert lines(out) == []


def test_isolated_task_runs_in_its_context(gator: Gator, out: Path) -> None:
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


def test_isolated_tasks_do_not_harm_each_other(gator: Gator, out: Path) -> None:
    gator.options(timeout=0.3).task(hang_in_native_code)
    gator.task(segfault)
    gator.task(record_both_ends, str(out), "sibling", 1.5)

    burst(gator, concurrency=3)

    assert lines(out) == ["begin sibling", "end sibling"]
    assert (gator.stats().dead, gator.stats().succeeded) == (2, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are kept by Linux")
def test_isolated_task_that_uses_too_much_memory_fails(gator: Gator, out: Path) -> None:
    gator.task(record_pid, str(out))
    gator.task(hog, 400)
    gator.task(record_pid, str(out))
    gator.task(hog, 50)

    worker = burst(gator, memory=200)

    assert gator.dead_letters()[0].reason.startswith("MemoryError")
    assert len(set(lines(out))) == 2, "what has run out of memory is not used again"
    assert worker.results[-1] == 50


def test_import_that_kills_its_process_is_a_dead_task(
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


def test_second_stop_kills_and_releases_the_running_task(gator: Gator, out: Path) -> None:
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


def test_isolation_rejects_settings_that_cannot_work(gator: Gator) -> None:
    with pytest.raises(InvalidOption, match="pass isolate=True"):
        Worker(gator, memory=100)
    with pytest.raises(ConfigurationError, match="locmem:// lives in one process"):
        Worker(Gator("locmem://"), isolate=True).run_forever()


def test_command_line_rejects_memory_alone_in_one_line(dsn: str) -> None:
    result = run(dsn, "--memory", "100")

    assert result.returncode == 2
    assert "add --isolate" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_latergator_isolates_and_shows_what_tasks_print(dsn: str, gator: Gator) -> None:
    gator.task(say, "hello there")
    gator.task(segfault)
    gator.task(hog, 300)

    result = run(dsn, "--isolate", "--memory", "100", "--burst")

    assert result.returncode == 0
    assert result.stdout.splitlines() == ["hello there"]
    assert "\nhello there\n" in result.stderr
    assert gator.stats().dead == 2


def test_terminated_worker_lets_an_isolated_task_finish(
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


def test_isolation_works_with_several_processes(
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
    assert "a replacement starts" not in (tmp_path / "log").read_text()


def test_isolation_is_not_loaded_without_the_option(dsn: str) -> None:
    program = (
        "import sys; from alligator import Gator, Worker; "
        f"Worker(Gator({dsn!r}), burst=True, log_level='ERROR').run_forever(); "
        "sys.exit('alligator.workers.isolation.parent' in sys.modules)"
    )

    assert call([sys.executable, "-c", program], env=environment()) == 0


# What is canceled.


def cancel(gator: Gator, isolation: Isolation, lease: Lease) -> None:
    gator.cancel(lease.task_id)
    isolation.cancel(gator.client.canceled([lease]))


def test_process_of_a_canceled_task_is_killed_and_its_hooks_do_not_run(
    gator: Gator, out: Path
) -> None:
    gator.options(on_error=record_error, retries=1).task(record_both_ends, str(out), "a", 60)
    gator.task(record, str(out), "next")
    first, second = gator.client.reserve("all", limit=2)
    isolation = Isolation(gator)

    def cancel_first() -> None:
        eventually(lambda: lines(out))
        cancel(gator, isolation, first)

    other = Thread(target=cancel_first)
    other.start()

    done = isolation.run(first)
    other.join()
    after = isolation.run(second)
    isolation.close()

    assert (done.outcome.verdict, done.outcome.data) == ("release", None)
    assert after.outcome.verdict == "ack"
    assert [line[:3] for line in lines(out)] == ["beg", "nex"]


def test_process_that_answers_as_it_is_killed_runs_no_other_task(
    gator: Gator, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        gator.task(record_pid, str(out))
    first, second = gator.client.reserve("all", limit=2)
    isolation = Isolation(gator)
    ask = ChildProcess.ask

    def ask_late(self: ChildProcess, *args: Any, **more: Any) -> dict[str, Any]:
        answer = ask(self, *args, **more)
        cancel(gator, isolation, first)
        return answer

    monkeypatch.setattr(ChildProcess, "ask", ask_late)
    done = isolation.run(first)
    monkeypatch.undo()
    after = isolation.run(second)
    isolation.close()

    assert (done.outcome.verdict, after.outcome.verdict) == ("ack", "ack")
    assert len(set(lines(out))) == 2
    assert gator.stats().canceled == 1


def test_cancel_of_a_task_that_has_ended_kills_no_process(gator: Gator, out: Path) -> None:
    for _ in range(2):
        gator.task(record_pid, str(out))
    first, second = gator.client.reserve("all", limit=2)
    isolation = Isolation(gator)

    isolation.run(first)
    isolation.cancel([first])
    isolation.run(second)
    isolation.close()

    assert len(set(lines(out))) == 1
