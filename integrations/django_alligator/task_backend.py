"""The backend for ``django.tasks``."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

from django.core.checks import CheckMessage, Error
from django.utils import timezone

from alligator.exceptions import InvalidOption
from alligator.options import check_name
from alligator.tasks import new_id

from .settings_gator import gator
from .task_results import (
    HEADER,
    KEY,
    LIBRARY,
    base,
    enqueuing,
    failed,
    new_result,
    signals,
    started,
    succeeded,
    to_header,
)

PRIORITIES = "PRIORITY_QUEUES"
"""The option that maps priorities to queues."""

backends: Any = import_module(f"{LIBRARY}.backends.base")


class TaskBackend(backends.BaseTaskBackend):  # type: ignore[misc]  # one of two
    """Puts the tasks of Django's framework on the queue of ``django_alligator.gator``.

    Ex::

        TASKS = {"default": {"BACKEND": "django_alligator.TaskBackend"}}

    They wait for the response or the transaction like those of ``gator.task``. The queue "default" is
    that of the gator; others have their own names. A positive priority is "high", a negative one "low".
    With ``"OPTIONS": {"PRIORITY_QUEUES": {50: "urgent", -50: "bulk"}}``, priorities are queues instead:
    tasks of a priority of 50 or more are put on the queue "urgent", and those of -50 or less on "bulk".
    If the task names a queue such as "mail", they are put on "mail-urgent" and "mail-bulk".
    """

    supports_defer = True
    supports_priority = True
    supports_async_task = True
    supports_get_result = False

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self.priorities: Mapping[int, str] = self.options.get(PRIORITIES) or {}

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Push a task, as ``gator.task`` does; return its result, which is not kept."""
        self.validate_task(task)
        result = new_result(task, new_id(), self.alias, args, kwargs, timezone.now())
        options: dict[str, Any] = {
            "task_id": result.id,
            "headers": {HEADER: to_header(result)},
            "on_start": started,
            "on_success": succeeded,
            "on_error": failed,
        }
        queue_name = self.queue_for(task)
        if queue_name is not None:
            options["queue_name"] = queue_name
        if task.priority and not self.priorities:
            options["priority"] = "high" if task.priority > 0 else "low"
        if task.run_after is not None:
            options["delay_until"] = task.run_after
        # In the worker, the context is there instead.
        given = (None, *args) if task.takes_context else args
        token = enqueuing.set(result)
        try:
            pushed = gator.enqueue(gator.check_options(options), task.func, given, kwargs)
        finally:
            enqueuing.reset(token)
        pushed.__dict__.setdefault(KEY, result)
        if result.status == base.TaskResultStatus.READY:  # otherwise it has run meanwhile
            signals.task_enqueued.send(type(self), task_result=result)
        return result

    def queue_for(self, task: Any) -> str | None:
        """Return the queue of a task; None for that of the gator."""
        is_default = task.queue_name == base.DEFAULT_TASK_QUEUE_NAME
        suffix = self._suffix(task.priority)
        if suffix is None:
            return None if is_default else str(task.queue_name)
        return suffix if is_default else f"{task.queue_name}-{suffix}"

    def _suffix(self, priority: int) -> str | None:
        if priority >= 0:
            reached = [each for each in self.priorities if 0 < each <= priority]
            return self.priorities[max(reached)] if reached else None
        reached = [each for each in self.priorities if priority <= each < 0]
        return self.priorities[min(reached)] if reached else None

    def get_result(self, result_id: str) -> NoReturn:
        """Raise `NotImplementedError`: a store forgets a task that has ended."""
        raise NotImplementedError(
            "This backend does not support retrieving or refreshing results. Alligator keeps none: let "
            "the task save what is needed later."
        )

    def check(self, **kwargs: Any) -> Iterable[CheckMessage]:
        """Check its options."""
        yield from super().check(**kwargs)
        unknown = ", ".join(sorted(self.options.keys() - {PRIORITIES}))
        if unknown:
            yield self._error(f"has no option {unknown}", f"The only option is {PRIORITIES}.", 31)
        if not isinstance(self.priorities, Mapping) or not all(
            _is_priority(number) and _is_name(name) for number, name in self.priorities.items()
        ):
            yield self._error(
                f"has an option {PRIORITIES} that does not map priorities to queues",
                'Use whole numbers from -100 to 100, without 0: {50: "urgent", -50: "bulk"}.',
                32,
            )

    def _error(self, what: str, hint: str, number: int) -> CheckMessage:
        return Error(
            f"The tasks backend {self.alias!r} {what}.",
            hint=hint,
            id=f"django_alligator.E0{number}",
        )


def _is_priority(value: object) -> bool:
    least, most = base.TASK_MIN_PRIORITY, base.TASK_MAX_PRIORITY
    return type(value) is int and least <= value <= most and value != 0


def _is_name(value: object) -> bool:
    try:
        check_name(PRIORITIES, value)
    except InvalidOption:
        return False
    return True
