"""What ``django.tasks`` shows of a task, and the hooks that send its signals in the worker.

The framework is part of Django 6. Before, it is the package ``django-tasks``.
"""

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from traceback import format_exception
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from alligator import Task
from alligator.payload.functions import load, locate

HEADER = "django-task"
"""The header of a task with what its function does not say, as JSON."""

KEY = "_django_result"
"""The attribute of a task with its `TaskResult`."""


def _library() -> str:
    for name in ("django.tasks", "django_tasks"):
        if find_spec(name) is not None:
            return name
    raise ImproperlyConfigured(
        "django_alligator.TaskBackend needs the tasks framework: use Django 6, or install the package "
        "django-tasks."
    )


LIBRARY = _library()
tasks: Any = import_module(LIBRARY)
base: Any = import_module(f"{LIBRARY}.base")
signals: Any = import_module(f"{LIBRARY}.signals")
normalize_json: Any = (
    import_module("django.utils.json" if LIBRARY == "django.tasks" else f"{LIBRARY}.utils")
).normalize_json

enqueuing: ContextVar[Any] = ContextVar("enqueuing", default=None)
"""The result of the task that is being pushed, which may run meanwhile, in this process."""


def new_result(
    task: Any, task_id: str, backend: str, args: Any, kwargs: Any, at: datetime | None
) -> Any:
    """Return the result of a task that has not begun. Raises `TypeError` if JSON has no such type."""
    return base.TaskResult(
        task=task,
        id=task_id,
        status=base.TaskResultStatus.READY,
        enqueued_at=at,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=list(args),
        kwargs=dict(kwargs),
        backend=backend,
        errors=[],
        worker_ids=[],
    )


def to_header(result: Any) -> str:
    """Return what a worker needs to know of a task besides its function."""
    task = result.task
    return json.dumps(
        {
            "backend": result.backend,
            "queue_name": task.queue_name,
            "priority": task.priority,
            "enqueued_at": result.enqueued_at.isoformat(),
        }
    )


# The hooks, which the worker calls.


def started(task: Task) -> None:
    """Send the signal, and pass the context to a function that takes it."""
    result = _result_of(task)
    if enqueuing.get() is result:  # it runs in this process, at once
        _send(signals.task_enqueued, result)
    now = timezone.now()
    worker = f"{socket.gethostname()}:{os.getpid()}"
    result.worker_ids.extend([worker] * (task.attempt - len(result.worker_ids)))
    _set(result, status=base.TaskResultStatus.RUNNING, last_attempted_at=now)
    _set(result, started_at=result.started_at or now)
    _send(signals.task_started, result)
    if result.task.takes_context:
        task.func_args = (base.TaskContext(task_result=result), *task.func_args[1:])


def succeeded(task: Task, value: object) -> None:
    """Send the signal that it is finished."""
    result = _result_of(task)
    with suppress(TypeError):  # it is not kept, so it may be of any type
        _set(result, _return_value=normalize_json(value))
    _set(result, status=base.TaskResultStatus.SUCCESSFUL, finished_at=timezone.now())
    _send(signals.task_finished, result)


def failed(task: Task, error: BaseException) -> None:
    """Send the signal that it is finished, unless it will be retried."""
    result = _result_of(task)
    kind = type(error)
    result.errors.append(
        base.TaskError(
            exception_class_path=f"{kind.__module__}.{kind.__qualname__}",
            traceback="".join(format_exception(error)),
        )
    )
    if task.retries > 0:
        _set(result, status=base.TaskResultStatus.READY)
        return
    _set(result, status=base.TaskResultStatus.FAILED, finished_at=timezone.now())
    _send(signals.task_finished, result)


def _result_of(task: Task) -> Any:
    """Return the result of a task that runs: the one that `enqueue` returned, if it was here."""
    result = task.__dict__.get(KEY)
    if result is None:
        result = enqueuing.get()
        if result is None or result.id != task.task_id:
            result = _read(task)
        task.__dict__[KEY] = result
    return result


def _read(task: Task) -> Any:
    assert task.func is not None
    try:
        known: Mapping[str, Any] = json.loads(task.headers.get(HEADER, "{}"))
    except ValueError:
        known = {}
    found = load(*locate(task.func))
    with suppress(Exception):  # the settings of the worker may not have that backend or queue
        changes = {name: known[name] for name in ("backend", "queue_name", "priority")}
        found = found.using(**changes)
    at = known.get("enqueued_at")
    given = task.func_args[1:] if found.takes_context else task.func_args
    args, kwargs = _as_json(list(given)), _as_json(dict(task.func_kwargs))
    backend = known.get("backend", found.backend)
    at = datetime.fromisoformat(at) if isinstance(at, str) else None
    return new_result(found, task.task_id, backend, args, kwargs, at)


def _as_json(value: Any) -> Any:
    """Return arguments that annotations have restored as they were in JSON."""
    try:
        return normalize_json(value)
    except TypeError:
        return json.loads(json.dumps(value, default=str))


def _set(result: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(result, name, value)  # as the framework does: it is frozen


def _send(signal: Any, result: Any) -> None:
    """Send a signal; an error of a receiver is only logged, because the task did not cause it."""
    sender = None
    with suppress(Exception):  # the settings of the worker may not have that backend
        sender = type(result.task.get_backend())
    signal.send_robust(sender, task_result=result)
