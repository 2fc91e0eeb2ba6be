"""The contract of every store: ack, retry, release and dead."""

from alligator.backends.base import (
    Client,
    Outcome,
)
from tests.harness.contract import (
    AT_ONCE,
    HOUR,
    balance,
    becomes,
    drain,
    ids,
    push,
    take,
)

# Outcomes.


def test_done_task_is_removed(client: Client) -> None:
    push(client, "a")

    client.ack(take(client, lease_for=HOUR))

    stats = client.stats("mail")
    assert (stats.pushed, stats.succeeded, stats.ready, stats.leased) == (1, 1, 0, 0)


def test_step_applies_outcomes_before_it_reserves(client: Client) -> None:
    push(client, "a", "b")
    lease = take(client)

    step = client.step(["mail"], 5, outcomes=[Outcome("retry", lease)])

    assert sorted(ids(step.leases)) == ["a", "b"]


def test_outcomes_of_other_queues_are_applied_too(client: Client) -> None:
    push(client, "a", queue="print")
    lease = take(client, "print")

    client.step(["mail"], 1, outcomes=[Outcome("ack", lease)])

    assert client.stats("print").succeeded == 1


def test_step_takes_outcomes_of_every_kind(client: Client) -> None:
    push(client, "ack", "retry", "release", "dead")
    by_id = {lease.task_id: lease for lease in client.reserve("mail", limit=4)}

    client.step(
        (),
        0,
        outcomes=[
            Outcome("ack", by_id["ack"]),
            Outcome("retry", by_id["retry"], HOUR),
            Outcome("release", by_id["release"]),
            Outcome("dead", by_id["dead"], reason="no luck"),
        ],
    )

    stats = client.stats("mail")
    assert (stats.succeeded, stats.scheduled, stats.ready, stats.dead) == (1, 1, 1, 1)
    assert balance(stats)


def test_failed_task_runs_again_with_its_new_data(client: Client) -> None:
    push(client, "a")

    client.nack(take(client), data="second try")

    lease = take(client)
    assert (lease.data, lease.lost) == ("second try", 0)
    assert client.stats("mail").retried == 1


def test_failed_task_keeps_its_data_when_no_other_is_given(client: Client) -> None:
    push(client, "a")

    client.nack(take(client))

    assert take(client).data == "data of a"


def test_failed_task_runs_again_after_its_delay(client: Client) -> None:
    push(client, "later", "soon")

    client.nack(take(client), delay=HOUR)
    client.nack(take(client), delay=0.03)

    assert becomes(lambda: ids(client.reserve("mail")) == ["soon"])
    assert not client.reserve("mail")
    assert client.stats("mail").scheduled == 1


def test_released_tasks_go_back_to_their_places(client: Client) -> None:
    push(client, "a", "b", "c", "d", "e")
    taken = client.reserve("mail", limit=4)

    client.step((), 0, outcomes=[Outcome("ack", taken[0])])
    client.step((), 0, outcomes=[Outcome("release", lease) for lease in taken[1:]])

    assert drain(client) == ["b", "c", "d", "e"]


def test_released_task_goes_back_as_it_was(client: Client) -> None:
    push(client, "a")

    client.release(take(client))

    lease = take(client)
    assert (lease.data, lease.lost) == ("data of a", 0)
    stats = client.stats("mail")
    assert (stats.retried, stats.lost) == (0, 0)


def test_outcome_counts_once(client: Client) -> None:
    push(client, "a", "b", "c")
    done, failed, dead = client.reserve("mail", limit=3)
    outcomes = [
        Outcome("ack", done),
        Outcome("retry", failed, HOUR),
        Outcome("dead", dead, reason="no luck"),
    ]

    client.step((), 0, outcomes=outcomes)
    client.step((), 0, outcomes=outcomes)

    stats = client.stats("mail")
    assert (stats.succeeded, stats.retried, stats.dead, stats.scheduled) == (1, 1, 1, 1)
    assert balance(stats)


# Expired tasks.


def test_expired_task_is_a_dead_letter_that_counts_as_no_failure(client: Client) -> None:
    push(client, "a")

    client.step((), 0, outcomes=[Outcome("expired", take(client), reason="expired: too late")])

    stats = client.stats("mail")
    assert (stats.expired, stats.died, stats.dead, stats.failed, stats.retried) == (1, 1, 1, 0, 0)
    assert balance(stats)
    [letter] = client.dead_letters("mail")
    assert (letter.reason, letter.data) == ("expired: too late", "data of a")


def test_expired_task_keeps_its_new_data(client: Client) -> None:
    push(client, "a")
    client.step((), 0, outcomes=[Outcome("expired", take(client), 0.0, "new data", "too late")])

    assert client.dead_letters("mail")[0].data == "new data"
    assert client.retry_dead("mail", "a")
    assert take(client).data == "new data"


def test_expiry_is_fenced(client: Client) -> None:
    push(client, "a")
    old = take(client, lease_for=AT_ONCE)
    new = take(client)

    client.step((), 0, outcomes=[Outcome("expired", old, 0.0, "data of the late one", "too late")])

    assert (client.stats("mail").leased, client.stats("mail").expired) == (1, 0)
    client.ack(new)


# Release with a delay, for a problem that is not the task's fault.


def test_release_with_a_delay_schedules_and_counts_nothing(
    client: Client,
) -> None:
    push(client, "a")

    client.step((), 0, outcomes=[Outcome("release", take(client), HOUR, "new data")])

    stats = client.stats("mail")
    assert (stats.scheduled, stats.ready, stats.leased, stats.dead) == (1, 0, 0, 0)
    assert (stats.failed, stats.retried, stats.lost) == (0, 0, 0)
    assert not client.reserve("mail")


def test_release_with_a_delay_replaces_the_data(client: Client) -> None:
    push(client, "a", "b")
    taken = client.reserve("mail", limit=2)

    outcomes = [Outcome("release", taken[0], 0.2, "new data"), Outcome("release", taken[1], 0.2)]
    client.step((), 0, outcomes=outcomes)

    found: dict[str, tuple[str, int]] = {}

    def look() -> bool:
        for lease in client.reserve("mail", limit=2):
            found[lease.task_id] = lease.data, lease.lost
        return len(found) == 2

    assert becomes(look)
    assert found == {"a": ("new data", 0), "b": ("data of b", 0)}


def test_release_with_a_delay_is_fenced(client: Client) -> None:
    push(client, "a")
    old = take(client, lease_for=AT_ONCE)
    new = take(client)

    client.step((), 0, outcomes=[Outcome("release", old, HOUR, "data of the late one")])

    assert client.stats("mail").leased == 1
    client.ack(new)
    assert client.stats("mail").succeeded == 1
    assert balance(client.stats("mail"))
    assert ids(client.reserve("mail")) == []
