"""Log lines about the outcomes of tasks."""

import logging
import os
import sys

from .._runtime.failures import EVENT
from ..backends.base import Lease
from ..exceptions import NotRunnable
from ..execution.attempt import MAX_REASON, Attempt
from ..payload.envelope import name_in
from ..tasks.decisions import Snooze
from ..telemetry.logs import about, escape
from ..telemetry.propagation import trace_id

LEVELS = {
    "ack": logging.INFO,
    "retry": logging.WARNING,
    "dead": logging.ERROR,
    "release": logging.INFO,
    "expired": logging.WARNING,
}
"""The level at which each outcome is logged."""

DEAD = "failed permanently; moved to the dead letters"
EXPIRED = "expired before it began; moved to the dead letters"
UNREADABLE = "cannot be run; moved to the dead letters"


def log_outcome(log: logging.Logger, done: Attempt, lease: Lease) -> None:
    """Log that a task succeeded, will be retried, or is a dead letter now."""
    fields: dict[str, object] = {"task_id": lease.task_id, "queue": lease.queue_name}
    if done.task is not None:
        fields["task"] = done.task.name
        fields["attempt"] = done.number
        fields["seconds"] = done.seconds
        fields["request_id"] = done.task.headers.get("request_id")
        fields["trace_id"] = trace_id(done.task)
    else:
        fields["task"] = name_in(lease.data)
    which = about(str(fields["task"]), lease.task_id, done.reason)
    if done.error is None:
        fields[EVENT] = "done"
        log.info("done in %.3f s: %s", done.seconds, which, extra=fields)
        return
    if isinstance(done.error, Snooze):
        pause = fields["pause"] = done.outcome.delay
        fields[EVENT] = "snoozed"
        log.info(
            "snoozed for %.3g s: %s", pause, about(str(fields["task"]), lease.task_id), extra=fields
        )
        return
    fields["reason"] = done.reason
    if done.outcome.verdict == "expired":
        fields[EVENT] = EXPIRED
        log.warning("%s: %s", EXPIRED, which, extra=fields)
    elif done.outcome.verdict == "retry":
        pause = fields["pause"] = done.outcome.delay
        fields[EVENT] = "failed; will be retried"
        log.warning("failed; will be retried in %.3g s: %s", pause, which, extra=fields)
    else:
        event = fields[EVENT] = DEAD if done.task is not None else UNREADABLE
        log.error("%s: %s", event, which, extra=fields, exc_info=done.error)


def log_unfinished(log: logging.Logger, lease: Lease) -> None:
    """Log that a task has not ended before its worker, and is released."""
    event = "not finished in time; released"
    log.error("%s to its queue: %s", event, _which(lease), extra=_fields(event, lease))


def log_canceled(log: logging.Logger, lease: Lease, seconds: float | None = None) -> None:
    """Log that a task was canceled: after it ran for *seconds*, or before it started here."""
    event = "canceled before it started" if seconds is None else "canceled while it ran"
    more = {} if seconds is None else {"seconds": seconds}
    log.info("%s: %s", event, _which(lease), extra={**_fields(event, lease), **more})


def log_still_running(log: logging.Logger, lease: Lease) -> None:
    """Log that a task still runs although it was canceled."""
    event = (
        "task was canceled and still runs in this worker; let it end at a CancelledError or ask "
        "current_task().canceled, or consider --isolate, which ends such tasks"
    )
    words = about(name_in(lease.data), lease.task_id, event)
    log.error("%s", words, extra=_fields(event, lease))


def log_skipped(log: logging.Logger, lease: Lease) -> None:
    """Log that a task was not started, because its lease may have ended while it waited here."""
    event = (
        "not started, because its lease has ended; other workers run it. This worker was frozen, or "
        "could not reach its store, for longer than a lease"
    )
    log.warning("%s: %s", event, _which(lease), extra=_fields(event, lease))


def log_unrunnable(log: logging.Logger, done: Attempt, lease: Lease, *, is_new: bool) -> None:
    """Log that this worker cannot run a task: as an error if its function *is_new*, else for debug."""
    name = name_in(lease.data)
    event = (
        f"this worker cannot run {escape(name)}; it releases the tasks of this function for other "
        f"workers.{_advice(done) if is_new else ''}"
    )
    log.log(
        logging.ERROR if is_new else logging.DEBUG,
        "%s Task %s, offered again in %.3g s: %s",
        event,
        escape(lease.task_id),
        done.outcome.delay,
        escape(done.reason[:MAX_REASON]),
        extra={
            **_fields(event, lease),
            "pause": done.outcome.delay,
            "reason": done.reason,
        },
    )


def _which(lease: Lease) -> str:
    return about(name_in(lease.data), lease.task_id)


def _fields(event: str, lease: Lease) -> dict[str, object]:
    """Return the fields of a line about a task that this worker has not run to its end."""
    return {
        EVENT: event,
        "task_id": lease.task_id,
        "task": name_in(lease.data),
        "queue": lease.queue_name,
    }


def _advice(done: Attempt) -> str:
    """Return where this worker searches for modules, if it could not import the function."""
    if isinstance(done.error, NotRunnable):
        return ""
    folders = ", ".join(dict.fromkeys([os.getcwd(), *sys.path]))
    return (
        f" Check that it was started in the right directory. It searches for modules in {folders}."
    )
