"""Keep the schedules of a worker's gator while the worker runs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ..gator import Gator


class Keeps(Protocol):
    """The attributes of a worker that decide on its schedules."""

    gator: Gator
    log: logging.Logger
    burst: bool
    keep_schedules: bool | None


@contextmanager
def timetable_kept(worker: Keeps) -> Iterator[None]:
    """Queue the ticks of the schedules during the block, in a thread of its own.

    If `keep_schedules` is None, a worker does so if its store recognises the ticks that other workers
    have queued. A burst worker never does.
    """
    client, schedules = worker.gator.client, list(worker.gator.schedules.values())
    wanted = client.remembers_ticks if worker.keep_schedules is None else worker.keep_schedules
    if not schedules or worker.burst or not wanted:
        if schedules and worker.keep_schedules is None and not worker.burst:
            worker.log.warning(
                "this worker does not queue the ticks of its %d schedules: %s cannot recognise a tick "
                "that another worker has queued. Start exactly one worker with --schedules",
                *(len(schedules), worker.gator.store),
            )
        yield
        return
    from ..schedules.ticker import Ticker  # only workers with schedules need it

    ticker = Ticker(client, schedules)
    ticker.start()
    try:
        yield
    finally:
        ticker.stop()
