"""The contract of every store: dead letters."""

import time

from alligator import constants
from alligator.backends.base import (
    Client,
    Message,
    Outcome,
)
from tests.harness.contract import (
    AT_ONCE,
    HOUR,
    balance,
    push,
    take,
)


def test_dead_letter_has_reason_and_traceback(client: Client) -> None:
    push(client, "a")

    client.dead_letter(take(client), reason="ValueError: ☃", traceback="Traceback …\n  line")

    (letter,) = client.dead_letters("mail")
    assert (letter.queue_name, letter.task_id, letter.data) == ("mail", "a", "data of a")
    assert (letter.reason, letter.traceback) == ("ValueError: ☃", "Traceback …\n  line")
    assert abs(time.time() - letter.died_at) < 60
    assert not client.reserve("mail")


def test_latest_dead_letter_comes_first(client: Client) -> None:
    push(client, "a", "b", "c")
    for _ in range(3):
        client.dead_letter(take(client), reason="no luck")
        time.sleep(0.002)

    assert [letter.task_id for letter in client.dead_letters("mail")] == ["c", "b", "a"]
    assert [letter.task_id for letter in client.dead_letters("mail", limit=2)] == ["c", "b"]


def die(client: Client, *task_ids: str) -> None:
    push(client, *task_ids)
    for lease in client.reserve("mail", limit=len(task_ids)):
        client.dead_letter(lease, reason="no luck")
        time.sleep(0.002)


def test_dead_letters_above_the_limit_are_dropped_oldest_first(client: Client) -> None:
    client.dead_limit = 3
    die(client, "a", "b", "c", "d")
    push(client, "lost")
    for _ in range(2):
        client.step(["mail"], 1, lease_for=AT_ONCE, max_lost=1)

    assert [letter.task_id for letter in client.dead_letters("mail")] == ["lost", "d", "c"]
    stats = client.stats("mail")
    assert (stats.dead, stats.dropped) == (3, 2)
    assert balance(stats)
    push(client, "a")
    assert take(client).lost == 0


def test_dead_letters_that_are_too_old_are_dropped(client: Client) -> None:
    die(client, "a", "b", "c")

    client.dead_seconds = 0.001
    die(client, "d")
    assert [letter.task_id for letter in client.dead_letters("mail")] == ["d", "c"]
    client.dead_seconds = HOUR
    die(client, "e")

    assert [letter.task_id for letter in client.dead_letters("mail")] == ["e", "d", "c"]
    assert client.stats("mail").dropped == 2
    assert balance(client.stats("mail"))


def test_dead_letters_shrink_to_a_lower_limit_step_by_step(
    client: Client,
) -> None:
    die(client, "a", "b", "c", "d", "e", "f")

    client.dead_limit = 2
    counts = []
    for name in "xyzuvw":
        die(client, name)
        counts.append(client.stats("mail").dead)

    assert counts == [5, 4, 3, 2, 2, 2]
    assert [letter.task_id for letter in client.dead_letters("mail")] == ["w", "v"]


def test_dead_task_can_be_made_ready_again(client: Client) -> None:
    push(client, "a")
    for _ in range(3):
        client.step(["mail"], 1, lease_for=AT_ONCE, max_lost=2)

    assert client.retry_dead("mail", "a")
    assert not client.retry_dead("mail", "a")
    assert client.dead_letters("mail") == []
    lease = take(client)
    assert (lease.data, lease.lost) == ("data of a", 0)
    assert balance(client.stats("mail"))


def test_lease_from_before_the_death_of_a_task_is_outdated(client: Client) -> None:
    push(client, "a")
    late = take(client, lease_for=AT_ONCE)
    client.dead_letter(take(client), reason="no luck")
    client.retry_dead("mail", "a")
    take(client)

    client.nack(late, data="other")

    assert client.stats("mail").leased == 1


def test_dead_task_can_be_dropped(client: Client) -> None:
    push(client, "a")
    client.dead_letter(take(client), reason="no luck")

    assert client.drop_dead("mail", "a")
    assert not client.drop_dead("mail", "a")
    assert not client.retry_dead("mail", "a")
    stats = client.stats("mail")
    assert (stats.dead, stats.dropped) == (0, 1)
    assert balance(stats)


def test_drop_dead_drops_only_dead_tasks(client: Client) -> None:
    push(client, "a")

    assert not client.drop_dead("mail", "a")
    assert not client.retry_dead("mail", "a")
    assert client.len("mail") == 1


def test_dead_letters_have_no_default_limit(client: Client) -> None:
    for number in range(11):
        client.push_many(
            [Message("mail", f"{number}-{n}", "{}") for n in range(constants.MAX_TASKS)]
        )
        leases = client.reserve("mail", limit=constants.MAX_TASKS)
        client.step((), 0, outcomes=[Outcome("dead", lease, reason="no luck") for lease in leases])

    stats = client.stats("mail")
    assert (stats.dead, stats.dropped) == (11 * constants.MAX_TASKS, 0)
