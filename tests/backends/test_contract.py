"""What every store does: the sentences of `alligator.backends.base`, one test each."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path

import pytest

from alligator.backends.base import (
    Client,
    Commit,
    Lease,
    Message,
    Outcome,
    QueueStats,
    Step,
    WorkerInfo,
)
from alligator.constants import MAX_TASK_BYTES, MAX_TASKS
from alligator.exceptions import BackendError

Connect = Callable[[], Client]

AT_ONCE = 0.0
"""A lease for this long is over as soon as it is given."""

HOUR = 3600.0


def push(client: Client, *task_ids: str, queue: str = "mail", delay: float = 0.0) -> None:
    client.push_many([Message(queue, task_id, f"data of {task_id}", delay) for task_id in task_ids])


def take(client: Client, queue: str = "mail", *, lease_for: float = HOUR) -> Lease:
    (lease,) = client.reserve(queue, lease_for=lease_for)
    return lease


def ids(leases: Sequence[Lease]) -> list[str]:
    return [lease.task_id for lease in leases]


def drain(client: Client, queue: str = "mail") -> list[str]:
    return ids(client.reserve(queue, limit=MAX_TASKS))


def becomes(question: Callable[[], bool], within: float = 30.0) -> bool:
    end = time.monotonic() + within
    while not (answer := question()) and time.monotonic() < end:
        time.sleep(0.005)
    return answer


@contextmanager
def elsewhere(action: Callable[[], object]) -> Iterator[threading.Thread]:
    """Run *action* in a thread that is over when this is."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield thread
    thread.join(20)
    assert not thread.is_alive()
    assert not errors


def balance(stats: QueueStats) -> bool:
    here = stats.ready + stats.scheduled + stats.leased + stats.dead
    return stats.pushed == stats.succeeded + stats.canceled + stats.dropped + here


# Pushing.


def test_a_pushed_task_is_reserved_as_it_was(client: Client) -> None:
    client.push_many([Message("mail", "a", '{"n": 1}')])

    (lease,) = client.reserve("mail")

    assert (lease.queue_name, lease.task_id, lease.data, lease.lost) == ("mail", "a", '{"n": 1}', 0)


def test_tasks_of_one_call_are_reserved_in_the_order_given(client: Client) -> None:
    names = [f"{n * 7919 % 1000}" for n in range(300)]

    push(client, *names)

    assert drain(client) == names


def test_tasks_of_an_earlier_call_go_first(client: Client) -> None:
    push(client, "z", "y")
    time.sleep(0.002)
    push(client, "a", "b")

    assert drain(client) == ["z", "y", "a", "b"]


def test_one_call_serves_several_queues(client: Client) -> None:
    client.push_many([Message("mail", "a", "1"), Message("print", "a", "2")])

    assert take(client, "mail").data == "1"
    assert take(client, "print").data == "2"


def test_a_call_takes_a_thousand_tasks(client: Client) -> None:
    names = [f"t{n}" for n in range(MAX_TASKS)]

    push(client, *names)

    assert drain(client) == names


def test_an_empty_call_does_nothing(client: Client) -> None:
    client.push_many([])
    client.push_many([], commit_id="nothing")

    assert client.stats("mail") == QueueStats()


def test_all_tasks_of_a_call_are_queued_or_none(client: Client) -> None:
    unfit = Message("mail", "b", object())  # type: ignore[arg-type]
    if client.conn_string.startswith("locmem:"):
        pytest.skip("memory takes anything")
    with pytest.raises(Exception):  # noqa: B017, PT011 - of what kind depends on the store
        client.push_many([Message("mail", "a", "1"), unfit, Message("mail", "c", "3")])

    assert client.len("mail") == 0


@pytest.mark.parametrize("state", ["ready", "scheduled", "leased", "dead"])
def test_a_task_that_the_queue_holds_is_neither_doubled_nor_changed(
    client: Client, state: str
) -> None:
    push(client, "a", delay=HOUR if state == "scheduled" else 0)
    lease = take(client) if state in ("leased", "dead") else None
    if lease and state == "dead":
        client.dead_letter(lease, reason="no luck")

    client.push_many([Message("mail", "a", "other")])

    stats = client.stats("mail")
    assert getattr(stats, state) == 1
    assert (stats.pushed, stats.ready + stats.scheduled + stats.leased + stats.dead) == (1, 1)
    if state in ("ready", "scheduled"):
        assert client.cancel("mail", "a") == "data of a"


def test_an_id_that_comes_twice_in_one_call_is_queued_once(client: Client) -> None:
    messages = [
        Message("mail", "a", "1"),
        Message("mail", "a", "2", HOUR),
        Message("mail", "b", "3"),
    ]

    client.push_many([messages[0]._replace(task_id="c", delay=HOUR), *messages, messages[0]])

    assert [lease.data for lease in client.reserve("mail", limit=5)] == ["1", "3"]
    assert client.stats("mail").pushed == 3


