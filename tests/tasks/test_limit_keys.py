"""The limit key of a task: its turns and limits, as calls and gator.limit give them."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from alligator import Gator, Task
from alligator.backends import locmem_backend
from alligator.backends.base import Lease, Limit
from alligator.backends.limits import EACH
from alligator.exceptions import BackendError, InvalidOption
from alligator.tasks.stored_options import to_limit_key
from tests.harness import workers
from tests.harness.sample_tasks import add


@pytest.fixture(params=["locmem", "sqlite"])
def gator(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gator]:
    dsn = "locmem://" if request.param == "locmem" else f"sqlite://{tmp_path}/q.db"
    with workers.traces_cleaned(), Gator(dsn) as gator:
        yield gator


def queue_for(gator: Gator, key: str | None, number: int = 1, **options: Any) -> None:
    for _ in range(number):
        gator.options(limit_key=key, **options).task(add, 1, 2)


def keys_of(gator: Gator, number: int) -> list[str]:
    """Return the keys of the next tasks, as their headers have them."""
    return [lease.data.split('"key":"')[1][0] for lease in reserve(gator, number)]


def reserve(gator: Gator, number: int) -> Sequence[Lease]:
    return gator.client.reserve("all", limit=number)


def test_tasks_of_keys_take_turns(gator: Gator) -> None:
    for key, number in (("a", 3), ("b", 1)):
        queue_for(gator, key, number, headers={"key": key})

    assert keys_of(gator, 9) == ["a", "b", "a", "a"]


def test_transaction_has_a_limit_key_for_all_its_tasks(gator: Gator) -> None:
    with gator.transaction(limit_key="a", headers={"key": "a"}) as transaction:
        gator.task(add, 1, 2)
        gator.task(add, 1, 2)
        transaction.then(add, 3, 4)
    queue_for(gator, "b", 1, headers={"key": "b"})
    gator.limit(at_once=2, limit_key="a")

    leases = [lease for _ in range(3) for lease in reserve(gator, 9)]

    assert [lease.data.split('"key":"')[1][0] for lease in leases] == ["a", "b", "a"]
    gator.client.ack(leases[0])
    gator.client.ack(leases[2])
    gator.limit(per_minute=1, limit_key="a")
    assert keys_of(gator, 9) == ["a"]
    queue_for(gator, "a")
    assert not reserve(gator, 9)


def test_delayed_task_keeps_its_key(gator: Gator) -> None:
    gator.limit(at_once=1, limit_key="a")
    gator.options(limit_key="a", delay_by=0.01).task(workers.note, "a")
    queue_for(gator, "a")
    assert len(reserve(gator, 9)) == 1
    time.sleep(0.02)

    assert not reserve(gator, 9)
    assert gator.stats().ready == 1


def test_tick_of_a_schedule_has_its_key(gator: Gator) -> None:
    schedule = gator.every(30, add, 1, 2, limit_key="a")

    assert schedule.message(0).limit_key == "a"


def test_limits_of_keys_are_set_listed_and_removed(gator: Gator) -> None:
    gator.limit(at_once=2, limit_key=EACH)
    gator.limit(at_once=3, per_minute=100, limit_key="a")
    gator.limit("mail", per_second=1, limit_key="a")

    assert gator.key_limits() == {EACH: Limit(2), "a": Limit(3, 100, 60.0)}
    assert gator.key_limits("mail") == {"a": Limit(None, 1, 1.0)}
    assert gator.stats().limit is None
    gator.unlimit(limit_key="a")
    assert gator.key_limits() == {EACH: Limit(2)}


def test_worker_keeps_the_limit_of_each_key(gator: Gator) -> None:
    gator.limit(per_minute=1, limit_key=EACH)
    for key in "aab":
        gator.options(limit_key=key).task(workers.note, key)
    gator.task(workers.note, "none")

    workers.burst(gator)

    assert sorted(workers.ran) == ["a", "b", "none"]
    assert gator.stats().ready == 1


@pytest.mark.parametrize("key", ["", 7, "a\nb", "k" * 201, EACH])
def test_limit_key_that_is_none_is_an_error(gator: Gator, key: Any) -> None:
    with pytest.raises(InvalidOption, match="limit_key"):
        gator.options(limit_key=key).task(add, 1, 2)
    with pytest.raises(InvalidOption, match="limit_key"):
        Task(limit_key=key)


def test_key_of_a_limit_is_a_name(gator: Gator) -> None:
    for key in ("", "a\nb", 7):
        with pytest.raises(InvalidOption, match="limit_key is 1 to 200 printable characters"):
            gator.limit(at_once=1, limit_key=key)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="limit_key"):
        gator.unlimit(limit_key="")


def test_key_that_means_each_key_is_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidOption, match=r"means each key\. Name one key\.$"):
        to_limit_key(EACH)


def test_store_without_limit_keys_refuses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locmem_backend.Client, "keeps_limit_keys", False)
    gator = Gator("locmem://")

    with pytest.raises(InvalidOption, match=r"^limit_key is not possible here: locmem://"):
        gator.options(limit_key="a").task(add, 1, 2)
    with pytest.raises(BackendError, match="locmem:// has no limits of keys"):
        gator.limit(at_once=1, limit_key="a")
    gator.task(add, 1, 2)
