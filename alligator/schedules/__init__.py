"""Schedules: tasks that are queued at regular moments, by any worker, each once.

`Schedules` is the part of a `Gator` that defines them. A worker that is given such a gator keeps the
timetable, in the thread of a `Ticker`. There is no leader and no lock: all workers push each tick, and
the store queues the first one (see `Client.push_tick`).

This package is below `gator.py`, because `Gator.cron` checks a schedule at the call.
"""

from collections.abc import Callable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVarTuple, Unpack, overload

from ..backends.base import Client, Message
from ..exceptions import ConfigurationError, InvalidOption
from ..options import SENDING, ErrorTypes, Priority, ResultHook, Seconds, StartHook
from ..payload.signing import Guard
from ..tasks import Task
from ..tasks.stored_options import routing_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .moments import Moments
    from .schedule import Call, Schedule

Ts = TypeVarTuple("Ts")

NO_KWARGS: Mapping[str, Any] = {}

CRON_CATCH_UP = 3600.0
"""The default of *catch_up*: a tick is queued up to so many seconds late."""

SHORTEST_CATCH_UP = 60.0
"""The default for intervals up to this one. For longer ones it is the interval, up to an hour."""


NOT_FOR_TICKS = ("delay_by", "delay_until", *SENDING)
"""The options that say when or how a task is pushed; for its ticks, the schedule decides this."""


class ScheduleOptions(TypedDict, total=False):
    """The options of `Gator.cron` and `Gator.every`: those of the schedule, and those of its tasks."""

    name: str
    """The name of the schedule in the store; by default that of the function."""
    catch_up: Seconds
    """A tick that no worker has queued in time is queued up to this many seconds late."""
    retries: int
    on_start: StartHook | None
    on_success: ResultHook | None
    on_error: ResultHook | None
    depends_on: "Sequence[str] | None"
    queue_name: str | None
    backoff: "Seconds | Sequence[Seconds] | None"
    timeout: Seconds | None
    expires: Seconds | None
    """Counted from when a tick is queued."""
    priority: Priority | None
    unique: str | None
    """A tick is not queued while a task of an earlier one, or another one with this key, holds it."""
    unique_until: Literal["start", "done"] | None
    unique_for: Seconds | None
    limit_key: str | None
    retry_on: ErrorTypes | None
    give_up_on: ErrorTypes | None
    headers: Mapping[str, str] | None


