"""Where steps begin to look: at the beginning, unless this is slow."""

from collections.abc import Sequence

import pytest

from alligator.backends.base import Limit, Message, Outcome
from alligator.backends.postgres_backend import Client, marks
from alligator.backends.postgres_backend.codec import BEGINNING
from alligator.backends.postgres_backend.marks import EARLIEST, LATE, Marks
from tests.backends.postgres_backend.conftest import Open, Query
from tests.backends.test_model import compare


@pytest.fixture
def always_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every scan from the beginning count as slow."""
    monkeypatch.setattr(marks, "SLOW_SECONDS", -1.0)
    monkeypatch.setattr(marks, "SLOW_SECONDS_A_TASK", 0.0)
    monkeypatch.setattr(marks, "SLOW_SCANS", 1)
    monkeypatch.setattr(marks, "FULL_EVERY", 3600.0)


def record(
    remembered: Marks, queues: Sequence[str], *found: tuple[str, int], took: float = 1.0
) -> None:
    remembered.record(
        queues,
        remembered.scan(queues),
        [((queue, 0), at) for queue, at in found],
        now=1_000_000_000,
        took=took,
        is_complete=not found,
        is_reclaimed=True,
    )


def test_fast_scans_begin_at_the_beginning() -> None:
    remembered = Marks()
    for _ in range(10):
        record(remembered, ["a"], ("a", 7), took=0.0001)

    scan = remembered.scan(["a"])

    assert scan.is_full
    assert (scan.after, scan.turns, scan.since) == ([EARLIEST] * 3, [BEGINNING] * 3, BEGINNING)


def test_one_slow_scan_changes_nothing() -> None:
    remembered = Marks()
    record(remembered, ["a"], ("a", 7))

    assert remembered.scan(["a"]).is_full


def test_slow_scans_begin_where_the_first_task_was() -> None:
    remembered = Marks()
    for _ in range(marks.SLOW_SCANS):
        record(remembered, ["a", "b", "c"], ("b", 9), ("b", 11))

    scan = remembered.scan(["a", "b", "c"])

    assert not scan.is_full
    passed = 1_000_000_000 - LATE
    # Of each queue, the high priority, the normal one, and the low one.
    assert scan.after == [*[passed] * 3, *(passed, 9, EARLIEST), *[EARLIEST] * 3]
    assert scan.since == 1_000_000_000 - LATE
    assert 0 < remembered.seconds_until_full(scan) <= marks.FULL_SHARE * 1.0


def test_queue_that_was_emptied_is_left_behind() -> None:
    remembered = Marks()
    for _ in range(marks.SLOW_SCANS):
        record(remembered, ["a"])

    assert remembered.scan(["a"]).after == [1_000_000_000 - LATE] * 3


def test_returned_task_is_looked_for_from_the_beginning() -> None:
    remembered = Marks()
    for _ in range(marks.SLOW_SCANS):
        record(remembered, ["a"])

    remembered.reset()

    assert remembered.scan(["a"]).is_full


def test_slow_scans_begin_where_the_first_line_was() -> None:
    remembered = Marks()
    for _ in range(marks.SLOW_SCANS):
        remembered.record(
            *(["a", "b"], remembered.scan(["a", "b"]), []),
            now=1_000_000_000,
            took=1.0,
            is_complete=None,
            is_reclaimed=True,
            turns=[None, None, None, 5, 7, None],
        )

    scan = remembered.scan(["b", "a"])

    assert scan.turns == [5, 7, BEGINNING, *[BEGINNING] * 3]


@pytest.mark.usefixtures("always_slow")
def test_line_before_the_mark_is_found_by_the_next_full_scan(client: Client, query: Query) -> None:
    client.push_many([Message("mail", f"a{n}", "{}", limit_key="a") for n in range(3)])
    assert len(client.step(["mail"], 1).leases) == 1
    client.step(["mail"], 1)
    query("UPDATE {s}.line SET at = '2000-01-01'")

    assert not client.step(["mail"], 1).leases

    client._marks._full_at = 0.0
    assert [lease.task_id for lease in client.step(["mail"], 1).leases] == ["a2"]


@pytest.mark.usefixtures("always_slow")
def test_store_does_what_the_model_does_from_its_marks(client: Client) -> None:
    compare(client, examples=10)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("always_slow")
def test_store_does_what_the_model_does_from_its_marks_in_many_histories(client: Client) -> None:
    compare(client, examples=100)


@pytest.mark.usefixtures("always_slow")
def test_task_before_the_mark_is_found_by_the_next_full_scan(
    client: Client, open_client: Open
) -> None:
    client.push_many([Message("mail", "a", "{}")])
    client.push_many([Message("mail", "b", "{}")])
    (first,) = client.step(["mail"], 1).leases
    (second,) = client.step(["mail"], 1).leases
    other = open_client(timeout="20")
    other.release(first)

    assert not client.step(["mail"], 1).leases  # it begins at the second

    client._marks._full_at = 0.0
    assert [lease.task_id for lease in client.step(["mail"], 1).leases] == ["a"]
    client.ack(second)


@pytest.mark.usefixtures("always_slow")
def test_failed_tasks_do_not_make_steps_begin_at_the_beginning(client: Client) -> None:
    client.push_many([Message("mail", name, "{}") for name in "abcd"])
    leases = client.step(["mail"], 4).leases
    failed = [
        Outcome("retry", leases[0], 0.0),
        Outcome("dead", leases[1], reason="x"),
        Outcome("release", leases[2], 60.0),
    ]

    client.step((), 0, outcomes=failed)

    assert not client._marks.scan(["mail"]).is_full
    assert [lease.task_id for lease in client.step(["mail"], 4).leases] == [leases[0].task_id]
    client.step((), 0, outcomes=[Outcome("release", leases[3])])
    assert client._marks.scan(["mail"]).is_full


@pytest.mark.usefixtures("always_slow")
def test_tasks_that_a_limit_has_kept_are_found_afterwards(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.push_many([Message("mail", "a", "{}"), Message("mail", "b", "{}")])
    client.push_many([Message("print", "x", "{}")])
    client.limit("mail", Limit(at_once=1))
    client.step(["other"], 1)
    monkeypatch.setattr(marks, "LATE", -3_600_000_000)  # as if the push had been an hour ago

    first, other = client.step(["mail", "print"], 5).leases
    step = client.step(["mail", "print"], 5, outcomes=[Outcome("ack", first)])

    assert (first.task_id, other.task_id) == ("a", "x")
    assert [lease.task_id for lease in step.leases] == ["b"]
