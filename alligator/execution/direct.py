"""Run a task directly in this process, without a worker."""

from collections.abc import Callable, Sequence

from .._runtime.failures import describe
from .._runtime.log import log
from ..backends.base import Client, Lease
from ..tasks import Task
from ..tasks.decisions import snooze_in
from .attempt import TaskRunner, attempt
from .heartbeat import keep_lease

MAX_INLINE_SNOOZES = 100
"""How often a task that runs in this process may raise `Snooze`; it does not wait in between."""


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
        if result.error is not None and not result.is_repeated:
            raise result.error
        return result.task
    return None


def run_with_retries(run: Callable[[Task], Task], task: Task) -> Task:
    """Call *run* for each attempt at *task*, without a pause; return its result.

    Raises what the last attempt raised. A task that calls `sys.exit` has failed and is retried, as in
    a worker. A task that raises `Snooze` runs again, at most `MAX_INLINE_SNOOZES` times.
    """
    snoozes = 0
    while True:
        try:
            return run(task)
        # Others end the code that runs here and are never retried: KeyboardInterrupt, an
        # `Interrupt`, gevent.Timeout, GreenletExit, CancelledError.
        except (Exception, SystemExit) as error:
            if snooze_in(error) is not None:
                snoozes += 1
                _prepare_snoozed(task, error, snoozes)
            elif not _prepare_retry(task, error):
                raise


def _prepare_snoozed(task: Task, error: BaseException, snoozes: int) -> None:
    """Prepare the next run of *task* after its `Snooze`; raise *error*, the `Snooze`, after too many."""
    if snoozes > MAX_INLINE_SNOOZES:
        task.to_failed()
        error.add_note(
            f"{task.name} has raised Snooze {snoozes} times. In this process it runs again at once, so "
            "what it waits for may need a worker, or time."
        )
        raise error
    task.restore_call()


def _prepare_retry(task: Task, error: BaseException) -> bool:
    """Prepare *task*, which raised *error*, for its next attempt; return whether it has one."""
    try:
        if not task.is_retried(error):
            return False
        again = task.for_retry(task.attempt + 1)
    except Exception as broken:  # a task or a hook may have set anything
        log.warning(
            "%r is not retried, because its options are invalid now: %s", task, describe(broken)
        )
        return False
    task.retries, task.attempt = again.retries, again.attempt
    task.restore_call()
    task.to_retrying()
    return True