def test_an_id_may_be_used_again_once_its_task_is_done(client: Client) -> None:
    push(client, "a")
    client.ack(take(client))

    push(client, "a")

    assert take(client).task_id == "a"


def test_a_repeated_commit_does_nothing(client: Client) -> None:
    client.push_many([Message("mail", "a", "1")], commit_id="c1")

    client.push_many([Message("mail", "b", "2")], commit_id="c1")

    assert drain(client) == ["a"]


def test_a_repeated_commit_does_nothing_after_its_tasks_have_run(client: Client) -> None:
    client.push_many([Message("mail", "a", "1")], commit_id="c1")
    client.ack(take(client))

    client.push_many([Message("mail", "a", "1")], commit_id="c1")

    assert client.len("mail") == 0
    assert client.stats("mail").pushed == 1


def test_commits_of_other_ids_are_not_held_back(client: Client) -> None:
    client.push_many([Message("mail", "a", "1")], commit_id="c1")
    client.push_many([Message("mail", "b", "2")], commit_id="c2")

    assert drain(client) == ["a", "b"]


@pytest.mark.parametrize("name", ["all", "a b", "ümläut ☃", "q:{1}", "*", "%s'\"; --", "x" * 200])
def test_a_queue_may_have_any_name(client: Client, name: str) -> None:
    push(client, "a", queue=name)

    assert client.queue_names() == [name]
    assert take(client, name).queue_name == name


@pytest.mark.parametrize(
    "data", ["", "ümläut ☃ 🐊", '"\\u0000"', "nul \0 byte", "x" * MAX_TASK_BYTES]
)
def test_data_comes_back_unchanged(client: Client, data: str) -> None:
    client.push_many([Message("mail", "ä:1 {x}", data)])

    lease = take(client)

    assert (lease.task_id, lease.data) == ("ä:1 {x}", data)


# Several pushes at once.


def test_of_several_commits_each_has_an_outcome_of_its_own(client: Client) -> None:
    given_up = [Message("mail", "b", "2")]
    client.abort("c2", given_up)

    first, second, third = client.push_commits(
        [
            Commit([Message("mail", "a", "1"), Message("print", "p", "3")], "c1"),
            Commit(given_up, "c2"),
            Commit([Message("mail", "c", "4")]),
        ]
    )

    assert first is third is None
    assert isinstance(second, BackendError)
    assert drain(client) == ["a", "c"]
    assert take(client, "print").task_id == "p"


def test_several_commits_that_are_repeated_are_not_doubled(client: Client) -> None:
    commits = [Commit([Message("mail", each, "{}")], each) for each in "abc"]
    client.push_commits(commits)

    errors = client.push_commits(commits)

    assert errors == [None, None, None]
    assert sorted(drain(client)) == ["a", "b", "c"]


# Undoing a push.


def test_an_undone_push_leaves_nothing(client: Client) -> None:
    messages = [Message("mail", "a", "1"), Message("print", "b", "2", HOUR)]
    client.push_many(messages, commit_id="c1")

    client.abort("c1", messages)

    assert (client.len("mail"), client.len("print")) == (0, 0)
    assert balance(client.stats("mail"))
    assert balance(client.stats("print"))


def test_a_push_that_arrives_after_it_was_undone_is_refused(client: Client) -> None:
    messages = [Message("mail", "a", "1")]
    client.abort("c1", messages)

    with pytest.raises(BackendError):
        client.push_many(messages, commit_id="c1")

    assert client.len("mail") == 0


def test_a_push_that_was_undone_is_refused_when_repeated(client: Client) -> None:
    messages = [Message("mail", "a", "1")]
    client.push_many(messages, commit_id="c1")
    client.abort("c1", messages)

    with pytest.raises(BackendError):
        client.push_many(messages, commit_id="c1")

    assert client.len("mail") == 0


def test_a_task_that_a_worker_has_stays_with_it_when_its_push_is_undone(client: Client) -> None:
    messages = [Message("mail", "a", "1"), Message("mail", "b", "2")]
    client.push_many(messages, commit_id="c1")
    lease = take(client)

    client.abort("c1", messages)

    assert client.stats("mail").leased == 1
    assert client.len("mail") == 0
    client.ack(lease)
    assert client.stats("mail").succeeded == 1
    assert balance(client.stats("mail"))


def test_undoing_one_push_leaves_the_tasks_of_others(client: Client) -> None:
    push(client, "a")
    client.push_many([Message("mail", "b", "2")], commit_id="c1")

    client.abort("c2", [Message("mail", "c", "3")])
    client.abort("c1", [Message("mail", "b", "2")])

    assert drain(client) == ["a"]


# Reserving.


