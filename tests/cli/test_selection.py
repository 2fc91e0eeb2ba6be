"""The selection of dead tasks."""

import pytest

from alligator import Gator
from tests.harness import sample_tasks
from tests.harness.command_line import invoke
from tests.harness.dead_tasks import bury


@pytest.mark.parametrize("command", ["show", "retry", "drop"])
def test_id_may_be_shortened(dsn: str, gator: Gator, command: str) -> None:
    bury(gator, task_id="18ec83")
    bury(gator, task_id="5f1c")

    result = invoke("dead", command, dsn, "18")

    assert result.exit_code == 0
    assert gator.stats().dead == (2 if command == "show" else 1)


@pytest.mark.parametrize("command", ["show", "retry", "drop"])
def test_short_id_of_several_tasks_is_refused(dsn: str, gator: Gator, command: str) -> None:
    bury(gator, task_id="18ec83")
    bury(gator, task_id="18ec84", queue_name="mail")

    result = invoke("dead", command, dsn, "18ec")

    assert result.exit_code == 1
    assert "18ec begins the ids of 2 dead tasks" in result.stderr
    assert "18ec84 (mail, tests.harness.sample_tasks.fail)" in result.stderr
    assert gator.stats().dead == gator.client.stats("mail").dead == 1


def test_id_that_begins_another_one_is_exact(dsn: str, gator: Gator) -> None:
    bury(gator, task_id="order-1")
    bury(gator, task_id="order-10")

    result = invoke("dead", "drop", dsn, "order-1")

    assert result.exit_code == 0
    assert [letter.task_id for letter in gator.dead_letters()] == ["order-10"]


def test_id_that_is_dead_in_two_queues_needs_its_queue(dsn: str, gator: Gator) -> None:
    bury(gator, task_id="order-1")
    bury(gator, task_id="order-1", queue_name="mail")

    unclear = invoke("dead", "drop", dsn, "order-1")
    clear = invoke("dead", "drop", dsn, "order-1", "-q", "mail")

    assert unclear.exit_code == 1
    assert "all, mail" in unclear.stderr
    assert clear.exit_code == 0
    assert (gator.stats().dead, gator.client.stats("mail").dead) == (1, 0)


def test_id_means_the_latest_dead_task_with_it(dsn: str, gator: Gator) -> None:
    bury(gator, "the first time", task_id="order-1")
    bury(gator, "the second time", task_id="order-1")

    shown = invoke("dead", "show", dsn, "order-1")
    dropped = invoke("dead", "drop", dsn, "order-1")

    assert "the second time" in shown.output
    assert "the first time" not in shown.output
    assert dropped.output == "1 task dropped (all: 1)\n"
    assert [letter.reason for letter in gator.dead_letters()] == ["RuntimeError: the first time"]


def test_filter_spares_a_task_behind_another_one_with_its_id(dsn: str, gator: Gator) -> None:
    bury(gator, "the first time", task_id="order-1")
    bury(gator, "the second time", task_id="order-1")

    result = invoke("dead", "drop", dsn, "--all", "--yes", "--reason", "first")

    assert result.output.splitlines()[0] == "0 tasks dropped"
    assert gator.stats().dead == 2


def test_all_includes_each_task_with_the_same_id(dsn: str, gator: Gator) -> None:
    bury(gator, task_id="order-1")
    bury(gator, task_id="order-1")

    result = invoke("dead", "drop", dsn, "--all", "--yes")

    assert result.output == "2 tasks dropped (all: 2)\n"
    assert gator.stats().dead == 0


def test_all_means_the_queues_of_the_prefix(dsn: str, gator: Gator) -> None:
    bury(gator, queue_name="staging_all")
    bury(gator, queue_name="production_all")

    result = invoke("dead", "drop", dsn, "--prefix", "staging", "--all", "--yes")

    assert result.output.splitlines() == [
        "1 task dropped (staging_all: 1)",
        "1 dead task remains (production_all: 1)",
    ]


@pytest.mark.parametrize("command", [["list"], ["retry", "--all"], ["drop", "--all", "--yes"]])
@pytest.mark.parametrize(
    "chosen",
    [
        ["--task", "fail"],
        ["--task", "tests.*.fail"],
        ["--reason", "NO LUCK"],
        ["--queue", "mail,other"],
    ],
)
def test_filters_limit_commands_to_some_tasks(
    dsn: str, gator: Gator, command: list[str], chosen: list[str]
) -> None:
    task_id = bury(gator, queue_name="mail")
    bury(gator, "something else", sample_tasks.fail_later)

    result = invoke("dead", *command, dsn, *chosen)

    if command == ["list"]:
        assert task_id[:8] in result.output
        assert "something else" not in result.output
    else:
        assert "1 task " in result.output
        assert (gator.client.stats("mail").dead, gator.stats().dead) == (0, 1)


def test_filters_cannot_be_used_with_ids(dsn: str, gator: Gator) -> None:
    task_id = bury(gator)

    result = invoke("dead", "drop", dsn, task_id, "--task", "other")

    assert result.exit_code == 2
    assert gator.stats().dead == 1


@pytest.mark.parametrize("command", ["show", "retry", "drop"])
def test_id_that_is_not_dead_is_status_1(dsn: str, command: str) -> None:
    result = invoke("dead", command, dsn, "unknown-id")

    assert result.exit_code == 1
    assert "unknown-id" in result.stderr


@pytest.mark.parametrize("command", ["show", "retry", "drop"])
def test_tasks_must_be_named(dsn: str, command: str) -> None:
    result = invoke("dead", command, dsn)

    assert result.exit_code == 2
