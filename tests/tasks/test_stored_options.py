"""The options of a task in its payload."""

from typing import Any

import pytest

from alligator import Gator, Task
from alligator.exceptions import InvalidOption, NotImportable, PayloadError
from alligator.payload.envelope import NO_OPTIONS
from alligator.tasks.stored_options import read_options, write_options
from tests.harness.sample_tasks import add


def test_task_without_options_writes_none() -> None:
    assert write_options(Task()) is NO_OPTIONS


def test_options_are_read_as_they_were_written() -> None:
    options: dict[str, Any] = {
        "on_success": add,
        "delay_until": 7.5,
        "backoff": [1.0, 2.0],
        "timeout": 3.0,
        "depends_on": ["a"],
        "retry_on": ["builtins.OSError"],
        "give_up_on": ["builtins.KeyError"],
        "priority": "low",
    }
    task = Task()

    read_options(task, write_options(Task(**options)))

    assert {name: getattr(task, name) for name in options} == options


def test_error_of_the_main_program_is_refused() -> None:
    main_error = type("Busy", (Exception,), {"__module__": "__main__"})

    with pytest.raises(NotImportable, match="Busy was defined in the program that was started"):
        write_options(Task(retry_on=main_error))


@pytest.mark.parametrize("value", ["7", '"Busy"', "[1]"])
def test_payload_with_invalid_errors_is_no_task(value: str) -> None:
    task = Task(retry_on=OSError)
    task.to_call(add, 1, 2)
    payload = task.serialize().replace('["builtins.OSError"]', value)

    with pytest.raises(PayloadError, match="retry_on"):
        Task.deserialize(payload)


@pytest.mark.parametrize("priority", ["high", "low"])
def test_priority_is_refused_if_the_store_has_none(priority: Any) -> None:
    gator = Gator("sqs://eu-west-1/")

    with pytest.raises(InvalidOption, match=f"priority is {priority}, but sqs:.*several queues"):
        gator.options(priority=priority).task(add, 1, 2)
    with pytest.raises(InvalidOption, match="several queues"):
        gator.every(30, add, 1, 2, priority=priority)


def test_normal_priority_is_written_for_no_store() -> None:
    gator = Gator("locmem://")

    task = gator.options(priority="normal").task(add, 1, 2)

    assert '"options":{}' in task.serialize()


def test_priority_of_a_task_object_is_that_of_its_push() -> None:
    gator = Gator("locmem://")
    gator.push(Task(), add, 1, 2)
    task = Task()
    task.priority = "high"

    gator.push(task, add, 1, 2)

    [lease] = gator.client.reserve("all")
    assert lease.task_id == task.task_id
    assert gator.read(lease).priority == "high"


def test_invalid_priority_of_a_task_object_is_refused_at_the_push() -> None:
    task = Task()
    task.priority = "urgent"  # type: ignore[assignment]

    with pytest.raises(InvalidOption, match="priority is one of high, normal, low, not 'urgent'"):
        Gator("locmem://").push(task, add, 1, 2)
