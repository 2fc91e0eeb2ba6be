"""latergator on the command line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from alligator import Gator
from alligator.cli import main
from tests.harness import sample_tasks
from tests.harness.command_line import invoke
from tests.harness.programs import environment, eventually, lines, run, running

# Help and options.


def test_help_shows_how_to_start_a_worker() -> None:
    result = invoke("--help")

    assert result.exit_code == 0
    assert "latergator redis://localhost:6379/0" in result.output
    assert "ALLIGATOR_SECRET" in result.output


@pytest.mark.parametrize(
    "command",
    [
        ["worker"],
        ["stats"],
        ["health"],
        ["dead"],
        *(["dead", c] for c in ("list", "show", "retry", "drop")),
    ],
)
def test_commands_all_have_help(command: list[str]) -> None:
    result = invoke(*command, "--help")

    assert result.exit_code == 0
    assert "--help" in result.output


def test_options_all_have_help() -> None:
    for command in main.commands.values():
        for param in command.params:
            assert not isinstance(param, click.Option) or param.help


def test_version_is_shown() -> None:
    result = invoke("--version")

    assert result.output.startswith("Alligator ")


@pytest.mark.parametrize("option", ["--max-tasks=-1", "--concurrency=0", "--log-level=loud"])
def test_values_that_are_invalid_are_refused(option: str) -> None:
    result = invoke("locmem://", option)

    assert result.exit_code == 2


def test_help_imports_no_library_that_it_does_not_need() -> None:
    code = (
        "import sys; from alligator.cli import main; main(['--help'], standalone_mode=False);"
        "print([m for m in ('redis', 'rich', 'sqlite3') if m in sys.modules])"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )

    assert result.stdout.splitlines()[-1] == "[]"


# Several processes.


def test_processes_share_the_work_and_end_together(
    dsn: str, gator: Gator, out: Path, log: Path
) -> None:
    with running(dsn, "-p", "2", log=log) as program:
        eventually(lambda: len(gator.client.workers()) == 2)
        gator.task(sample_tasks.record, str(out), "one")
        eventually(lambda: lines(out))
        program.terminate()

        assert program.wait(60) == 0

    assert gator.client.workers() == []


def test_process_that_is_killed_is_replaced(dsn: str, gator: Gator, out: Path, log: Path) -> None:
    with running(dsn, "-p", "2", log=log) as program:
        gator.task(sample_tasks.record_pid, str(out))
        eventually(lambda: lines(out))
        os.kill(int(lines(out)[0]), signal.SIGKILL)

        eventually(lambda: log.read_text().count("has started") == 3)
        program.send_signal(signal.SIGINT)

        assert program.wait(60) == 0

    assert program.said("was killed by signal 9")


def test_processes_in_a_burst_end_when_no_task_is_left(dsn: str, gator: Gator, out: Path) -> None:
    for number in range(10):
        gator.task(sample_tasks.record, str(out), str(number))

    result = run(dsn, "-p", "3", "--burst")

    assert result.returncode == 0
    assert sorted(lines(out)) == [str(number) for number in range(10)]


def test_processes_are_replaced_after_max_tasks(
    dsn: str, gator: Gator, out: Path, log: Path
) -> None:
    for _ in range(12):
        gator.task(sample_tasks.record_pid, str(out))

    with running(dsn, "-p", "2", "--max-tasks", "3", log=log) as program:
        eventually(lambda: len(lines(out)) == 12)
        program.terminate()

        assert program.wait(60) == 0

    assert all(lines(out).count(pid) <= 3 for pid in lines(out))
    assert not program.said("a replacement starts")


def test_second_signal_ends_processes_at_once(dsn: str, gator: Gator, log: Path) -> None:
    for _ in range(2):
        gator.task(sample_tasks.sleep_for, 60)

    with running(dsn, "-p", "2", log=log) as program:
        eventually(lambda: gator.stats().leased == 2)
        program.terminate()
        eventually(lambda: log.read_text().count("is stopping") == 2)
        program.terminate()

        assert program.wait(20) == 1

    assert (gator.stats().ready, gator.stats().leased) == (2, 0)


def test_processes_end_when_their_parent_was_killed(dsn: str, gator: Gator, log: Path) -> None:
    with running(dsn, "-p", "2", log=log) as program:
        eventually(lambda: len(gator.client.workers()) == 2)
        program.kill()

        eventually(lambda: not gator.client.workers())
