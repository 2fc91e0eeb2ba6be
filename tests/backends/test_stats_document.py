"""The document for operators, of every store, against its published schema."""

from json import loads
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from alligator import Gator, Worker
from alligator.backends.legacy import FiveMethodClient
from alligator.monitoring.stats import measure
from tests.harness import sample_tasks
from tests.harness.programs import ROOT

SCHEMA = loads((Path(ROOT) / "docs" / "stats.schema.json").read_text())


def check(document: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(document)


def work(gator: Gator) -> None:
    """Let a worker run one task that succeeds and one that fails, and leave one waiting."""
    with gator.transaction():
        gator.task(sample_tasks.add, 1, 2)
        gator.task(sample_tasks.fail, "badly")
        gator.options(delay_by=3600).task(sample_tasks.add, 3, 4)
    Worker(gator, max_tasks=2).run_forever()


def test_document_is_as_its_schema_says(dsn: str) -> None:
    gator = Gator(dsn)
    work(gator)
    worker = Worker(gator)
    worker._announce(alive=True)

    document = measure(gator)

    check(document)
    (store,) = document["stores"]
    queue = store["queues"][0]
    assert (queue["ready"], queue["leased"], queue["dead"]) == (0, 0, 1)
    if store["commits"] is not None:
        assert store["commits"]["committed"] == queue["counters"]["pushed"] == 3
        assert queue["run_time"]["count"] == queue["latency"]["count"] == 2
        assert queue["counters"]["failed"] == queue["counters"]["died"] == 1
        (found,) = store["workers"]
        assert found["memory"] is None or found["memory"] > 1_000_000
    gator.client.close()


def test_document_shows_the_limit_keys(dsn: str) -> None:
    gator = Gator(dsn)
    if not gator.client.keeps_limit_keys:
        pytest.skip("the store keeps no limit keys")
    for n in range(24):
        gator.options(limit_key=f"tenant-{n // 2:02}").task(sample_tasks.add, 1, 2)
    gator.limit(at_once=2, limit_key="*")
    for n in range(12):
        gator.limit(at_once=1, per_minute=60, limit_key=f"tenant-{n:02}")
    for _ in range(3):
        gator.client.step(["all"], 100)

    document = measure(gator)

    check(document)
    found = document["stores"][0]["queues"][0]["limit_keys"]
    names = [f"tenant-{n:02}" for n in range(10)]
    assert (found["waiting"], found["limited"], found["limited_keys"]) == (12, 12, names)
    assert (found["limits_known"], list(found["limits"])) == (13, ["*", *names[:9]])
    assert found["limits"]["*"] == {"at_once": 2, "starts": None, "seconds": 1.0}
    gator.client.close()


class FiveMethods:
    """A backend of Alligator 1.0."""

    def __init__(self, conn_string: str) -> None:
        self.tasks: dict[str, str] = {}

    def len(self, queue_name: str) -> int:
        return len(self.tasks)

    def drop_all(self, queue_name: str) -> None:
        self.tasks.clear()

    def push(
        self, queue_name: str, task_id: str, data: str, delay_until: float | None = None
    ) -> str:
        self.tasks[task_id] = data
        return task_id

    def pop(self, queue_name: str) -> str | None:
        return self.tasks.popitem()[1] if self.tasks else None

    def get(self, queue_name: str, task_id: str) -> str | None:
        return self.tasks.pop(task_id, None)


def test_unknown_numbers_are_null() -> None:
    gator = Gator("five://", backend_class=FiveMethods)
    gator.task(sample_tasks.add, 1, 2)

    document = measure(gator)

    check(document)
    assert isinstance(gator.client, FiveMethodClient)
    (store,) = document["stores"]
    (queue,) = store["queues"]
    assert queue["ready"] == 1
    assert (
        queue["scheduled"] is queue["oldest_age"] is queue["history"] is queue["run_time"] is None
    )
    assert queue["limit_keys"] is None
    assert set(queue["counters"].values()) == {None}
    assert store["workers"] is store["commits"] is None
