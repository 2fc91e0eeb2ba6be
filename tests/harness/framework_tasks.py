"""Tasks of Django's own framework."""

import asyncio
from typing import Any

from tests.harness import django_project  # noqa: F401 - first, because it makes the settings

# isort: split
from django_alligator.task_results import tasks

RAN: list[Any] = []
"""What the tasks were called with."""


def task(function: Any = None, **options: Any) -> Any:
    """Return the task of a function, as the decorator of the framework does."""
    return tasks.task(function, **options)


@task
def add(first: int, second: int = 0) -> int:
    """Return a sum."""
    RAN.append((first, second))
    return first + second


@task
async def send(address: str) -> str:
    """Do it on an event loop."""
    await asyncio.sleep(0)
    RAN.append(address)
    return address


@task(takes_context=True)  # type: ignore[untyped-decorator]
def show(context: Any, name: str) -> None:
    """Note what the context says."""
    result = context.task_result
    RAN.append((name, context.attempt, result.id, result.status, result.args, result.task.func))


@task
def fail() -> None:
    """Fail."""
    raise ValueError("no luck")
