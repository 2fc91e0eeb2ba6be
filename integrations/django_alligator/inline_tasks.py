"""Run tasks of this process in the thread whose database connections their request or test uses."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeVar

from asgiref.sync import async_to_sync, sync_to_async

from alligator import Task
from alligator._runtime.cancellation import await_within
from alligator._runtime.coroutines import runs_on_loop
from alligator._runtime.event_loops import LoopOfCaller
from alligator._runtime.home_loop import home

T = TypeVar("T")

_is_inline: ContextVar[bool] = ContextVar("alligator_django_inline", default=False)

runs_inline: Callable[[], bool] = _is_inline.get
"""Return whether the code of this context is a task that runs for a request or a test."""


def run_inline(run: Callable[[Task], Task], task: Task) -> Task:
    """Call *run* with *task* in the thread of the request, and return the result."""
    token = _is_inline.set(True)
    try:
        waiting = home.get()
        if isinstance(waiting, LoopOfCaller):
            # This thread is ours, and the loop waits for it. Coroutines run there.
            if task.func is not None and runs_on_loop(task.func):
                return run(task)
            return waiting.run(sync_to_async(_run_here)(run, task))
        return _run_here(run, task)
    finally:
        _is_inline.reset(token)


def _run_here(run: Callable[[Task], Task], task: Task) -> Task:
    """Run *task* in this thread, and what it awaits as Django runs asynchronous views in it."""
    token = home.set(_LoopOfDjango())
    try:
        return run(task)
    finally:
        home.reset(token)


class _LoopOfDjango:
    """Runs awaitables in such a way that their database queries come back to the calling thread."""

    loop: asyncio.AbstractEventLoop | None = None

    def run(self, awaitable: Awaitable[T], timeout: float | None = None) -> T:
        """Return the result of *awaitable*; the calling thread waits for it."""
        result: T = async_to_sync(await_within)(timeout, awaitable)
        return result