def test_an_empty_queue_has_nothing_to_reserve(client: Client) -> None:
    step = client.step(["mail"], 5)

    assert not step.leases
    assert step.pause == inf


def test_a_lease_hides_the_task_from_others(connect: Connect) -> None:
    one, other = connect(), connect()
    push(one, "a")

    assert ids(one.reserve("mail")) == ["a"]
    assert not other.reserve("mail")


def test_no_more_than_the_limit_is_reserved(client: Client) -> None:
    push(client, "a", "b", "c")

    assert ids(client.reserve("mail", limit=2)) == ["a", "b"]
    assert ids(client.reserve("mail", limit=2)) == ["c"]


def test_a_limit_of_nothing_reserves_nothing(client: Client) -> None:
    push(client, "a")

    assert not client.step(["mail"], 0).leases
    assert client.stats("mail").ready == 1


def test_the_first_queue_goes_before_the_next(client: Client) -> None:
    push(client, "a", "b", queue="later")
    push(client, "c", queue="first")

    step = client.step(["first", "later"], 2)

    assert [(lease.queue_name, lease.task_id) for lease in step.leases] == [
        ("first", "c"),
        ("later", "a"),
    ]


def test_queues_that_were_not_asked_for_are_left_alone(client: Client) -> None:
    push(client, "a", queue="other")

    assert not client.step(["mail", "print"], 5).leases


def test_tokens_of_two_leases_of_a_task_differ(client: Client) -> None:
    push(client, "a")

    one = take(client, lease_for=AT_ONCE)
    two = take(client)

    assert one.token != two.token


def test_one_task_can_be_leased_by_its_id(client: Client) -> None:
    push(client, "a", "b")

    lease = client.lease("mail", "b")

    assert lease is not None
    assert (lease.queue_name, lease.task_id, lease.data) == ("mail", "b", "data of b")
    assert drain(client) == ["a"]
    client.ack(lease)
    assert client.stats("mail").succeeded == 1


def test_a_scheduled_task_can_be_leased_by_its_id(client: Client) -> None:
    push(client, "a", delay=HOUR)

    lease = client.lease("mail", "a")

    assert lease is not None
    stats = client.stats("mail")
    assert (stats.scheduled, stats.leased) == (0, 1)


def test_a_task_that_is_leased_or_dead_or_unknown_cannot_be_leased_by_its_id(
    client: Client,
) -> None:
    push(client, "leased", "dead")
    _, dead = client.reserve("mail", limit=2)
    client.dead_letter(dead, reason="no luck")

    assert client.lease("mail", "leased") is None
    assert client.lease("mail", "dead") is None
    assert client.lease("mail", "unknown") is None


# Settling.


def test_a_task_that_is_done_is_gone(client: Client) -> None:
    push(client, "a")

    client.ack(take(client, lease_for=HOUR))

    stats = client.stats("mail")
    assert (stats.pushed, stats.succeeded, stats.ready, stats.leased) == (1, 1, 0, 0)


def test_one_step_settles_before_it_reserves(client: Client) -> None:
    push(client, "a", "b")
    lease = take(client)

    step = client.step(["mail"], 5, outcomes=[Outcome("retry", lease)])

    assert sorted(ids(step.leases)) == ["a", "b"]


def test_outcomes_of_other_queues_are_settled_too(client: Client) -> None:
    push(client, "a", queue="print")
    lease = take(client, "print")

    client.step(["mail"], 1, outcomes=[Outcome("ack", lease)])

    assert client.stats("print").succeeded == 1


def test_one_step_takes_outcomes_of_every_kind(client: Client) -> None:
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


def test_a_failed_task_runs_again_with_its_new_data(client: Client) -> None:
    push(client, "a")

    client.nack(take(client), data="second try")

    lease = take(client)
    assert (lease.data, lease.lost) == ("second try", 0)
    assert client.stats("mail").retried == 1


def test_a_failed_task_keeps_its_data_when_no_other_is_given(client: Client) -> None:
    push(client, "a")

    client.nack(take(client))

    assert take(client).data == "data of a"


def test_a_failed_task_runs_again_after_its_delay(client: Client) -> None:
    push(client, "a")

    client.nack(take(client), delay=0.03)

    assert client.stats("mail").scheduled == 1
    assert not client.reserve("mail")
    assert becomes(lambda: ids(client.reserve("mail")) == ["a"])


def test_released_tasks_go_back_to_their_places(client: Client) -> None:
    push(client, "a", "b", "c", "d", "e")
    taken = client.reserve("mail", limit=4)

    client.step((), 0, outcomes=[Outcome("ack", taken[0])])
    client.step((), 0, outcomes=[Outcome("release", lease) for lease in taken[1:]])

    assert drain(client) == ["b", "c", "d", "e"]


def test_a_released_task_goes_back_as_it_was(client: Client) -> None:
    push(client, "a")

    client.release(take(client))

    lease = take(client)
    assert (lease.data, lease.lost) == ("data of a", 0)
    stats = client.stats("mail")
    assert (stats.retried, stats.lost) == (0, 0)


