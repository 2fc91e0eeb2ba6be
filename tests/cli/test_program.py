"""The commands that a program adds to its own command line."""

import click
import pytest
from click.testing import CliRunner

from alligator import Gator
from alligator.cli import program_commands, store_commands, worker_command
from alligator.monitoring.health import Health
from tests.harness.sample_tasks import add


def commands(gator: Gator) -> click.Group:
    worker = worker_command(lambda: gator, "Run the tasks of the shop.")
    return program_commands(worker, store_commands(lambda: gator, lambda: Health(gator)))


def run(gator: Gator, *words: str) -> str:
    done = CliRunner().invoke(commands(gator), words)
    assert done.exit_code == 0, done.output
    return done.output


def test_program_has_all_commands_of_latergator(gator: Gator) -> None:
    from alligator.cli import main

    assert sorted(commands(gator).commands) == sorted(main.commands)


def test_commands_use_the_gator_of_the_program(gator: Gator) -> None:
    gator.task(add, 1, 2)

    assert "0 of 1 tasks would not run" in run(gator, "check")
    assert "all" in run(gator, "stats")
    assert "no task is dead" in run(gator, "dead", "list")
    assert "can be used" in run(gator, "tables")


def test_commands_do_not_take_another_gator(gator: Gator) -> None:
    for command in ("stats", "health", "check", "worker"):
        done = CliRunner().invoke(commands(gator), [command, "--app", "shop:gator"])
        assert (done.exit_code, "No such option" in done.output) == (2, True)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["drain"], "Name a queue: shop alligator stats shows them."),
        (["drain", "all"], "all is paused: shop alligator resume all"),
        (["schedules", "forget"], "Name a schedule: shop alligator schedules list shows them."),
    ],
    ids=" ".join,
)
def test_hints_name_the_commands_of_the_program(gator: Gator, words: list[str], hint: str) -> None:
    gator.task(add, 1, 2)
    gator.pause()

    done = CliRunner().invoke(commands(gator), words, prog_name="shop alligator")

    assert hint in done.output


def test_gator_is_asked_for_only_when_a_command_runs() -> None:
    def fail() -> Gator:
        raise AssertionError("it was asked for")

    group = click.Group("shop")
    for command in store_commands(fail, fail):
        group.add_command(command)

    assert CliRunner().invoke(group, ["check", "--help"]).exit_code == 0
