"""The worker, as the command line runs it."""

import logging
import os
import signal
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from alligator import Gator
from alligator.cli import run_worker, worker_options
from tests.harness import sample_tasks
from tests.harness.command_line import invoke
from tests.harness.programs import eventually, lines, run, running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_runs_tasks_until_a_signal_ends_it(
    dsn: str, gator: Gator, out: Path, log: Path, number: signal.Signals
) -> None:
    with running(dsn, log=log) as program:
        gator.task(sample_tasks.record, str(out), "one")
        eventually(lambda: lines(out) == ["one"])
        program.send_signal(number)

        assert program.wait(60) == 0

    assert gator.stats().succeeded == 1


def test_worker_finishes_running_tasks(dsn: str, gator: Gator, out: Path, log: Path) -> None:
    gator.task(sample_tasks.record_both_ends, str(out), "it", 0.5)

    with running("worker", dsn, log=log) as program:
        eventually(lambda: lines(out) == ["begin it"])
        program.terminate()

        assert program.wait(60) == 0

    assert lines(out) == ["begin it", "end it"]


def test_worker_out_of_time_releases_the_task_with_status_1(
    dsn: str, gator: Gator, out: Path, log: Path
) -> None:
    gator.task(sample_tasks.record_both_ends, str(out), "it", 60)

    with running(dsn, "--shutdown-timeout", "0.1", log=log) as program:
        eventually(lambda: lines(out))
        program.terminate()

        assert program.wait(60) == 1

    assert gator.stats().ready == 1


def test_burst_runs_tasks_that_are_ready_and_ends(dsn: str, gator: Gator, out: Path) -> None:
    for number in range(5):
        gator.task(sample_tasks.record, str(out), str(number))
    gator.options(delay_by=600).task(sample_tasks.record, str(out), "later")

    result = run(dsn, "--burst")

    assert result.returncode == 0
    assert lines(out) == ["0", "1", "2", "3", "4"]
    assert gator.len() == 1


def test_burst_does_not_wait_for_an_unreachable_store() -> None:
    result = run("redis://127.0.0.1:1/0", "--burst")

    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1


def test_burst_ends_at_once_when_no_task_is_ready(dsn: str) -> None:
    result = run(dsn, "--burst")

    assert result.returncode == 0


def test_worker_ends_after_max_tasks(dsn: str, gator: Gator, out: Path) -> None:
    for number in range(5):
        gator.task(sample_tasks.record, str(out), str(number))

    result = run(dsn, "--max-tasks", "2")

    assert result.returncode == 0
    assert lines(out) == ["0", "1"]
    assert gator.len() == 3


def test_queues_are_served_in_the_order_given(dsn: str, gator: Gator, out: Path) -> None:
    for name in ("low", "high", "low", "high", "ignored"):
        gator.options(queue_name=name).task(sample_tasks.record, str(out), name)

    result = run(dsn, "--burst", "-q", "high", "-q", "low")

    assert result.returncode == 0
    assert lines(out) == ["high", "high", "low", "low"]


def test_functions_that_are_not_allowed_are_not_run(dsn: str, gator: Gator, out: Path) -> None:
    gator.task(sample_tasks.record, str(out), "one")

    run(dsn, "--burst", "--allow", "myapp.*")

    assert not out.exists()
    assert "NotAllowed" in gator.dead_letters()[0].reason


def test_secret_is_read_from_the_environment(dsn: str, gator: Gator, out: Path) -> None:
    gator.task(sample_tasks.record, str(out), "not signed")
    Gator(dsn, secret="of ours").task(sample_tasks.record, str(out), "signed")

    run(dsn, "--burst", env={"ALLIGATOR_SECRET": "of ours"})

    assert lines(out) == ["signed"]
    assert gator.stats().dead == 1


def test_worker_warns_of_a_store_that_is_in_one_process(caplog: pytest.LogCaptureFixture) -> None:
    gator = Gator("locmem://")
    gator.task(sample_tasks.add, 1, 2)

    status = run_worker(gator, burst=True)

    assert status == 0
    assert "lives in one process" in caplog.text
    assert gator.stats().succeeded == 1


def test_worker_options_can_be_used_by_another_command_line() -> None:
    @click.command()
    @worker_options
    def theirs(**options: object) -> None:
        click.echo(run_worker(Gator("locmem://"), **options))  # type: ignore[arg-type]

    result = CliRunner().invoke(theirs, ["--burst", "-q", "mail"])

    assert result.exit_code == 0, result.output


def test_worker_may_create_its_file(tmp_path: Path) -> None:
    result = run("sqlite://queue.db", "--burst", cwd=tmp_path)

    assert result.returncode == 0
    assert f"starts on sqlite://{os.path.realpath(tmp_path)}/queue.db, queue all" in result.stderr
    assert (tmp_path / "queue.db").exists()


def test_queue_that_does_not_exist_yet_is_one_warning(gator: Gator) -> None:
    gator.task(sample_tasks.add, 1, 2)

    result = run(gator.conn_string, "--burst", "-p", "2", "-q", "al", "-q", "all")

    [warning] = [line for line in result.stderr.splitlines() if "WARNING" in line]
    assert "there is no queue al yet" in warning
    assert "Did you mean all?" in warning


def test_default_queue_of_a_new_store_is_no_warning(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    run_worker(gator, burst=True)

    assert [line for line in caplog.records if line.levelno >= logging.WARNING] == []


def test_queues_may_be_separated_by_commas(gator: Gator) -> None:
    for name in ("images", "reports"):
        gator.options(queue_name=name).task(sample_tasks.add, 1, 2)

    result = run(gator.conn_string, "--burst", "-q", "images,reports")

    assert "queues images, reports" in result.stderr
    assert "WARNING" not in result.stderr
    assert gator.len("images") == gator.len("reports") == 0


def test_log_of_a_worker_hides_the_password(tmp_path: Path) -> None:
    log = tmp_path / "log"

    with running("redis://:p4ssw0rd@127.0.0.1:1/0?ns=shop&password=p4ssw0rd", log=log) as program:
        eventually(lambda: program.said("cannot reach"))

    first, trouble = log.read_text().splitlines()[:2]
    shown = "redis://:***@127.0.0.1:1/0?ns=shop&password=***"
    assert f"starts on {shown}, queue all, until it is stopped" in first
    assert f"cannot reach {shown}: " in trouble
    assert "next attempt in" in trouble
    assert "p4ssw0rd" not in log.read_text()


def test_queue_without_a_name_is_refused(gator: Gator) -> None:
    result = invoke(gator.conn_string, "-q", "")

    assert result.exit_code == 2
    assert "--queue" in result.stderr