def test_an_outcome_counts_once(client: Client) -> None:
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


# Leases that end.


def test_a_task_whose_lease_ended_is_reserved_again_and_counted_lost(client: Client) -> None:
    push(client, "a")
    take(client, lease_for=AT_ONCE)

    lease = take(client)

    assert (lease.task_id, lease.data, lease.lost) == ("a", "data of a", 1)
    assert client.stats("mail").lost == 1


def test_a_lease_lasts_as_long_as_it_was_given_for(client: Client) -> None:
    push(client, "a")
    client.reserve("mail", lease_for=0.05)

    assert not client.reserve("mail")
    assert 0 < client.step(["mail"], 1).pause <= 0.05
    assert becomes(lambda: ids(client.reserve("mail")) == ["a"])


def test_a_task_that_was_lost_too_often_is_dead(client: Client) -> None:
    push(client, "a")

    found = [client.step(["mail"], 1, lease_for=AT_ONCE, max_lost=3).leases for _ in range(4)]

    assert [[lease.lost for lease in leases] for leases in found] == [[0], [1], [2], []]
    (letter,) = client.dead_letters("mail")
    assert (letter.task_id, letter.data) == ("a", "data of a")
    assert "lost 3 times" in letter.reason
    stats = client.stats("mail")
    assert (stats.dead, stats.lost) == (1, 3)
    assert balance(stats)


def test_leases_of_queues_that_were_not_asked_for_are_not_reclaimed(client: Client) -> None:
    push(client, "a")
    take(client, lease_for=AT_ONCE)

    client.step(["print"], 1)

    assert client.stats("mail").leased == 1


def test_an_ack_that_comes_late_is_honoured(client: Client) -> None:
    push(client, "a")
    late = take(client, lease_for=AT_ONCE)
    client.step(["mail", "print"], 1, lease_for=HOUR)

    client.ack(late)

    stats = client.stats("mail")
    assert (stats.succeeded, stats.leased, stats.ready) == (1, 0, 0)
    assert balance(stats)


def test_work_that_two_workers_have_done_counts_once(client: Client) -> None:
    push(client, "a")
    late = take(client, lease_for=AT_ONCE)
    current = take(client)

    client.ack(late)
    client.ack(current)

    stats = client.stats("mail")
    assert stats.succeeded == 1
    assert balance(stats)


@pytest.mark.parametrize("state", ["ready", "scheduled", "dead"])
def test_an_ack_that_comes_late_takes_the_task_from_wherever_it_is(
    client: Client, state: str
) -> None:
    push(client, "a")
    late = take(client, lease_for=AT_ONCE)
    current = take(client)
    if state == "dead":
        client.dead_letter(current, reason="no luck")
    else:
        client.nack(current, delay=HOUR if state == "scheduled" else 0)

    client.ack(late)

    stats = client.stats("mail")
    assert (stats.succeeded, getattr(stats, state)) == (1, 0)
    assert balance(stats)


@pytest.mark.parametrize("verdict", ["retry", "release", "dead"])
def test_who_lost_the_lease_to_another_cannot_move_the_task(client: Client, verdict: str) -> None:
    push(client, "a")
    late = take(client, lease_for=AT_ONCE)
    current = take(client)

    client.step((), 0, outcomes=[Outcome(verdict, late, 0.0, "other")])  # type: ignore[arg-type]

    stats = client.stats("mail")
    assert (stats.leased, stats.ready, stats.dead, stats.retried) == (1, 0, 0, 0)
    client.nack(current)
    assert take(client).data == "data of a"


@pytest.mark.parametrize("verdict", ["retry", "release", "dead"])
def test_a_lease_that_ended_and_was_not_taken_over_still_moves_the_task(
    client: Client, verdict: str
) -> None:
    push(client, "a")
    lease = take(client, lease_for=AT_ONCE)

    client.step((), 0, outcomes=[Outcome(verdict, lease)])  # type: ignore[arg-type]

    stats = client.stats("mail")
    assert (stats.leased, stats.lost) == (0, 0)
    assert stats.dead == (verdict == "dead")


def test_a_lease_can_be_extended(client: Client) -> None:
    push(client, "a")
    lease = take(client, lease_for=0.05)

    lost = client.extend([lease], HOUR)

    time.sleep(0.06)
    assert not lost
    assert not client.reserve("mail")


def test_extending_tells_which_leases_are_lost(client: Client) -> None:
    push(client, "a", "b", "c")
    done, passed_on, held = (take(client, lease_for=t) for t in (HOUR, AT_ONCE, HOUR))
    client.ack(done)
    take(client)

    lost = client.extend([done, passed_on, held], HOUR)

    assert lost == [done, passed_on]