class Schedules:
    """The schedules of a gator."""

    task_class: type[Task]
    guard: Guard
    queue_name: str
    client: Client
    defaults: dict[str, Any]

    @property
    def schedules(self) -> "dict[str, Schedule]":
        """The schedules by name."""
        found: dict[str, Schedule] = self.__dict__.setdefault("_schedules", {})
        return found

    def check_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """See `Gator.check_options`."""
        raise NotImplementedError

    def enqueue(
        self,
        options: Mapping[str, Any],
        func: Callable[..., Any],
        args: "Sequence[Any]",
        kwargs: Mapping[str, Any],
    ) -> Task:
        """See `Gator.enqueue`."""
        raise NotImplementedError

    @overload
    def cron(
        self,
        expression: str,
        func: Callable[[*Ts], object],
        /,
        *args: *Ts,
        timezone: Any = "UTC",
        **options: Unpack[ScheduleOptions],
    ) -> "Schedule": ...

    @overload
    def cron(
        self,
        expression: str,
        func: Callable[..., object],
        /,
        *args: Any,
        kwargs: Mapping[str, Any],
        timezone: Any = "UTC",
        **options: Unpack[ScheduleOptions],
    ) -> "Schedule": ...

    # mypy does not see that Any accepts Ts.
    def cron(  # type: ignore[misc]
        self,
        expression: str,
        func: Callable[..., object],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] = NO_KWARGS,
        timezone: Any = "UTC",
        **options: Any,
    ) -> "Schedule":
        """Queue a task that calls *func* with *args* and *kwargs* whenever a cron expression matches.

        Ex::

            gator.cron("0 3 * * *", nightly_report, timezone="Europe/Berlin", retries=3)

        The expression has five fields, in the time of *timezone*. A tick that no worker has queued in
        time is queued up to an hour late; *catch_up* changes that.
        """
        from .moments import Cron

        options.setdefault("catch_up", CRON_CATCH_UP)
        return self._schedule(Cron(expression, timezone), (func, args, kwargs), options)

    @overload
    def every(
        self,
        seconds: Seconds,
        func: Callable[[*Ts], object],
        /,
        *args: *Ts,
        **options: Unpack[ScheduleOptions],
    ) -> "Schedule": ...

    @overload
    def every(
        self,
        seconds: Seconds,
        func: Callable[..., object],
        /,
        *args: Any,
        kwargs: Mapping[str, Any],
        **options: Unpack[ScheduleOptions],
    ) -> "Schedule": ...

    def every(  # type: ignore[misc]
        self,
        seconds: Seconds,
        func: Callable[..., object],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] = NO_KWARGS,
        **options: Any,
    ) -> "Schedule":
        """Queue a task that calls *func* with *args* and *kwargs* every so many *seconds*.

        Ex::

            gator.every(30, poll_mailbox)

        *seconds* is a whole number from 1. The task is due when the Unix time is a multiple of it, so
        all workers agree on the moments: ``every(3600, …)`` is at each full hour UTC. A tick that no
        worker has queued in time is queued up to an interval late, but at least a minute and at most
        an hour; *catch_up* changes that.
        """
        from .moments import Interval

        interval = Interval(seconds)
        longest = min(CRON_CATCH_UP, max(SHORTEST_CATCH_UP, interval.seconds))
        options.setdefault("catch_up", longest)
        return self._schedule(interval, (func, args, kwargs), options)

    def run_schedule(self, name: str) -> Task:
        """Push a task of that schedule now, in addition to its ticks.

        Raises `ConfigurationError` if this gator has no such schedule, and `BackendError`.
        """
        if name not in self.schedules:
            raise ConfigurationError(f"This gator has no schedule {name!r:.200}.")
        schedule = self.schedules[name]
        return self.enqueue({**schedule.options, "immediate": True}, *schedule.call)

    def _schedule(self, moments: "Moments", call: "Call", given: dict[str, Any]) -> "Schedule":
        from .schedule import Schedule

        name, catch_up = given.pop("name", None), given.pop("catch_up")
        for option in ("task_id", "async", *NOT_FOR_TICKS):
            if option in given:
                raise InvalidOption(
                    f"{option} is not an option of a schedule, which itself decides when to push."
                )
        if isinstance(given.get("expires"), date):
            raise InvalidOption(
                "expires of a schedule is a number of seconds, or a timedelta, counted from when a tick "
                "is queued. With a fixed moment, all ticks after it would expire at once."
            )
        func, args, kwargs = call
        if not isinstance(kwargs, Mapping):
            raise InvalidOption(
                f"kwargs is a dict of keyword arguments of the function, not {kwargs!r:.80}."
            )
        schedule = Schedule(
            moments,
            (func, args, dict(kwargs)),
            self.check_options(given),
            name=name,
            catch_up=catch_up,
            make=self._make_tick,
        )
        if schedule.name in self.schedules:
            raise ConfigurationError(
                f"This gator has a schedule {schedule.name!r} already: give one of them another name=."
            )
        self.schedules[schedule.name] = schedule
        return schedule

    def _make_tick(
        self,
        options: Mapping[str, Any],
        func: Callable[..., Any],
        args: "Sequence[Any]",
        kwargs: Mapping[str, Any],
    ) -> tuple[Task, Message]:
        """Return the task of a tick and its message; raises a `TaskError` if it cannot be one."""
        merged = {**self.defaults, **options}
        task = self.task_class(**{k: v for k, v in merged.items() if k not in NOT_FOR_TICKS})
        task.to_call(func, *args, **kwargs)
        queue_name = task.queue_name or self.queue_name
        data = self.guard.write(task, queue_name)
        return task, Message(queue_name, task.task_id, data, 0.0, *routing_of(task, self.client))
