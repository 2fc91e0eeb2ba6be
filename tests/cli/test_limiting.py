"""latergator limit on the command line."""

import pytest

from alligator import Gator
from alligator.backends.base import Limit
from tests.harness.command_line import invoke
from tests.harness.sample_tasks import add


def test_limit_is_set_listed_and_removed(dsn: str, gator: Gator) -> None:
    gator.task(add, 1, 2)
    assert invoke("limit", dsn).output == "No queue has a limit.\n"

    done = invoke("limit", dsn, "all", "--at-once", "3", "--per-minute", "100")

    assert (done.exit_code, gator.stats().limit) == (0, Limit(3, 100, 60.0))
    described = "all: at most 3 at once, 100 per minute"
    assert done.output == f"{described}; 1 ready, 0 leased, 0 scheduled\n"
    assert invoke("limit", dsn).output == f"{described}\n"
    assert f"{described}\n" in invoke("stats", dsn).output
    removed = invoke("limit", dsn, "all", "--remove")
    assert (removed.exit_code, gator.stats().limit) == (0, None)
    assert removed.output == "all has no limit; 1 ready, 0 leased, 0 scheduled\n"


def test_tasks_that_wait_for_a_limit_are_counted(dsn: str, gator: Gator) -> None:
    for number in range(3):
        gator.task(add, number, 2)
    gator.limit(per_second=1, at_once=1)

    gator.client.reserve("all", lease_for=3600)

    described = "all: at most 1 at once, 1 per second; 2 wait for it\n"
    assert invoke("limit", dsn).output == described
    assert described in invoke("stats", dsn).output


def test_limit_of_a_key_is_set_listed_and_removed(dsn: str, gator: Gator) -> None:
    gator.options(limit_key="tenant 7").task(add, 1, 2)
    left = "1 ready, 0 leased, 0 scheduled\n"

    done = invoke("limit", dsn, "all", "--at-once", "3", "--key", "tenant 7")
    each = invoke("limit", dsn, "all", "--per-second", "2", "--key", "*")

    assert done.output == f"all, key tenant 7: at most 3 at once; {left}"
    assert each.output == f"all, each key: at most 2 per second; {left}"
    listed = invoke("limit", dsn).output
    assert listed == "all, each key: at most 2 per second\nall, key tenant 7: at most 3 at once\n"
    removed = invoke("limit", dsn, "all", "--remove", "--key", "tenant 7")
    assert removed.output == f"all, key tenant 7 has no limit; {left}"
    assert list(gator.key_limits()) == ["*"]
    assert gator.stats().limit is None


def test_keys_that_wait_for_their_limits_are_named(dsn: str, gator: Gator) -> None:
    for n in range(26):
        gator.options(limit_key=f"tenant-{n // 2:02}").task(add, n, 2)
    gator.limit(at_once=1, limit_key="*")
    for n in range(12):
        gator.limit(at_once=1, limit_key=f"tenant-{n:02}")
    before = invoke("stats", dsn).output
    for _ in range(3):
        gator.client.step(["all"], 100)

    stats, listed = invoke("stats", dsn).output, invoke("limit", dsn).output

    assert "all: 13 keys wait\n" in before
    names = ", ".join(f"tenant-{n:02}" for n in range(10))
    waiting = f"all: 13 keys wait, 13 for their limits: {names} and 3 more\n"
    assert waiting in stats
    assert waiting in listed
    assert "all, each key: at most 1 at once\nall, key tenant-00: at most 1 at once\n" in stats
    assert "all: 3 more limits of keys: latergator limit\n" in stats
    assert listed.count("all, key tenant-") == 12


def test_key_of_a_limit_needs_numbers_or_remove(dsn: str, gator: Gator) -> None:
    gator.task(add, 1, 2)

    result = invoke("limit", dsn, "--key", "tenant 7")

    assert result.exit_code == 2
    assert "or else --remove." in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["all"], "Give --at-once, --per-second or --per-minute, or else --remove."),
        (["all", "--remove", "--at-once", "3"], "or else --remove."),
        (["--at-once", "3"], "Name a queue: latergator stats shows them."),
        (["all", "--at-once", "0"], "0 is not in the range 1<=x<=100000"),
        (["all", "--per-second", "1.5"], "'1.5' is not a valid integer range"),
        (["all", "--per-second", "1", "--per-minute", "2"], "not both"),
    ],
)
def test_limit_that_is_none_is_an_error(
    dsn: str, gator: Gator, options: list[str], message: str
) -> None:
    gator.task(add, 1, 2)

    result = invoke("limit", dsn, *options)

    assert result.exit_code == 2
    assert message in result.output
    assert gator.stats().limit is None


def test_unknown_queue_is_an_error(dsn: str, gator: Gator) -> None:
    gator.task(add, 1, 2)

    result = invoke("limit", dsn, "mail", "--at-once", "3")

    assert result.exit_code == 1
    assert "There is no queue mail in" in result.output