def test_extending_nothing_loses_nothing(client: Client) -> None:
    assert client.extend([]) == []


# Time.


def test_a_scheduled_task_is_not_reserved_before_its_time(client: Client) -> None:
    push(client, "a", delay=HOUR)

    step = client.step(["mail"], 1)

    assert not step.leases
    assert HOUR - 10 < step.pause <= HOUR
    assert client.stats("mail").scheduled == 1


def test_a_scheduled_task_becomes_ready(client: Client) -> None:
    push(client, "a", delay=0.03)

    assert becomes(lambda: client.stats("mail").ready == 1)
    stats = client.stats("mail")
    assert stats.scheduled == 0
    assert ids(client.reserve("mail")) == ["a"]


def test_the_task_that_has_been_due_for_longest_goes_first(client: Client) -> None:
    push(client, "slow", delay=0.06)
    push(client, "quick", delay=0.02)
    time.sleep(0.03)
    push(client, "now")
    time.sleep(0.05)

    assert drain(client) == ["quick", "now", "slow"]


def test_a_moment_that_has_passed_is_now(client: Client) -> None:
    client.push("mail", "a", "1", delay_until=time.time() - HOUR)

    assert drain(client) == ["a"]


# Waiting.


def test_waiting_ends_when_the_time_is_up(client: Client) -> None:
    began = time.monotonic()

    client.wait(["mail"], 0.05)

    assert time.monotonic() - began < 5


def test_waiting_ends_at_once_when_a_task_is_ready(client: Client) -> None:
    push(client, "a")
    began = time.monotonic()

    client.wait(["mail"], 20)

    assert time.monotonic() - began < 5


def reserve_by_waiting(client: Client, queue: str = "mail", within: float = 20.0) -> str:
    end = time.monotonic() + within
    while time.monotonic() < end:
        step = client.step([queue], 1)
        if step.leases:
            return step.leases[0].task_id
        client.wait([queue], min(step.pause, max(0, end - time.monotonic())))
    raise TimeoutError


def reserved_at(client: Client) -> float:
    """Wait for a task and say when it was there."""
    reserve_by_waiting(client)
    return time.monotonic()


def test_waiting_ends_when_another_client_pushes(connect: Connect) -> None:
    worker, web = connect(), connect()
    took: list[float] = []

    with ThreadPoolExecutor() as pool:
        for task_id in "abc":
            found = pool.submit(reserved_at, worker)
            time.sleep(0.1)
            pushed = time.monotonic()
            push(web, task_id)
            took.append(found.result(20) - pushed)

    assert min(took) < 0.8  # other work of the machine can only add to it


def test_waiting_ends_when_the_same_client_pushes_in_another_thread(client: Client) -> None:
    with elsewhere(lambda: reserve_by_waiting(client)):
        time.sleep(0.05)
        push(client, "a")

    assert client.stats("mail").leased == 1


def test_no_push_is_missed_between_a_step_and_the_wait(connect: Connect) -> None:
    worker, web = connect(), connect()

    for n in range(30):
        assert not worker.step(["mail"], 1).leases
        push(web, f"t{n}")
        began = time.monotonic()
        worker.wait(["mail"], 20)

        assert time.monotonic() - began < 5
        client_took = worker.reserve("mail")
        assert ids(client_took) == [f"t{n}"]


def test_a_push_reaches_who_waits_for_its_queue(connect: Connect) -> None:
    mail, other, web = connect(), connect(), connect()
    took: list[float] = []

    with ThreadPoolExecutor() as pool:
        for task_id in "abc":
            waiting = pool.submit(other.wait, ["print"], 3)
            found = pool.submit(reserved_at, mail)
            time.sleep(0.1)
            pushed = time.monotonic()
            push(web, task_id)
            took.append(found.result(20) - pushed)
            push(web, task_id + "2", queue="print")
            waiting.result(20)
            assert reserve_by_waiting(other, "print")

    assert min(took) < 0.8


def test_several_pushes_reach_several_who_wait(connect: Connect) -> None:
    workers, web = [connect() for _ in range(4)], connect()

    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(reserve_by_waiting, worker) for worker in workers]
        time.sleep(0.1)
        began = time.monotonic()
        push(web, "a", "b", "c", "d")
        taken = sorted(future.result(20) for future in found)

    assert taken == ["a", "b", "c", "d"]
    assert time.monotonic() - began < 10  # of the twenty that they would wait


def test_waiting_ends_when_a_scheduled_task_is_due(connect: Connect) -> None:
    worker, web = connect(), connect()

    with elsewhere(lambda: reserve_by_waiting(worker)):
        time.sleep(0.05)
        began = time.monotonic()
        push(web, "a", delay=0.1)

    assert 0.09 < time.monotonic() - began < 10


