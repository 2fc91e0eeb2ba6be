"""Follow-ups that run in this process: after the other tasks of their commit."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..constants import SUCCESS
from ..payload.batch import Batch
from ..tasks import Task
from .deferred import OutgoingTask

Run = Callable[[Task], object]


def run_follow_ups_last(
    run_in_order: Callable[[Run, Iterable[Task]], Any], run: Run, tasks: Sequence[OutgoingTask]
) -> None:
    """Call *run_in_order* with *run* and *tasks*, then with the follow-ups among them.

    If it raises, the follow-ups are canceled.
    """
    others = [each.task for each in tasks if not each.follows]
    follow_ups = [each.task for each in tasks if each.follows]

    def run_follow_up(task: Task) -> None:
        task.batch = batch_of(others)
        run(task)

    try:
        run_in_order(run, others)
    except BaseException:
        for task in follow_ups:
            task.to_canceled()
        raise
    if follow_ups:
        run_in_order(run_follow_up, follow_ups)


def batch_of(tasks: Sequence[Task]) -> Batch:
    """Return the batch of *tasks* that have run in this process."""
    return Batch(len(tasks), sum(task.status != SUCCESS for task in tasks))
