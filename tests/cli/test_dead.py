"""latergator dead on the command line."""

from json import loads

import pytest
from click.testing import CliRunner

from alligator import Gator
from alligator.cli import dead_commands
from tests.harness.command_line import invoke
from tests.harness.dead_tasks import bury


def test_dead_tasks_of_all_queues_are_listed(dsn: str, gator: Gator) -> None:
    ids = [bury(gator), bury(gator, queue_name="mail")]

    result = invoke("dead", "list", dsn, COLUMNS="120")

    assert result.exit_code == 0
    assert all(task_id[:8] in result.output for task_id in ids)
    assert "tests.harness.sample_tasks.fail" in result.output
    assert "RuntimeError: no luck" in result.output


def test_dead_tasks_are_listed_as_json(dsn: str, gator: Gator) -> None:
    task_id = bury(gator)
    bury(gator, queue_name="mail")

    result = invoke("dead", "list", dsn, "--json", "-q", "all")

    (letter,) = loads(result.output)
    assert (letter["id"], letter["queue"]) == (task_id, "all")


def test_list_says_that_no_task_is_dead(dsn: str) -> None:
    result = invoke("dead", "list", dsn)

    assert (result.exit_code, result.output) == (0, "no task is dead\n")


def test_limit_says_that_there_are_more(dsn: str, gator: Gator) -> None:
    bury(gator)
    bury(gator)

    result = invoke("dead", "list", dsn, "--limit", "1")

    assert result.output.splitlines()[-1] == "There are more on all: raise --limit."


@pytest.mark.parametrize("task_id", ["order://7", "redis://host"])
@pytest.mark.parametrize("after", [[], ["--"]])
def test_id_may_look_like_a_dsn(dsn: str, gator: Gator, task_id: str, after: list[str]) -> None:
    bury(gator, task_id=task_id)

    result = invoke("dead", "show", dsn, *after, task_id)

    assert f"id: {task_id}" in result.output.splitlines()


def test_id_that_looks_like_a_dsn_stands_behind_dashes(dsn: str, gator: Gator) -> None:
    bury(gator, task_id="redis://host")

    result = invoke("dead", "show", "--", "redis://host", ALLIGATOR_CONN=dsn)

    assert "id: redis://host" in result.output.splitlines()


def test_task_is_retried_in_any_queue(dsn: str, gator: Gator) -> None:
    task_id = bury(gator, queue_name="mail")
    bury(gator, queue_name="mail")

    result = invoke("dead", "retry", dsn, task_id)

    assert result.exit_code == 0
    stats = gator.client.stats("mail")
    assert (stats.ready, stats.dead) == (1, 1)


def test_dead_tasks_of_all_queues_are_retried(dsn: str, gator: Gator) -> None:
    bury(gator)
    bury(gator)
    bury(gator, queue_name="mail")

    result = invoke("dead", "retry", dsn, "--all")

    assert result.output == "3 tasks put back (all: 2, mail: 1)\n"
    assert gator.stats().ready == 2
    assert gator.client.stats("mail").ready == 1


def test_action_on_one_queue_says_what_remains(dsn: str, gator: Gator) -> None:
    bury(gator)
    bury(gator, queue_name="mail")

    result = invoke("dead", "retry", dsn, "--all", "-q", "mail")

    assert result.output.splitlines() == [
        "1 task put back (mail: 1)",
        "1 dead task remains (all: 1)",
    ]


def test_task_is_dropped(dsn: str, gator: Gator) -> None:
    task_id = bury(gator)
    bury(gator)

    result = invoke("dead", "drop", dsn, task_id)

    assert result.exit_code == 0
    assert gator.stats().dead == 1


def test_dropping_all_must_be_confirmed(dsn: str, gator: Gator) -> None:
    bury(gator)

    refused = invoke("dead", "drop", dsn, "--all", answer="n\n")

    assert refused.exit_code == 1
    assert gator.stats().dead == 1

    confirmed = invoke("dead", "drop", dsn, "--all", answer="y\n")

    assert confirmed.exit_code == 0
    assert gator.stats().dead == 0


def test_dropping_all_can_be_confirmed_in_advance(dsn: str, gator: Gator) -> None:
    bury(gator, queue_name="mail")

    result = invoke("dead", "drop", dsn, "--all", "--yes", "-q", "mail")

    assert result.exit_code == 0
    assert gator.client.stats("mail").dropped == 1


def test_dead_commands_can_be_used_by_another_command_line(gator: Gator) -> None:
    task_id = bury(gator)

    result = CliRunner().invoke(dead_commands(lambda: gator), ["retry", task_id])

    assert result.exit_code == 0, result.output
    assert gator.stats().ready == 1
