"""Outcomes of tasks, as arguments of the step script."""

from alligator.backends.base import Lease, Outcome
from alligator.backends.redis_backend.outcomes import microseconds, pack_outcomes, with_keys
from alligator.backends.unique import Unique
from alligator.constants import MAX_TASKS

A, B = Lease("mail", "a", "{}", 1), Lease("mail", "b", "{}", 2)


def test_outcomes_name_the_position_of_their_queue() -> None:
    names = ["print", "mail"]

    assert pack_outcomes([Outcome("retry", A, 2.0, "new")], names) == [
        *("retry", 2, "a", 1, 2_000_000, "new")
    ]
    assert names == ["print", "mail"]


def test_queues_of_outcomes_are_appended() -> None:
    names = ["print"]

    packed = pack_outcomes([Outcome("dead", A, reason="no luck")], names)

    assert names == ["print", "mail"]
    assert packed == ["dead", 2, "a", 1, '["no luck", ""]']


def test_released_tasks_are_packed_in_reverse_order() -> None:
    packed = pack_outcomes([Outcome("release", A), Outcome("release", B)], ["mail"])

    assert packed == ["release", 1, "b", 2, 0, "", "release", 1, "a", 1, 0, ""]


def test_acks_of_a_queue_are_packed_together_up_to_a_limit() -> None:
    outcomes = [Outcome("ack", A)] * MAX_TASKS + [Outcome("ack", B)]

    packed = pack_outcomes(outcomes, ["mail"])

    assert packed[:5] == ["ack", 1, MAX_TASKS, 1, "a"]
    assert packed[-6:] == ["ack", 1, 1, 1, "b", 2]


def test_acks_carry_a_fence_each_unless_all_have_the_same() -> None:
    same = pack_outcomes([Outcome("ack", A), Outcome("ack", A._replace(task_id="c"))], ["mail"])
    different = pack_outcomes([Outcome("ack", A), Outcome("ack", B)], ["mail"])

    assert same == ["ack", 1, 2, 1, "a", "c", 1]
    assert different == ["ack", 1, 2, 2, "a", "b", 1, 2]


def test_key_follows_the_delay() -> None:
    assert with_keys(0, Unique("a b"), None) == "0\x1fs\x1f0\x1fa b"
    assert with_keys(7, Unique("k", until_start=False, seconds=1.5), None) == "7\x1fd\x1f1500\x1fk"
    assert with_keys(7, Unique("k", seconds=0.0001), "t 7") == "7\x1fk\x1ft 7\x1fs\x1f1\x1fk"
    assert with_keys("+7", None, "s") == "+7\x1fk\x1fs"


def test_microseconds_are_never_negative() -> None:
    assert [microseconds(seconds) for seconds in (1.5, -1.0, float("nan"))] == [1_500_000, 0, 0]
