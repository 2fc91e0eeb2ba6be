"""The output of dead tasks."""

from json import loads

from alligator import Gator
from tests.harness.command_line import invoke
from tests.harness.dead_tasks import bury


def test_reason_cannot_control_the_terminal(dsn: str, gator: Gator) -> None:
    task_id = bury(gator, "\x1b[2J[bold]x[/bold]")

    for result in (invoke("dead", "list", dsn), invoke("dead", "show", dsn, task_id)):
        assert "\x1b" not in result.output
        assert "[bold]x[/bold]" in result.output


def test_dead_task_is_shown_with_its_traceback(dsn: str, gator: Gator) -> None:
    task_id = bury(gator)

    result = invoke("dead", "show", dsn, task_id)

    assert result.exit_code == 0
    assert "reason: RuntimeError: no luck" in result.output
    assert "    in line 1" in result.output


def test_dead_task_is_shown_with_its_call_attempt_and_headers(dsn: str, gator: Gator) -> None:
    task_id = bury(gator, "out of paper", headers={"request_id": "5f1c", "tenant": "blue"})

    shown = invoke("dead", "show", dsn, task_id).output.splitlines()

    assert 'call: fail("out of paper")' in shown
    assert "attempt: 1" in shown
    assert "request id: 5f1c" in shown
    assert "header tenant: blue" in shown


def test_dead_task_is_shown_as_json(dsn: str, gator: Gator) -> None:
    task_id = bury(gator, headers={"request_id": "5f1c"}, queue_name="mail", retries=2)

    [shown] = loads(invoke("dead", "show", dsn, task_id, "--json").output)

    assert (shown["id"], shown["queue"]) == (task_id, "mail")
    assert (shown["args"], shown["kwargs"], shown["attempt"]) == (["no luck"], {}, 1)
    assert shown["request_id"] == "5f1c"
    assert shown["traceback"] == "in line 1\nup"


def test_payload_that_is_garbage_can_be_shown(dsn: str, gator: Gator) -> None:
    gator.client.push("all", "odd-one", "garbage")
    lease = gator.client.lease("all", "odd-one")
    assert lease is not None
    gator.client.dead_letter(lease, reason="it cannot be read")

    result = invoke("dead", "show", dsn, "odd-one")

    assert result.exit_code == 0
    assert "reason: it cannot be read" in result.output


def test_ids_are_listed_long_enough_to_be_used(dsn: str, gator: Gator) -> None:
    ids = [bury(gator, task_id=f"{number:032x}") for number in range(3)]

    words = invoke("dead", "list", dsn).output.split()
    listed = [word for word in words if word.startswith("0000")]
    retried = invoke("dead", "retry", dsn, *listed)

    assert sorted(listed) == ids
    assert retried.exit_code == 0
    assert gator.stats().dead == 0
