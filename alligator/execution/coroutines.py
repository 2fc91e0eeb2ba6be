"""Run an attempt at a coroutine task on the event loop that is running."""

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from .._runtime import forks
from .._runtime.cancellation import await_within
from .._runtime.coroutines import is_awaitable
from .._runtime.exits import exit_if_forked
from .._runtime.log import log
from ..backends.base import Lease
from ..exceptions import NotRunnable
from ..options import Hook
from ..tasks import Task, running_in_context
from ..tasks.decisions import snooze_in
from .attempt import Attempt, TaskRunner, expire, failed, succeeded


class Stopped(BaseException):
    """The task was canceled, or its worker ends; it has not failed."""


async def attempt_coroutine(
    gator: TaskRunner, lease: Lease, task: Task, run: Callable[[Task], Awaitable[Task]]
) -> Attempt:
    """Asynchronous version of `attempt`, for a task that was read; *run* makes one attempt at it.

    Raises `Stopped` if *run* does.
    """
    if task.expires is not None and (expired := expire(gator, lease, task)) is not None:
        return expired
    tries = task.attempt
    number = task.attempt = tries + lease.lost
    start = perf_counter()
    try:
        await run(task)
    except Stopped:
        raise
    except BaseException as error:
        return failed(gator, lease, task, error, tries, perf_counter() - start)
    return succeeded(lease, task, start, number)


async def run_coroutine(task: Task, is_stopping: Callable[[], bool]) -> Task:
    """Asynchronous version of `Task.run`.

    Raises `Stopped` if the function raised anything while *is_stopping* returned True, or after the task
    was canceled.
    """
    token = running_in_context.set(task)
    try:
        try:
            if task.on_start is not None:
                await _result(task.on_start(task))
            func, seconds = task.func, task.timeout
            assert func is not None
            pid = forks.pid
            try:
                called: Awaitable[Any] = func(*task.func_args, **task.func_kwargs)
                task.result = await (called if seconds is None else await_within(seconds, called))
            finally:
                if forks.pid != pid:
                    exit_if_forked(pid)
        except (KeyboardInterrupt, NotRunnable):
            raise
        except BaseException as error:
            if snooze_in(error) is not None:
                task.to_delayed()
                raise
            if is_stopping() or task.canceled:
                raise Stopped from error
            task.to_failed()
            if task.on_error is not None:
                await _call_hook(task, task.on_error, error)
            raise
        task.to_success()
        if task.on_success is not None:
            await _call_hook(task, task.on_success, task.result)
        return task
    finally:
        running_in_context.reset(token)


async def _result(returned: Any) -> Any:
    return await returned if is_awaitable(returned) else returned


async def _call_hook(task: Task, hook: Hook, argument: object) -> None:
    try:
        await _result(hook(task, argument))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # The outcome of the task is final: a hook cannot change it.
        log.error("a hook of %r failed; the task keeps its outcome", task, exc_info=error)
