"""latergator pause, resume and drain on the command line."""

from math import inf
from threading import Timer

import pytest

from alligator import Gator, Worker
from tests.harness.command_line import invoke
from tests.harness.sample_tasks import add
from tests.harness.workers import burst, workers_running


def test_queue_is_paused_and_resumed(dsn: str, gator: Gator) -> None:
    gator.task(add, 1, 2)

    paused = invoke("pause", dsn, "all")

    assert (paused.exit_code, gator.stats().paused) == (0, inf)
    assert paused.output == "all is paused; 1 ready, 0 leased, 0 scheduled\n"
    assert "all is paused\n" in invoke("stats", dsn).output
    resumed = invoke("resume", dsn, "all")
    assert (resumed.exit_code, gator.stats().paused) == (0, 0)
    assert resumed.output == "all is resumed; 1 ready, 0 leased, 0 scheduled\n"


def test_pause_may_end_by_itself(dsn: str, gator: Gator) -> None:
    gator.task(add, 1, 2)

    result = invoke("pause", dsn, "all", "--for", "7200")

    assert result.output.startswith("all is paused for 2 h; ")
    assert 3600 < gator.stats().paused <= 7200
    assert "all is paused for " in invoke("stats", dsn).output


def test_queue_that_is_not_paused_can_be_resumed(dsn: str, gator: Gator) -> None:
    gator.task(add, 1, 2)

    assert invoke("resume", dsn, "all").output.startswith("all was not paused; ")


@pytest.mark.parametrize("command", ["pause", "resume", "drain"])
def test_unknown_queue_is_an_error_with_a_hint(dsn: str, gator: Gator, command: str) -> None:
    with gator.options(queue_name="mail") as opts:
        opts.task(add, 1, 2)

    result = invoke(command, dsn, "mial")

    assert result.exit_code == 1
    assert "There is no queue mial in" in result.output
    assert "Did you mean mail?" in result.output


@pytest.mark.parametrize("command", ["pause", "resume", "drain"])
def test_command_needs_a_queue(dsn: str, gator: Gator, command: str) -> None:
    gator.task(add, 1, 2)

    result = invoke(command, dsn)

    assert result.exit_code == 2
    assert "Name a queue: latergator stats shows them." in result.output


def test_several_queues_are_paused_or_none(dsn: str, gator: Gator) -> None:
    gator.task(add, 1, 2)

    assert invoke("pause", dsn, "all", "mail").exit_code == 1
    assert gator.stats().paused == 0


# Drain.


def test_drain_waits_until_the_queue_is_empty(dsn: str, gator: Gator) -> None:
    gator.task(add, 1, 2)
    timer = Timer(0.3, burst, [Gator(dsn)])
    timer.start()

    result = invoke("drain", dsn, "all", "--timeout", "60")

    timer.join()
    assert (result.exit_code, gator.stats().succeeded) == (0, 1)
    assert result.output == "all is empty; 0 ready, 0 leased, 0 scheduled\n"


def test_drain_does_not_wait_for_scheduled_tasks(dsn: str, gator: Gator) -> None:
    gator.options(delay_by=3600).task(add, 1, 2)

    result = invoke("drain", dsn, "all")

    assert result.output == "all is empty; 0 ready, 0 leased, 1 scheduled\n"


def test_drain_gives_up_after_its_timeout(dsn: str, gator: Gator) -> None:
    gator.task(add, 1, 2)

    result = invoke("drain", dsn, "all", "--timeout", "0")

    assert result.exit_code == 1
    assert "all is not empty after this time; 1 ready, 0 leased, 0 scheduled" in result.output


def test_drain_of_a_paused_queue_says_so(dsn: str, gator: Gator) -> None:
    gator.task(add, 1, 2)
    gator.pause()

    result = invoke("drain", dsn, "all")

    assert result.exit_code == 1
    assert "all is paused: latergator resume all" in result.output


def test_drain_of_an_empty_paused_queue_ends(dsn: str, gator: Gator) -> None:
    gator.task(add, 1, 2)
    with workers_running(Worker(Gator(dsn))):
        assert invoke("drain", dsn, "all", "--timeout", "60").exit_code == 0
    gator.pause()

    assert invoke("drain", dsn, "all").exit_code == 0


@pytest.mark.parametrize("option", [["drain", "--timeout"], ["pause", "--for"]])
@pytest.mark.parametrize("seconds", ["nan", "1e300", "-1"])
def test_time_that_is_no_number_of_seconds_is_an_error(
    dsn: str, gator: Gator, option: list[str], seconds: str
) -> None:
    gator.task(add, 1, 2)

    result = invoke(option[0], dsn, "all", option[1], seconds)

    assert result.exit_code == 2
    assert gator.stats().paused == 0