def test_an_interrupt_ends_the_waits_of_all_threads(client: Client) -> None:
    began = time.monotonic()

    with elsewhere(lambda: client.wait(["mail"], 20)), elsewhere(lambda: client.wait(["x"], 20)):
        time.sleep(0.1)
        client.interrupt()

    assert time.monotonic() - began < 5


def test_an_interrupt_ends_the_next_wait_too(client: Client) -> None:
    began = time.monotonic()

    client.interrupt()
    client.wait(["mail"], 20)

    assert time.monotonic() - began < 5


def test_a_wait_after_an_interrupted_one_waits(client: Client) -> None:
    client.interrupt()
    client.wait(["mail"], 20)
    began = time.monotonic()

    client.wait(["mail"], 0.1)

    assert time.monotonic() - began > 0.05


def test_waiting_then_stepping_reserves_what_comes_meanwhile(client: Client) -> None:
    found: list[Step] = []

    with elsewhere(lambda: found.append(client.wait_then_step(["mail"], 20, 1))):
        time.sleep(0.1)
        push(client, "a")

    assert [ids(step.leases) for step in found] == [["a"]]


def test_waiting_then_stepping_tells_how_long_there_is_nothing(client: Client) -> None:
    push(client, "a", delay=30)

    step = client.wait_then_step(["mail"], 0.01, 1)

    assert not step.leases
    assert step.pause > 20


def test_an_interrupt_ends_a_wait_before_a_step(client: Client) -> None:
    began = time.monotonic()

    with elsewhere(lambda: client.wait_then_step(["mail"], 60, 1)):
        time.sleep(0.1)
        client.interrupt()

    assert time.monotonic() - began < 20


def test_waiting_costs_no_time_of_the_processor(client: Client) -> None:
    client.wait(["mail"], 0.01)
    push(client, "a", "b")
    drain(client)
    spent = time.process_time()

    client.wait(["mail"], 1.0)

    assert time.process_time() - spent < 0.25


# Taking off, dropping, and the calls of Alligator 1.0.


@pytest.mark.parametrize("delay", [0.0, HOUR])
def test_a_task_that_waits_can_be_canceled(client: Client, delay: float) -> None:
    push(client, "a", "b", delay=delay)

    assert client.cancel("mail", "a") == "data of a"
    assert client.cancel("mail", "a") is None
    assert client.len("mail") == 1
    stats = client.stats("mail")
    assert stats.canceled == 1
    assert balance(stats)


def test_a_task_that_is_leased_or_dead_or_unknown_cannot_be_canceled(client: Client) -> None:
    push(client, "leased", "dead")
    _, dead = client.reserve("mail", limit=2)
    client.dead_letter(dead, reason="no luck")

    assert client.cancel("mail", "leased") is None
    assert client.cancel("mail", "dead") is None
    assert client.cancel("mail", "unknown") is None
    assert client.stats("mail").canceled == 0


def test_dropping_all_spares_what_is_leased_or_dead(client: Client) -> None:
    push(client, "leased", "dead")
    _, dead = client.reserve("mail", limit=2)
    client.dead_letter(dead, reason="no luck")
    push(client, "ready")
    push(client, "scheduled", delay=HOUR)
    push(client, "elsewhere", queue="print")

    client.drop_all("mail")

    stats = client.stats("mail")
    assert (stats.ready, stats.scheduled, stats.leased, stats.dead) == (0, 0, 1, 1)
    assert stats.dropped == 2
    assert balance(stats)
    assert client.len("print") == 1


def test_a_push_gives_back_the_id(client: Client) -> None:
    assert client.push("mail", "a", "1") == "a"
    assert client.push("mail", "b", "2", time.time() + HOUR) == "b"

    stats = client.stats("mail")
    assert (stats.ready, stats.scheduled) == (1, 1)


def test_a_popped_task_is_gone(client: Client) -> None:
    push(client, "a")

    assert client.pop("mail") == "data of a"
    assert client.pop("mail") is None
    assert client.stats("mail").leased == 0


def test_a_task_that_was_got_by_its_id_is_gone(client: Client) -> None:
    push(client, "a", "b")

    assert client.get("mail", "b") == "data of b"
    assert client.get("mail", "b") is None
    assert drain(client) == ["a"]


# What is to come.


def test_scheduled_tasks_are_listed_the_next_first(client: Client) -> None:
    push(client, "ready")
    push(client, "last", delay=3 * HOUR)
    push(client, "next", delay=HOUR)
    push(client, "then", delay=2 * HOUR)
    push(client, "elsewhere", queue="print", delay=HOUR)

    tasks = client.scheduled("mail")

    assert [task.task_id for task in tasks] == ["next", "then", "last"]
    assert (tasks[0].queue_name, tasks[0].data) == ("mail", "data of next")
    assert 0 <= HOUR - tasks[0].due_in < 60
    assert [task.task_id for task in client.scheduled("mail", limit=2)] == ["next", "then"]
    assert client.scheduled("mail", limit=0) == client.scheduled("unknown") == []


