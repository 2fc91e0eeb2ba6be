"""Dead tasks for the tests of the command line."""

from collections.abc import Callable
from typing import Unpack

from alligator import Gator
from alligator.options import TaskOptions
from tests.harness import sample_tasks


def bury(
    gator: Gator,
    message: str = "no luck",
    function: Callable[[str], object] = sample_tasks.fail,
    **options: Unpack[TaskOptions],
) -> str:
    """Put a task on its queue, have it fail, and return its id."""
    task = gator.options(**options).task(function, message)
    queue_name = options.get("queue_name") or "all"
    lease = gator.client.lease(queue_name, task.task_id)
    assert lease is not None
    gator.client.dead_letter(lease, reason=f"RuntimeError: {message}", traceback="in line 1\nup")
    return task.task_id
