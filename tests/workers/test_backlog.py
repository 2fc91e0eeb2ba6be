"""A backlog gives its tasks away in order, and releases the last ones."""

from time import sleep

from alligator import Lease, Task
from alligator.workers.backlog import Backlog, Reserved


def reserved(number: int) -> Reserved:
    return Reserved(Lease("all", str(number), ""), Task(), 0.0, 0.0)


def test_tasks_are_taken_in_order() -> None:
    backlog = Backlog()
    backlog.add(map(reserved, range(3)))

    taken = [backlog.take() for _ in range(4)]

    assert [each and each.lease.task_id for each in taken] == ["0", "1", "2", None]


def test_last_tasks_are_released_in_order() -> None:
    backlog = Backlog()
    backlog.add(map(reserved, range(5)))

    released = backlog.release(2)

    assert [each.lease.task_id for each in released] == ["2", "3", "4"]
    assert {each.verdict for each in released} == {"release"}
    assert [lease.task_id for lease in backlog.leases()] == ["0", "1"]
    assert len(backlog) == 2


def test_backlog_stands_while_nothing_is_taken() -> None:
    backlog = Backlog()
    sleep(0.01)
    assert not backlog.stands_for(0.0)

    backlog.add([reserved(1)])
    sleep(0.01)
    assert backlog.stands_for(0.005)
    assert not backlog.stands_for(60)
