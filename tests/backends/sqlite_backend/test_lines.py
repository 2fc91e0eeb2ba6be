"""Lines of limit keys in a SQLite file: what a step has to look at."""

import time

import pytest

from alligator.backends.base import Limit, Message
from alligator.backends.limits import EACH
from alligator.backends.sqlite_backend import Client, key_limits
from tests.harness.contract import AT_ONCE, HOUR, ids


def enqueue(client: Client, *task_ids: str) -> None:
    """Push tasks whose keys are the letters that their ids begin with."""
    client.push_many([Message("mail", each, "", limit_key=each[0]) for each in task_ids])


def test_task_that_is_leased_alone_is_so_whatever_else_the_step_looks_at(client: Client) -> None:
    enqueue(client, "a0", "b0")
    client.cancel("mail", "b0")

    (lease,) = client.step(["mail"], 2, lease_for=AT_ONCE).leases
    (again,) = client.step(["mail"], 2).leases

    assert (lease.task_id, again.task_id) == ("a0", "a0")
    assert again.lost == 1


def test_step_goes_on_past_lines_without_tasks(client: Client) -> None:
    enqueue(client, *(f"{letter}0" for letter in "abcdefgh"), "a1", "h1")
    for letter in "bcdefg":
        client.cancel("mail", f"{letter}0")

    found = [ids(client.step(["mail"], 2).leases) for _ in range(2)]
    assert found == [["a0", "h0"], ["a1", "h1"]]


def test_line_gives_as_many_tasks_as_the_others_leave(client: Client) -> None:
    enqueue(client, *(f"a{n:02}" for n in range(40)), "b0", "c0", "c1")

    found = ids(client.step(["mail"], 30).leases)

    assert found[:5] == ["a00", "b0", "c0", "a01", "c1"]
    assert found[5:] == [f"a{n:02}" for n in range(2, 27)]


@pytest.fixture
def _sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each step that has a start forget old ones."""
    monkeypatch.setattr(key_limits, "SWEEP_EACH", 1)


def starts(client: Client) -> list[tuple[str, int]]:
    """Return the starts in the file."""
    with client._database.read() as connection:
        return connection.execute("SELECT key, number FROM key_begun").fetchall()


@pytest.mark.usefixtures("_sweeps")
def test_starts_count_when_a_later_one_with_a_shorter_time_is_forgotten(client: Client) -> None:
    enqueue(client, *(f"a{n}" for n in range(6)))
    for seconds in (HOUR, 0.001, HOUR, HOUR):
        client.limit("mail", Limit(starts=9, seconds=seconds), "a")
        time.sleep(0.002)
        assert client.step(["mail"], 1).leases

    assert starts(client) == [("a", 1), ("a", 3), ("a", 4)]

    client.limit("mail", Limit(starts=3, seconds=HOUR), "a")
    assert not client.step(["mail"], 1).leases
    client.limit("mail", Limit(starts=5, seconds=HOUR), "a")
    assert ids(client.step(["mail"], 1).leases) == ["a4"]
    assert not client.step(["mail"], 1).leases


@pytest.mark.usefixtures("_sweeps")
def test_old_starts_are_forgotten_whatever_keys_they_have(client: Client) -> None:
    enqueue(client, *(f"m{n}" for n in range(9)))
    client.limit("mail", Limit(starts=9, seconds=HOUR), "m")
    for _ in range(9):
        client.step(["mail"], 1)
    client.limit("mail", Limit(starts=9, seconds=0.001), EACH)
    keys = [f"{letter}{n:02}" for n in range(20) for letter in "amz"]
    client.push_many([Message("mail", key, "", limit_key=key) for key in keys])

    for _ in keys:
        assert client.step(["mail"], 1).leases
        time.sleep(0.002)

    found = starts(client)
    assert [number for key, number in found if key == "m"] == [*range(1, 10)]
    assert len(found) < 9 + 15


def test_old_starts_are_forgotten_now_and_then(client: Client) -> None:
    client.limit("mail", Limit(starts=9, seconds=0.000_001), EACH)
    enqueue(client, *(f"a{n}" for n in range(400)))

    for _ in range(400):
        assert client.step(["mail"], 1).leases

    assert len(starts(client)) < 300


@pytest.mark.usefixtures("_sweeps")
@pytest.mark.parametrize("limit", [None, Limit(at_once=3), Limit(starts=3, seconds=HOUR)])
def test_cost_of_a_step_does_not_grow_with_the_tasks_and_keys(
    client: Client, limit: Limit | None
) -> None:
    def cost() -> int:
        """Return how many instructions of SQLite a step needs."""
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        client.step(["mail"], 10)
        with client._database.write(durable=False) as connection:
            connection.set_progress_handler(count, 1)
        client.step(["mail"], 10)
        with client._database.write(durable=False) as connection:
            connection.set_progress_handler(None, 1)
        return counted

    client.limit("mail", limit, EACH)
    tasks = [Message("mail", f"{n}", "", limit_key=f"k{n % 100}") for n in range(200)]
    client.push_many(tasks)
    before = cost()
    for batch in range(4):
        more = [f"{batch}-{n}" for n in range(1000)]
        client.push_many([Message("mail", each, "", limit_key=f"k{each}") for each in more])

    assert cost() < 1.2 * before
