"""latergator cancel on the command line."""

from alligator import Gator
from tests.harness.command_line import invoke
from tests.harness.sample_tasks import add


def test_waiting_and_running_tasks_are_canceled_by_their_ids(dsn: str, gator: Gator) -> None:
    gator.options(task_id="a").task(add, 1, 2)
    gator.options(task_id="b", queue_name="mail", delay_by=60).task(add, 1, 2)
    gator.options(task_id="c").task(add, 1, 2)
    gator.client.reserve("all")

    done = invoke("cancel", dsn, "a", "b")

    assert done.exit_code == 0
    assert done.output == (
        "a on all is canceled while it runs: tests.harness.sample_tasks.add\n"
        "b on mail is canceled before it ran: tests.harness.sample_tasks.add\n"
    )
    assert (gator.stats().canceled, gator.stats("mail").canceled) == (1, 1)
    assert (gator.stats().leased, gator.stats().ready) == (0, 1)


def test_id_that_no_task_has_is_an_error_after_the_others_are_canceled(
    dsn: str, gator: Gator
) -> None:
    gator.options(task_id="a").task(add, 1, 2)

    done = invoke("cancel", dsn, "x", "a", "y")

    assert done.exit_code == 1
    assert "no task that waits or runs has the id x, y" in done.output
    assert gator.stats().canceled == 1


def test_cancel_can_be_for_one_queue(dsn: str, gator: Gator) -> None:
    for name in ("all", "mail"):
        gator.options(task_id="a", queue_name=name).task(add, 1, 2)

    assert invoke("cancel", dsn, "a", "--queue", "mail").exit_code == 0

    assert (gator.stats().ready, gator.stats("mail").ready) == (1, 0)


def test_cancel_needs_an_id(dsn: str) -> None:
    done = invoke("cancel", dsn)

    assert done.exit_code == 2
    assert "Give the ids of tasks." in done.output