def test_a_task_that_is_no_longer_scheduled_is_not_listed(client: Client) -> None:
    push(client, "canceled", "leased", "stays", delay=HOUR)

    client.cancel("mail", "canceled")
    client.lease("mail", "leased")

    assert [task.task_id for task in client.scheduled("mail")] == ["stays"]


# Dead letters.


def test_a_dead_letter_says_why(client: Client) -> None:
    push(client, "a")

    client.dead_letter(take(client), reason="ValueError: ☃", traceback="Traceback …\n  line")

    (letter,) = client.dead_letters("mail")
    assert (letter.queue_name, letter.task_id, letter.data) == ("mail", "a", "data of a")
    assert (letter.reason, letter.traceback) == ("ValueError: ☃", "Traceback …\n  line")
    assert abs(time.time() - letter.died_at) < 60
    assert not client.reserve("mail")


def test_the_latest_dead_letter_comes_first(client: Client) -> None:
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


def test_of_too_many_dead_letters_the_oldest_are_dropped(client: Client) -> None:
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


def test_dead_letters_of_long_ago_are_dropped_when_another_comes(client: Client) -> None:
    die(client, "a", "b", "c")

    client.dead_seconds = 0.001
    die(client, "d")
    assert [letter.task_id for letter in client.dead_letters("mail")] == ["d", "c"]
    client.dead_seconds = HOUR
    die(client, "e")

    assert [letter.task_id for letter in client.dead_letters("mail")] == ["e", "d", "c"]
    assert client.stats("mail").dropped == 2
    assert balance(client.stats("mail"))


def test_a_limit_of_dead_letters_that_was_lowered_is_reached_little_by_little(
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


def test_a_dead_task_can_be_made_ready_again(client: Client) -> None:
    push(client, "a")
    for _ in range(3):
        client.step(["mail"], 1, lease_for=AT_ONCE, max_lost=2)

    assert client.retry_dead("mail", "a")
    assert not client.retry_dead("mail", "a")
    assert client.dead_letters("mail") == []
    lease = take(client)
    assert (lease.data, lease.lost) == ("data of a", 0)
    assert balance(client.stats("mail"))


def test_who_had_a_task_before_it_died_cannot_move_it_after(client: Client) -> None:
    push(client, "a")
    late = take(client, lease_for=AT_ONCE)
    client.dead_letter(take(client), reason="no luck")
    client.retry_dead("mail", "a")
    take(client)

    client.nack(late, data="other")

    assert client.stats("mail").leased == 1


def test_a_dead_task_can_be_dropped(client: Client) -> None:
    push(client, "a")
    client.dead_letter(take(client), reason="no luck")

    assert client.drop_dead("mail", "a")
    assert not client.drop_dead("mail", "a")
    assert not client.retry_dead("mail", "a")
    stats = client.stats("mail")
    assert (stats.dead, stats.dropped) == (0, 1)
    assert balance(stats)


def test_only_the_dead_can_be_dropped_as_dead(client: Client) -> None:
    push(client, "a")

    assert not client.drop_dead("mail", "a")
    assert not client.retry_dead("mail", "a")
    assert client.len("mail") == 1


# Measuring.


def test_a_queue_that_nobody_used_is_empty(client: Client) -> None:
    assert client.stats("mail") == QueueStats()
    assert client.len("mail") == 0
    assert client.queue_names() == []
    assert client.dead_letters("mail") == []


def test_the_length_counts_what_waits(client: Client) -> None:
    push(client, "a", "b")
    push(client, "c", delay=HOUR)
    take(client)

    assert client.len("mail") == 2


def test_queues_are_named_in_order_even_when_they_are_empty_again(client: Client) -> None:
    for name in ("print", "mail"):
        push(client, "a", queue=name)
    client.ack(take(client, "mail"))

    assert client.queue_names() == ["mail", "print"]


def test_the_age_is_that_of_the_oldest_ready_task(client: Client) -> None:
    push(client, "future", delay=HOUR)
    assert client.stats("mail").oldest == 0
    push(client, "a")
    time.sleep(0.05)
    push(client, "b")

    before, then = client.stats("mail").oldest, time.monotonic()
    assert 0.04 < before < 10
    take(client)
    assert client.stats("mail").oldest - (time.monotonic() - then) < before - 0.04


def test_a_scheduled_task_ages_from_when_it_was_due(client: Client) -> None:
    push(client, "a", delay=0.02)
    time.sleep(0.06)

    assert 0.03 < client.stats("mail").oldest < 10


# Workers.


def test_a_worker_that_gives_a_sign_of_life_is_listed(client: Client) -> None:
    client.beat(WorkerInfo(name="host-1-x", started_at=1234.5), HOUR)

    (found,) = client.workers()
    assert (found.name, found.started_at) == ("host-1-x", 1234.5)
    assert 0 <= found.seen_ago < 10


def test_a_worker_is_listed_once_with_what_it_said_last(client: Client) -> None:
    client.beat(WorkerInfo(name="w", queues=["a"]), HOUR)
    client.beat(WorkerInfo(name="w", queues=["b"]), HOUR)

    assert [[*worker.queues] for worker in client.workers()] == [["b"]]


def test_a_worker_that_says_goodbye_is_forgotten(client: Client) -> None:
    client.beat(WorkerInfo(name="stays"), HOUR)
    client.beat(WorkerInfo(name="goes"), HOUR)

    client.beat(WorkerInfo(name="goes"), 0)

    assert [worker.name for worker in client.workers()] == ["stays"]


def test_a_silent_worker_is_forgotten(client: Client) -> None:
    client.beat(WorkerInfo(name="w"), 0.05)

    assert becomes(lambda: not client.workers())


# Threads, forks, processes.


def test_eight_threads_reserve_every_task_once(client: Client) -> None:
    push(client, *(f"t{n}" for n in range(200)))

    def work() -> list[str]:
        done: list[str] = []
        outcomes: list[Outcome] = []
        while leases := client.step(["mail"], 3, outcomes=outcomes).leases:
            done += ids(leases)
            outcomes = [Outcome("ack", lease) for lease in leases]
        client.step((), 0, outcomes=outcomes)
        return done

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(work) for _ in range(8)]
        runs = Counter(task_id for future in futures for task_id in future.result())

    assert len(runs) == 200
    assert set(runs.values()) == {1}
    assert client.stats("mail").succeeded == 200


