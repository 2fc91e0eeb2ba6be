"""The contract of every store: schedules, and that each tick of one is queued once."""

import json
import time
from collections.abc import Sequence

import pytest

from alligator.backends.base import Announcement, Client, Message
from tests.harness.contract import Connect, balance, becomes, drain, elsewhere, take

NOON = 1_800_000_000
HOUR = 3600.0


def announce(
    client: Client, *names: str, now: int = NOON, ttl: float = HOUR
) -> Sequence[int | None]:
    return client.announce_schedules(
        [Announcement(name, json.dumps({"name": name}), ttl) for name in names], now
    )


def tick(client: Client, moment: int, name: str = "nightly", queue: str = "mail") -> bool:
    return client.push_tick(name, moment, Message(queue, f"{name}@{moment}", "data"))


@pytest.fixture
def remembering(client: Client) -> Client:
    """Return a client of a store that remembers ticks."""
    if not client.remembers_ticks:
        pytest.skip("it keeps nothing of schedules")
    return client


def test_tick_is_a_task_on_its_queue(client: Client) -> None:
    assert tick(client, NOON)

    lease = take(client)
    assert (lease.task_id, lease.data) == (f"nightly@{NOON}", "data")
    client.ack(lease)
    assert balance(client.stats("mail"))


def test_tick_is_queued_once_by_several_clients(connect: Connect) -> None:
    clients = [connect(), connect()]
    if not clients[0].remembers_ticks:
        pytest.skip("it keeps nothing of schedules")

    queued = [tick(client, NOON) for client in (*clients, *clients)]

    assert queued == [True, False, False, False]
    assert drain(clients[0]) == [f"nightly@{NOON}"]


def test_tick_that_ran_is_not_queued_again(remembering: Client) -> None:
    tick(remembering, NOON)
    remembering.ack(take(remembering))

    assert not tick(remembering, NOON)
    assert remembering.len("mail") == 0


def test_tick_before_the_last_one_is_not_queued(remembering: Client) -> None:
    tick(remembering, NOON)

    assert not tick(remembering, NOON - 1)
    assert tick(remembering, NOON + 1)
    assert drain(remembering) == [f"nightly@{NOON}", f"nightly@{NOON + 1}"]


def test_schedules_have_ticks_of_their_own(remembering: Client) -> None:
    announce(remembering, "nightly", "hourly")

    assert tick(remembering, NOON + 1)
    assert tick(remembering, NOON + 1, "hourly")


def test_new_schedule_has_no_tick_before_its_announcement(remembering: Client) -> None:
    assert [*announce(remembering, "nightly")] == [NOON]

    assert not tick(remembering, NOON - 60)
    assert not tick(remembering, NOON)
    assert tick(remembering, NOON + 60)


def test_announcement_returns_the_last_tick(remembering: Client) -> None:
    announce(remembering, "nightly")
    tick(remembering, NOON + 60)

    assert [*announce(remembering, "hourly", "nightly", now=NOON + 90)] == [NOON + 90, NOON + 60]


def test_schedules_are_listed_by_name(remembering: Client) -> None:
    announce(remembering, "nightly", "hourly")
    tick(remembering, NOON + 60)

    first, second = remembering.schedules()

    assert first[:4] == ("hourly", '{"name": "hourly"}', NOON, 0)
    assert second[:4] == ("nightly", '{"name": "nightly"}', NOON + 60, NOON + 60)
    assert 0 <= first.seen_ago < HOUR


def test_tick_keeps_the_definition_of_its_schedule(remembering: Client) -> None:
    about = json.dumps({"zone": "Ünïx", "text": " 1 2 \n % "})
    remembering.announce_schedules([Announcement("ünï ^%s", about, HOUR)], NOON)
    tick(remembering, NOON + 60, "ünï ^%s")

    (found,) = remembering.schedules()

    assert found[:4] == ("ünï ^%s", about, NOON + 60, NOON + 60)


def test_tick_of_an_unknown_schedule_is_remembered(remembering: Client) -> None:
    assert tick(remembering, NOON)

    assert [each[:4] for each in remembering.schedules()] == [("nightly", "", NOON, NOON)]
    assert [*announce(remembering, "nightly", now=NOON + 5)] == [NOON]


def test_schedule_is_forgotten_after_its_time(remembering: Client) -> None:
    announce(remembering, "nightly", ttl=0.01)
    announce(remembering, "hourly")

    assert becomes(lambda: [each.name for each in remembering.schedules()] == ["hourly"])
    assert [*announce(remembering, "nightly", now=NOON + 5)] == [NOON + 5]


def test_tick_of_a_schedule_whose_time_is_over_is_queued(remembering: Client) -> None:
    announce(remembering, "nightly", ttl=0.01)
    time.sleep(0.02)

    assert tick(remembering, NOON)
    assert not tick(remembering, NOON)


def test_schedule_can_be_forgotten(remembering: Client) -> None:
    announce(remembering, "nightly", "hourly")

    assert remembering.forget_schedule("nightly")
    assert not remembering.forget_schedule("nightly")
    assert [each.name for each in remembering.schedules()] == ["hourly"]


def test_tick_wakes_a_waiting_worker(connect: Connect) -> None:
    worker, other = connect(), connect()
    if not worker.remembers_ticks:
        pytest.skip("it keeps nothing of schedules")
    worker.step(["mail"], 1)
    began = time.monotonic()

    with elsewhere(lambda: worker.wait(["mail"], HOUR)):
        tick(other, NOON)

    assert time.monotonic() - began < HOUR / 2
    assert take(worker).task_id == f"nightly@{NOON}"


def test_many_clients_at_once_queue_a_tick_once(connect: Connect) -> None:
    clients = [connect() for _ in range(8)]
    if not clients[0].remembers_ticks:
        pytest.skip("it keeps nothing of schedules")
    queued: list[tuple[int, bool]] = []

    def keep(client: Client) -> None:
        queued.extend((moment, tick(client, moment)) for moment in range(NOON, NOON + 10))

    def run(rest: list[Client]) -> None:
        if rest:
            with elsewhere(lambda: keep(rest[0])):
                run(rest[1:])

    run(clients)

    assert sorted(m for m, is_new in queued if is_new) == [*range(NOON, NOON + 10)]
    assert drain(clients[0]) == [f"nightly@{m}" for m in range(NOON, NOON + 10)]


def test_tick_whose_id_waits_already_counts_as_queued(remembering: Client) -> None:
    remembering.push_many([Message("mail", f"nightly@{NOON}", "data")])

    assert tick(remembering, NOON)
    assert not tick(remembering, NOON)
    assert drain(remembering) == [f"nightly@{NOON}"]


def test_store_without_memory_pushes_each_tick(client: Client) -> None:
    if client.remembers_ticks:
        pytest.skip("it remembers ticks")

    assert [*announce(client, "nightly")] == [None]
    assert tick(client, NOON)
    assert client.schedules() == []
    assert not client.forget_schedule("nightly")
