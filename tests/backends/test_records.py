"""The records of the contract: their limits, and what an id says."""

import json
from math import inf, nan

import pytest

from alligator.backends.base import Client, Commit, Message, Outcome, bounded, memory_of
from alligator.backends.records import read_more
from alligator.backends.unique import Unique
from alligator.constants import COMMIT_MEMORY, LONG_COMMIT_MEMORY, MAX_SECONDS


@pytest.mark.parametrize("delay", [inf, nan, -inf, -1.0, 1e300])
def test_delay_out_of_range_harms_no_other_task(client: Client, delay: float) -> None:
    client.push_commits(
        [
            Commit([Message("mail", "odd", "{}", delay)], "c1"),
            Commit([Message("mail", "a", "{}")], "c2"),
        ]
    )

    leases = {lease.task_id: lease for lease in client.reserve("mail", limit=5)}
    assert "a" in leases
    client.step((), 0, outcomes=[Outcome("retry", leases["a"], delay)])

    assert (client.stats("mail").scheduled > 0) == (delay > 0)


@pytest.mark.parametrize(
    ("commit_id", "memory"),
    [("5f1c", COMMIT_MEMORY), ("", COMMIT_MEMORY), ("day-5f1c", LONG_COMMIT_MEMORY)],
)
def test_id_of_a_commit_says_for_how_long_it_is_remembered(commit_id: str, memory: float) -> None:
    assert memory_of(commit_id) == memory


@pytest.mark.parametrize(
    ("seconds", "kept"), [(1.5, 1.5), (-1.0, 0.0), (nan, 0.0), (inf, MAX_SECONDS)]
)
def test_delay_is_bounded(seconds: float, kept: float) -> None:
    assert bounded(seconds) == kept


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ((0, None, False, None), []),
        ((-1, None, False, None), [-1]),
        (
            (0, Unique("k", until_start=False, seconds=7.0), False, None),
            [0, ["k", False, 7.0, False]],
        ),
        ((1, Unique("k", replace=True), False, None), [1, ["k", True, 0.0, True]]),
        ((-1, None, True, None), [-1, None, True]),
        ((0, None, False, "t"), [0, None, False, "t"]),
        ((1, Unique("k"), True, "t"), [1, ["k", True, 0.0, False], True, "t"]),
    ],
)
def test_rest_of_a_message_is_kept_only_if_it_has_it(
    more: tuple[int, Unique | None, bool, str | None], kept: list[object]
) -> None:
    message = Message("mail", "a", "{}", 0.0, *more)

    assert json.loads(json.dumps(message.more)) == kept
    assert read_more(*kept) == more


@pytest.mark.parametrize("kept", [["high"], [0, ["k"]], [0, 7], [0, None, True, 3], [None, None]])
def test_priority_or_key_that_cannot_be_read_is_an_error(kept: list[object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        read_more(*kept)