def test_many_threads_push_at_once(client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: push(client, f"t{n}"), range(100)))

    assert sorted(drain(client)) == sorted(f"t{n}" for n in range(100))


def test_a_repeated_commit_from_several_threads_is_queued_once(client: Client) -> None:
    def commit(n: int) -> None:
        client.push_many([Message("mail", f"t{n}", "1")], commit_id="c1")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(commit, range(16)))

    assert client.len("mail") == 1


def test_a_closed_client_opens_again(client: Client) -> None:
    push(client, "a")
    client.close()

    assert take(client).task_id == "a"


def test_a_forked_child_and_its_parent_go_on(shared_dsn: str, client: Client) -> None:
    push(client, "before")
    client.wait(["mail"], 0.01)

    child = os.fork()
    if not child:
        code = 1
        with suppress(BaseException):
            push(client, *(f"child {n}" for n in range(50)))
            client.wait(["mail"], 1)
            code = len(client.reserve("mail")) != 1
            client.close()
        os._exit(code)
    for n in range(50):
        push(client, f"parent {n}")
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert client.stats("mail").pushed == 101
    assert len(drain(client)) == 100


CHILD = """
import time, sys
from alligator.backends import open_client
from alligator.backends.base import Message, Outcome

client = open_client(sys.argv[1])
"""


def start(code: str, dsn: str) -> "subprocess.Popen[str]":
    root = Path(__file__).parents[2]
    # An older botocore calls it, of which Python warns since 3.12.
    warnings = ["-W", "error", "-W", "ignore:datetime.datetime.utcnow"]
    return subprocess.Popen(
        [sys.executable, *warnings, "-c", CHILD + code, dsn],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    )


def test_a_process_that_waits_is_woken_by_the_push_of_another(
    shared_dsn: str, client: Client
) -> None:
    worker = start(
        """
for _ in range(3):
    while not client.step(["ready"], 1).leases:
        print("waiting", flush=True)
        client.wait(["ready"], 20)
    print(time.time(), flush=True)
client.close()
""",
        shared_dsn,
    )
    took: list[float] = []
    with worker:
        assert worker.stdout is not None
        for task_id in "abc":
            assert worker.stdout.readline() == "waiting\n"
            time.sleep(0.2)
            pushed = time.time()
            push(client, task_id, queue="ready")
            while (line := worker.stdout.readline()) == "waiting\n":
                pass
            took.append(float(line) - pushed)

    assert min(took) < 0.8


def test_several_processes_run_every_task_once(shared_dsn: str, client: Client) -> None:
    push(client, *(f"t{n}" for n in range(200)))
    code = """
outcomes = []
while leases := client.step(["mail"], 3, outcomes=outcomes).leases:
    outcomes = [Outcome("ack", lease) for lease in leases]
    print(*(lease.task_id for lease in leases), sep="\\n", flush=True)
client.step((), 0, outcomes=outcomes)
client.close()
"""

    workers = [start(code, shared_dsn) for _ in range(3)]
    runs = Counter(line for worker in workers for line in worker.communicate(timeout=30)[0].split())

    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert len(runs) == 200
    assert set(runs.values()) == {1}
    assert client.stats("mail").succeeded == 200
