"""The contract of stores that keep limit keys: fair turns between the keys of a queue, their limits."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from threading import Lock

import pytest

from alligator.backends.base import Canceled, Client, Limit, Message, Outcome, Verdict
from alligator.backends.limits import EACH
from tests.backends.contract.test_limits import OUTCOMES, step_often, wait_and_reserve
from tests.harness.contract import AT_ONCE, HOUR, Connect, balance, drain, ids, push, take
from tests.harness.cpu_time import process_rests

ONE = Limit(at_once=1)
TWO = Limit(at_once=2)
ONE_AN_HOUR = Limit(starts=1, seconds=HOUR)
TWO_AN_HOUR = Limit(starts=2, seconds=HOUR)


@pytest.fixture(autouse=True)
def _keeps_limit_keys(client: Client) -> None:
    if not client.keeps_limit_keys:
        pytest.skip("the store keeps no limit keys")


def message(task_id: str, delay: float = 0.0, priority: int = 0, queue: str = "mail") -> Message:
    """Return a task whose key is the letter its id begins with; none if it begins with a digit."""
    key = task_id[0] if task_id[0].isalpha() else None
    return Message(queue, task_id, f"data of {task_id}", delay, priority, limit_key=key)


def enqueue(client: Client, *task_ids: str, delay: float = 0.0, priority: int = 0) -> None:
    client.push_many([message(task_id, delay, priority) for task_id in task_ids])


def one_by_one(client: Client, times: int) -> list[str]:
    """Reserve with so many steps of one task each, and return the ids in order."""
    return [each for _ in range(times) for each in ids(client.step(["mail"], 1).leases)]


def test_keys_of_a_queue_take_turns(client: Client) -> None:
    enqueue(client, *(f"a{n}" for n in range(6)), "b0", "b1", "c0")

    assert drain(client) == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4", "a5"]
    assert client.stats("mail").leased == 9


def test_key_with_many_tasks_is_served_to_its_last_one(client: Client) -> None:
    many = [f"a{n}" for n in range(40)]
    enqueue(client, *many, "b0", "b1", "b2", "c0")

    found = [ids(client.step(["mail"], 10).leases) for _ in range(5)]

    assert found[0] == ["a0", "b0", "c0", "a1", "b1", "a2", "b2", "a3", "a4", "a5"]
    assert [len(each) for each in found] == [10, 10, 10, 10, 4]
    assert [each for each in chain(*found) if each[0] == "a"] == many
    assert not client.step(["mail"], 1).leases


def test_turns_go_on_from_step_to_step(client: Client) -> None:
    enqueue(client, *(f"a{n}" for n in range(6)), "b0", "b1", "c0")

    found = [ids(client.step(["mail"], number).leases) for number in (1, 3, 2, 9)]

    assert found == [["a0"], ["b0", "c0", "a1"], ["b1", "a2"], ["a3", "a4", "a5"]]


def test_steps_of_one_task_go_on_with_the_next_key(client: Client) -> None:
    enqueue(client, *(f"a{n}" for n in range(4)), "b0", "b1", "c0")
    enqueue(client, "b2", priority=1)

    assert one_by_one(client, 9) == ["b2", "a0", "b0", "c0", "a1", "b1", "a2", "a3"]


def test_step_of_one_task_passes_over_a_key_without_a_due_task(client: Client) -> None:
    enqueue(client, "a0", "b0")
    enqueue(client, "a1", delay=HOUR)
    client.cancel("mail", "a0")

    assert one_by_one(client, 2) == ["b0"]


def test_step_of_one_task_passes_over_a_key_whose_limit_is_reached(client: Client) -> None:
    enqueue(client, "a0", "a1", "b0")
    client.limit("mail", ONE, "a")
    lease = client.lease("mail", "a1")

    assert one_by_one(client, 2) == ["b0"]
    assert lease is not None
    client.ack(lease)
    assert one_by_one(client, 2) == ["a0"]


def test_tasks_without_a_key_have_turns_like_one_key(client: Client) -> None:
    push(client, *"0123")
    enqueue(client, "a0", "a1", "b0")
    push(client, "4")

    assert drain(client) == ["0", "a0", "b0", "1", "a1", "2", "3", "4"]


def test_tasks_without_a_key_are_not_held_up(client: Client) -> None:
    enqueue(client, *(f"a{n}" for n in range(9)))
    assert ids(client.step(["mail"], 3).leases) == ["a0", "a1", "a2"]

    push(client, *"01")

    assert set(ids(client.step(["mail"], 2).leases)) == {"0", "a3"}
    assert set(ids(client.step(["mail"], 2).leases)) == {"1", "a4"}


def test_turns_of_tasks_without_a_key_go_on_from_step_to_step(client: Client) -> None:
    push(client, *"012")
    enqueue(client, "a0", "a1")

    found = [ids(client.step(["mail"], 1).leases) for _ in range(5)]

    assert found == [["0"], ["a0"], ["1"], ["a1"], ["2"]]


def test_tasks_without_a_key_have_one_turn_before_a_later_key(client: Client) -> None:
    client.limit("mail", Limit(at_once=1), limit_key=EACH)
    client.push_many([Message("mail", f"{key}1", "", 0.0, 1, limit_key=key) for key in "zx"])
    client.push_many([Message("mail", f"{key}0", "", limit_key=key) for key in "zxy"])
    push(client, "0", "1")

    found = [*ids(client.step(["mail"], 3).leases), *ids(client.step(["mail"], 2).leases)]

    assert sorted(found[:2]) == ["x1", "z1"]
    assert sorted(found[2:4]) == ["0", "y0"]
    assert found[4:] == ["1"]


def test_new_key_waits_for_one_turn_of_each_other(client: Client) -> None:
    enqueue(client, *(f"{key}{n}" for key in "ab" for n in range(5)))
    assert ids(client.step(["mail"], 1).leases) == ["a0"]

    enqueue(client, "c0", "c1")

    # Where a new key begins among the others is the store's affair, but it has its turn in each round.
    found = drain(client)
    assert found[0] == "b0"
    assert {*found[:3]} == {"b0", "a1", "c0"}
    assert {*found[3:6]} == {"b1", "a2", "c1"}


def test_key_keeps_the_order_of_its_tasks(client: Client) -> None:
    for n in range(3):
        enqueue(client, f"a{n}", f"b{n}")

    assert drain(client) == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_highest_priority_goes_first_whatever_the_keys(client: Client) -> None:
    enqueue(client, "a0", "b0", priority=-1)
    enqueue(client, "a1", "a2", "b1")
    push(client, "1")
    enqueue(client, "a3", "a4", "c0", priority=1)
    client.push_many([Message("mail", "0", "", 0.0, 1)])

    found = drain(client)

    assert sorted(found[:4]) == ["0", "a3", "a4", "c0"]
    assert sorted(found[4:8]) == ["1", "a1", "a2", "b1"]
    assert found[8:] == ["a0", "b0"]
    assert found.index("a4") == 3
    assert found.index("a2") == 7


def test_queues_go_in_order_whatever_the_keys(client: Client) -> None:
    enqueue(client, "a0", "b0", "a1")
    client.push_many([message("a2", queue="print"), Message("print", "0", "")])

    assert ids(client.step(["print", "mail"], 9).leases) == ["0", "a2", "a0", "b0", "a1"]


def test_scheduled_task_joins_its_line_when_it_is_due(client: Client) -> None:
    enqueue(client, "b8", delay=HOUR)
    enqueue(client, "a0", "a1", "b0")
    assert client.stats("mail").scheduled == 1
    assert drain(client) == ["a0", "b0", "a1"]

    enqueue(client, "a9", delay=0.3)

    assert wait_and_reserve(client, 30).task_id == "a9"


def test_scheduled_task_behind_a_ready_one_waits_for_its_time(client: Client) -> None:
    enqueue(client, "a0")
    enqueue(client, "a9", delay=0.3)

    found = [wait_and_reserve(client, 10).task_id for _ in range(2)]

    assert found == ["a0", "a9"]


@pytest.mark.parametrize("verdict", ["retry", "release"])
def test_task_returns_to_its_line(client: Client, verdict: Verdict) -> None:
    enqueue(client, "a0", "a1", "a2", "b0", "b1")
    lease = take(client)

    client.step((), 0, outcomes=[Outcome(verdict, lease)])

    found = drain(client)
    assert [each[0] for each in found] == ["b", "a", "b", "a", "a"]
    assert found[1] == ("a0" if verdict == "release" else "a1")


def test_released_tasks_take_turns_when_they_are_due(client: Client) -> None:
    enqueue(client, "a0", "a1", "b0")
    for lease in client.reserve("mail", limit=3):
        client.step((), 0, outcomes=[Outcome("retry", lease, 0.01)])
    time.sleep(0.02)

    found = [each[0] for each in drain(client)]
    assert {*found[:2]} == {"a", "b"}
    assert found[2] == "a"


def test_lost_task_is_ready_again_and_alone(client: Client) -> None:
    enqueue(client, "a0")
    take(client, lease_for=AT_ONCE)
    enqueue(client, "b0", "b1")

    found = [ids(client.step(["mail"], 5).leases) for _ in range(3)]

    assert ["a0"] in found
    assert sorted(chain(*found)) == ["a0", "b0", "b1"]


def test_suspect_of_a_line_is_not_the_last_task_of_a_step(client: Client) -> None:
    enqueue(client, "a0")
    take(client, lease_for=AT_ONCE)
    push(client, "x", queue="print")

    assert ids(client.step(["print", "mail"], 2).leases) == ["x"]
    assert ids(client.step(["print", "mail"], 2).leases) == ["a0"]


def test_suspect_whose_turn_is_after_the_last_holds_up_no_other_queue(client: Client) -> None:
    push(client, "lost")
    take(client, lease_for=AT_ONCE)
    client.limit("mail", Limit(at_once=2))
    client.push_many([Message("mail", "a", "", limit_key="y")])
    lost = take(client)  # the tasks without a key have had a turn
    client.step((), 0, outcomes=[Outcome("retry", lost)])
    push(client, "x", queue="print")

    assert ids(client.step(["mail", "print"], 5).leases) == ["a", "x"]
    assert ids(client.step(["mail", "print"], 5).leases) == ["lost"]


def test_tasks_with_keys_are_counted_listed_and_found(client: Client) -> None:
    enqueue(client, "a0", "a1", "a2", "b0")
    enqueue(client, "a3", delay=HOUR)
    enqueue(client, "a4", priority=1)
    time.sleep(0.01)

    stats = client.stats("mail")
    assert (stats.ready, stats.scheduled, client.len("mail")) == (5, 1, 6)
    assert 0.01 <= stats.oldest < 60
    assert [each.task_id for each in client.scheduled("mail")] == ["a3"]
    found = {each.task_id: each.state for each in client.peek("mail")}
    assert found == {**dict.fromkeys(["a0", "a1", "a2", "a4", "b0"], "ready"), "a3": "scheduled"}


def test_id_that_waits_in_a_line_is_a_duplicate(client: Client) -> None:
    enqueue(client, "a0", "a1")

    assert client.push_many([message("a1"), message("a2")]) == [0]
    assert drain(client) == ["a0", "a1", "a2"]


def test_tasks_of_a_line_are_canceled_and_leased_by_their_id(client: Client) -> None:
    enqueue(client, "a0", "a1", "a2", "b0")

    assert client.cancel("mail", "a0") == Canceled("data of a0")
    assert client.cancel("mail", "b0") == Canceled("data of b0")
    lease = client.lease("mail", "a1")

    assert lease is not None
    assert drain(client) == ["a2"]
    client.release(lease)
    assert drain(client) == ["a1"]
    assert balance(client.stats("mail"))


def test_line_whose_tasks_were_canceled_ends_no_wait(client: Client) -> None:
    enqueue(client, "a0", "b0")
    client.cancel("mail", "a0")
    client.cancel("mail", "b0")

    assert not client.step(["mail"], 1).leases
    assert client.step(["mail"], 1).pause > HOUR


def test_dropped_tasks_leave_their_lines(client: Client) -> None:
    enqueue(client, "a0", "a1", "b0")
    enqueue(client, "a2", delay=HOUR)

    client.drop_all("mail")

    assert drain(client) == []
    assert client.len("mail") == 0
    enqueue(client, "a4", "b1", "a3")
    assert drain(client) == ["a4", "b1", "a3"]
    assert balance(client.stats("mail"))


def test_aborted_tasks_leave_their_lines(client: Client) -> None:
    enqueue(client, "a0")
    messages = [message("a1"), message("b0"), message("a2", HOUR)]
    client.push_many(messages, commit_id="c")

    client.abort("c", messages)

    assert drain(client) == ["a0"]
    assert client.len("mail") == 0


def test_dead_task_keeps_its_key(client: Client) -> None:
    enqueue(client, "a0", "a1")
    client.limit("mail", ONE, "a")
    client.dead_letter(take(client), reason="no luck")

    assert client.retry_dead("mail", "a0")

    assert len(step_often(client)) == 1


def test_every_dead_task_that_is_retried_has_its_turn(client: Client) -> None:
    # Several, because a wrong turn may depend on microseconds.
    names = [f"a{number}" for number in range(20)]
    enqueue(client, *names)
    for lease in [take(client) for _ in names]:
        client.step((), 0, outcomes=[Outcome("dead", lease, reason="no luck")])

    for name in names:
        assert client.retry_dead("mail", name)
        assert ids(client.step(["mail"], 5).leases) == [name]


def test_follow_up_keeps_its_key(client: Client) -> None:
    if not client.keeps_follow_ups:
        pytest.skip("the store keeps no follow-ups")
    then = Message("mail", "a9", "", follows=True, limit_key="a")
    client.push_many([message("0"), then])
    client.ack(take(client))
    enqueue(client, "a1")
    client.limit("mail", ONE, "a")

    assert step_often(client) == ["a9"]


def test_no_more_tasks_of_a_key_run_at_once_than_its_limit(client: Client) -> None:
    enqueue(client, "a0", "a1", "a2", "b0", "b1")
    push(client, "0")

    client.limit("mail", TWO, "a")

    assert step_often(client) == ["0", "a0", "b0", "b1", "a1"]
    assert client.stats("mail").ready == 1


def test_limit_of_a_key_counts_the_leases_before_it(client: Client) -> None:
    enqueue(client, "a0", "a1", "a2")
    lease, _ = client.step(["mail"], 2).leases

    client.limit("mail", TWO, EACH)

    assert step_often(client) == []
    client.ack(lease)
    assert step_often(client) == ["a2"]


def test_step_reserves_one_task_of_a_key_with_a_limit(client: Client) -> None:
    enqueue(client, "a0", "a1", "b0", "b1")
    client.limit("mail", TWO, "a")

    assert ids(client.step(["mail"], 9).leases) == ["a0", "b0", "b1"]
    assert ids(client.step(["mail"], 9).leases) == ["a1"]


def test_step_reserves_one_task_of_a_key_whatever_its_priority(client: Client) -> None:
    enqueue(client, "a0", "b0")
    enqueue(client, "a1", priority=1)
    client.limit("mail", TWO, "a")

    assert ids(client.step(["mail"], 9).leases) == ["a1", "b0"]
    assert ids(client.step(["mail"], 9).leases) == ["a0"]


def test_limit_of_a_key_counts_the_leases_that_there_are(client: Client) -> None:
    enqueue(client, "a0", "a1", "a2", "b0")
    assert ids(client.step(["mail"], 2).leases) == ["a0", "b0"]

    client.limit("mail", TWO, "a")

    assert step_often(client) == ["a1"]


def test_limit_of_each_key_is_for_those_without_one_of_their_own(client: Client) -> None:
    enqueue(client, *(f"{key}{n}" for key in "abc" for n in range(4)))
    push(client, *"0123")
    client.limit("mail", ONE, EACH)
    client.limit("mail", TWO, "b")

    found = step_often(client)
    assert sorted(found) == ["0", "1", "2", "3", "a0", "b0", "b1", "c0"]
    client.limit("mail", None, "b")
    assert step_often(client) == []
    client.limit("mail", None, EACH)
    assert sorted(step_often(client)) == ["a1", "a2", "a3", "b2", "b3", "c1", "c2", "c3"]


def test_limit_of_a_key_holds_for_one_queue(client: Client) -> None:
    enqueue(client, "a0", "a1")
    client.push_many([message("a2", queue="print"), message("a3", queue="print")])

    client.limit("mail", ONE, "a")

    assert step_often(client) == ["a0"]
    assert step_often(client, "print") == ["a2", "a3"]


@pytest.mark.parametrize("verdict", OUTCOMES)
def test_every_outcome_frees_a_place_of_its_key(client: Client, verdict: Verdict) -> None:
    enqueue(client, "a0", "a1")
    client.limit("mail", ONE, "a")
    lease = take(client)
    assert step_often(client) == []

    delay = HOUR if verdict in ("retry", "release") else 0.0
    step = client.step(["mail"], 5, outcomes=[Outcome(verdict, lease, delay)])

    assert ids(step.leases) == ["a1"]
    assert balance(client.stats("mail"))


def test_place_of_a_key_is_free_when_the_lease_of_a_lost_worker_ends(client: Client) -> None:
    enqueue(client, "a0", "a1")
    client.limit("mail", ONE, "a")
    lease = take(client)
    assert step_often(client) == []

    client.extend([lease], AT_ONCE)

    assert len(step_often(client)) == 1
    assert client.stats("mail").leased == 1


def test_canceled_lease_frees_a_place_of_its_key(client: Client) -> None:
    enqueue(client, "a0", "a1")
    client.limit("mail", ONE, "a")
    take(client)
    assert step_often(client) == []

    assert client.cancel("mail", "a0") == Canceled("data of a0", was_leased=True)

    assert step_often(client) == ["a1"]
    assert balance(client.stats("mail"))


def test_late_ack_frees_the_place_of_a_key(client: Client) -> None:
    enqueue(client, "a0")
    client.limit("mail", ONE, "a")
    late = take(client, lease_for=AT_ONCE)
    assert step_often(client) == ["a0"]
    enqueue(client, "a1")
    assert step_often(client) == []

    client.ack(late)

    assert step_often(client) == ["a1"]


def test_no_more_tasks_of_a_key_begin_than_its_limit(client: Client) -> None:
    enqueue(client, "a0", "a1", "a2", "b0")
    client.limit("mail", TWO_AN_HOUR, "a")

    for task_id in ("a0", "b0", "a1"):
        lease = take(client)
        assert lease.task_id == task_id
        client.ack(lease)

    step = client.step(["mail"], 1)
    assert not step.leases
    assert HOUR - 60 < step.pause <= HOUR


def test_start_of_a_key_is_free_when_its_time_is_over(client: Client) -> None:
    enqueue(client, *(f"{key}{n}" for key in "ab" for n in range(3)))
    client.limit("mail", Limit(starts=1, seconds=0.6), EACH)
    asked: dict[str, list[float]] = {"a": [], "b": []}
    replied: dict[str, list[float]] = {"a": [], "b": []}

    while len(asked["a"]) + len(asked["b"]) < 6:
        now = time.monotonic()
        step = client.step(["mail"], 5)
        for lease in step.leases:
            asked[lease.task_id[0]].append(now)
            replied[lease.task_id[0]].append(time.monotonic())
        client.wait(["mail"], min(step.pause, 5))

    # Each task has begun between the two.
    for key in "ab":
        spans = [end - start for start, end in zip(asked[key], replied[key][1:], strict=False)]
        assert min(spans) >= 0.6


def test_starts_of_a_key_are_remembered_whatever_its_limit_becomes(client: Client) -> None:
    enqueue(client, *(f"a{n}" for n in range(5)))
    client.limit("mail", TWO_AN_HOUR, EACH)
    assert step_often(client) == ["a0", "a1"]

    client.limit("mail", Limit(starts=3, seconds=HOUR), "a")
    assert step_often(client) == ["a2"]
    client.limit("mail", None, "a")
    assert step_often(client) == []
    client.limit("mail", None, EACH)
    assert step_often(client) == ["a3", "a4"]


def test_limits_of_a_key_and_of_its_queue_apply_together(client: Client) -> None:
    enqueue(client, "a0", "a1", "b0", "b1", "c0")
    client.limit("mail", ONE, EACH)
    client.limit("mail", TWO)

    assert step_often(client) == ["a0", "b0"]
    client.limit("mail", None)
    assert step_often(client) == ["c0"]


def test_task_leased_by_its_id_takes_a_place_of_its_key(client: Client) -> None:
    enqueue(client, "a0", "a1", "b0")
    client.limit("mail", Limit(1, 2, HOUR), EACH)

    lease = client.lease("mail", "a1")

    assert lease is not None
    assert step_often(client) == ["b0"]
    client.ack(lease)
    assert step_often(client) == ["a0"]


def test_pause_of_a_queue_holds_for_its_keys(client: Client) -> None:
    enqueue(client, "a0")
    client.pause("mail", float("inf"))

    assert step_often(client) == []
    client.pause("mail", 0)
    assert step_often(client) == ["a0"]


def test_limits_of_keys_are_listed(client: Client, connect: Connect) -> None:
    assert client.key_limits("mail") == {}

    client.limit("mail", TWO, "b")
    client.limit("mail", Limit(None, 100, 60.0), "a")
    client.limit("mail", ONE, EACH)

    expected = {EACH: ONE, "a": Limit(None, 100, 60.0), "b": TWO}
    assert client.key_limits("mail") == expected
    assert list(connect().key_limits("mail")) == [EACH, "a", "b"]
    assert client.key_limits("print") == {}
    assert client.queue_names() == ["mail"]
    assert client.stats("mail").limit is None
    client.limit("mail", None, "a")
    client.limit("mail", ONE, "b")
    assert client.key_limits("mail") == {EACH: ONE, "b": ONE}


def test_keys_may_contain_any_printable_character(client: Client) -> None:
    keys = ["tenant 7", "ü:☃", "{a}", "%s", "a'b", "7", "-1", "a,b", "k" * 200]
    client.push_many([Message("mail", f"t{n}", "", limit_key=key) for n, key in enumerate(keys)])
    client.push_many([Message("mail", f"u{n}", "", limit_key=key) for n, key in enumerate(keys)])
    for key in keys:
        client.limit("mail", ONE, key)

    assert sorted(drain(client)) == [f"t{n}" for n in range(len(keys))]
    assert drain(client) == []
    assert sorted(client.key_limits("mail")) == sorted(keys)


def test_tenant_with_many_tasks_holds_up_no_other(client: Client) -> None:
    enqueue(client, *(f"a{n}" for n in range(400)))
    enqueue(client, "b0", "b1", "b2")
    client.limit("mail", Limit(at_once=5), EACH)

    found = [lease.task_id for _ in range(6) for lease in client.step(["mail"], 2).leases]

    assert {"b0", "b1", "b2"} < set(found)


def test_many_keys_that_may_not_begin_are_passed_over(client: Client) -> None:
    client.limit("mail", ONE, EACH)
    for task in (0, 1):
        messages = [Message("mail", f"{n}-{task}", "", limit_key=f"k{n}") for n in range(600)]
        client.push_many(messages)
    for _ in range(3):
        assert len(client.step(["mail"], 200).leases) == 200
    enqueue(client, "z")

    found = [ids(client.step(["mail"], 1).leases) for _ in range(10)]

    assert ["z"] in found
    assert [*chain(*found)] == ["z"]


@pytest.mark.parametrize("verdict", OUTCOMES)
def test_free_place_of_a_key_wakes_a_worker(connect: Connect, verdict: Verdict) -> None:
    worker, busy = connect(), connect()
    enqueue(busy, "a0", "a1", "a2")
    busy.limit("mail", ONE, "a")
    lease = take(busy)
    delay = HOUR if verdict in ("retry", "release") else 0.0
    took: list[float] = []

    with ThreadPoolExecutor() as pool:
        for task_id in ("a1", "a2"):
            found = pool.submit(wait_and_reserve, worker, 30)
            time.sleep(0.1)
            assert not found.done()
            ended = time.monotonic()
            busy.step((), 0, outcomes=[Outcome(verdict, lease, delay)])
            lease = found.result(30)
            took.append(time.monotonic() - ended)
            assert lease.task_id == task_id

    assert min(took) < 0.8  # other work of the machine can only add to it


@pytest.mark.parametrize("limit", [None, TWO])
def test_changed_limit_of_a_key_wakes_a_worker(connect: Connect, limit: Limit | None) -> None:
    worker, operator = connect(), connect()
    enqueue(operator, "a0", "a1")
    operator.limit("mail", ONE, EACH)
    step_often(operator)

    with ThreadPoolExecutor() as pool:
        found = pool.submit(wait_and_reserve, worker, 30)
        time.sleep(0.2)
        operator.limit("mail", limit, EACH)
        assert found.result(30).task_id == "a1"


@pytest.mark.parametrize("limit", [ONE, ONE_AN_HOUR])
def test_worker_that_waits_for_keys_rests(client: Client, limit: Limit) -> None:
    enqueue(client, "a0", "a1", "b0", "b1")
    client.limit("mail", limit, EACH)
    client.step(["mail"], 5)

    with process_rests():
        end = time.monotonic() + 1.5
        while (left := end - time.monotonic()) > 0:
            step = client.step(["mail"], 1)
            assert not step.leases
            client.wait(["mail"], min(step.pause, left))


def test_limits_of_keys_hold_while_many_clients_reserve(connect: Connect) -> None:
    operator = connect()
    enqueue(operator, *(f"{key}{n}" for n in range(20) for key in "abc"))
    operator.limit("mail", TWO, EACH)
    running: Counter[str] = Counter()
    lock = Lock()

    def work() -> int:
        client, done = connect(), 0
        while (step := client.step(["mail"], 5)).leases or operator.len("mail"):
            with lock:
                running.update(lease.task_id[0] for lease in step.leases)
                assert max(running.values(), default=0) <= 2
            for lease in step.leases:
                with lock:
                    running[lease.task_id[0]] -= 1
                client.ack(lease)
                done += 1
        return done

    with ThreadPoolExecutor() as pool:
        counts = [each.result(60) for each in [pool.submit(work) for _ in range(4)]]

    assert sum(counts) == 60
