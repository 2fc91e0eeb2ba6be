"""Run a task directly in this process, without a worker."""

from collections.abc import Callable, Sequence

from .._runtime.failures import describe
from .._runtime.log import log
from ..backends.base import Client, Lease
from ..tasks import Task
from .attempt import TaskRunner, attempt
from .heartbeat import keep_lease


def run_leases(gator: TaskRunner, client: Client, leases: Sequence[Lease]) -> Task | None:
    """Run the task of *leases*, at most one, and report its outcome to the store; return the task.

    Raises what the task raised, unless it is to be retried.
    """
    for lease in leases:
        with keep_lease(client, lease):
            try:
                result = attempt(gator, lease)
            except BaseException:  # KeyboardInterrupt: the task has not failed
                client.release(lease)
                raise
        client.step((), 0, outcomes=[result.outcome])
        if result.error is not None and result.outcome.verdict != "retry":
            raise result.error
        return result.task
    return None


def run_with_retries(run: Callable[[Task], Task], task: Task) -> Task:
    """Call *run* for each attempt at *task*, without a pause; return its result.

    Raises what the last attempt raised. A task that calls `sys.exit` has failed and is retried, as in
    a worker.
    """
    while True:
        try:
            return run(task)
        # Others end the code that runs here and are never retried: KeyboardInterrupt, an
        # `Interrupt`, gevent.Timeout, GreenletExit, CancelledError.
        except (Exception, SystemExit):
            if not _prepare_retry(task):
                raise


def _prepare_retry(task: Task) -> bool:
    """Prepare *task* for its next attempt; return whether it has one."""
    try:
        if task.retries <= 0:
            return False
        again = task.for_retry(task.attempt + 1)
    except Exception as error:  # a task or a hook may have set anything
        log.warning("%r is not retried, its options are invalid now: %s", task, describe(error))
        return False
    task.retries, task.attempt = again.retries, again.attempt
    task.restore_call()
    task.to_retrying()
    return True
