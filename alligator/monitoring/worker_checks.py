"""Checks of the workers of one store: which queues they serve, and what they cannot run."""

from collections.abc import Iterable, Sequence
from typing import Any

from ..backends.base import WorkerInfo
from ..constants import PASS
from .entries import Checks, Entries, join_names
from .queue_checks import MeasuredQueue
from .stores import Store

MAX_WORKERS = 100
"""How many workers are listed one by one."""


def check_workers(
    store: Store,
    workers: Sequence[WorkerInfo],
    queues: Iterable[MeasuredQueue],
    entries: Entries,
) -> Checks:
    """Return the checks of *workers*; a queue with tasks but without a worker is a warning."""
    return {
        "workers:connections": [_check_served(store, workers, queues, entries)],
        "workers:lastSeen": [_show_seen(worker, entries) for worker in workers[:MAX_WORKERS]],
        "workers:unrunnable": [_check_unrunnable(workers, entries)],
    }


def _check_served(
    store: Store,
    workers: Sequence[WorkerInfo],
    queues: Iterable[MeasuredQueue],
    entries: Entries,
) -> dict[str, Any]:
    served = {name for worker in workers for name in worker.queues}
    waiting = [name for name, stats, *_ in queues if stats.ready + stats.scheduled + stats.leased]
    idle = sorted({*store.own_queues, *waiting} - served)
    output = f"no worker takes tasks from {join_names(idle)}: start latergator" if idle else ""
    return entries.warn_if(
        output, componentType="component", observedValue=len(workers), observedUnit="workers"
    )


def _show_seen(worker: WorkerInfo, entries: Entries) -> dict[str, Any]:
    entry = entries.make(
        PASS,
        componentType="component",
        observedValue=round(worker.seen_ago, 3),
        observedUnit="s",
    )
    return {**entry, "componentId": worker.name}


def _check_unrunnable(workers: Iterable[WorkerInfo], entries: Entries) -> dict[str, Any]:
    names = sorted({name for worker in workers for name in worker.unrunnable})
    output = f"a worker cannot run {join_names(names)}: its log says why" if names else ""
    return entries.warn_if(
        output, componentType="component", observedValue=len(names), observedUnit="functions"
    )
