"""End the process of a worker on time, also if its tasks left threads or processes behind."""

import atexit
import logging
import os
import sys
from threading import TIMEOUT_MAX, Thread, main_thread
from threading import enumerate as threads
from time import sleep
from typing import NoReturn

from . import streams

log: logging.Logger = logging.getLogger("alligator")

EXIT_SECONDS = 1.0
"""The minimum time for the functions of `atexit`."""

CHILD_EXIT_SECONDS = 2.0
"""How long the functions of `atexit` may take in a child of a worker; Sentry needs two seconds."""

SLOW_SECONDS = 0.5
"""If the process takes longer than this to end, a warning is logged."""

worker_pid = 0
"""The id of the worker's process; 0 if this program is no worker."""


def exit_if_forked(pid: int) -> None:
    """End this process if a task has forked it from the worker *pid*, and has then returned in it.

    It would continue as a second worker with the same task.
    """
    if os.getpid() != pid == worker_pid:
        log.warning(
            "a process that the task forked returned from the task's function; this process ends now. "
            "End such processes with os._exit"
        )
        streams.exit_now(0)


def exit_child(status: int) -> NoReturn:
    """End this forked process with *status*, after it has run the functions of `atexit`.

    They send spans and events, or write measurements. They have `CHILD_EXIT_SECONDS`.
    """
    watchdog = Thread(target=_cut_off, args=(status,), name="alligator-exit", daemon=True)
    try:
        watchdog.start()
        atexit._run_exitfuncs()
    except BaseException:
        log.exception("functions of atexit failed; this process ends without them")
    finally:
        streams.exit_now(status)


def _cut_off(status: int) -> None:
    sleep(CHILD_EXIT_SECONDS)
    # A function that hangs may hold a lock of logging, which the log line and the last flush need.
    Thread(target=_exit_at_once, args=(status,), name="alligator-exit", daemon=True).start()
    log.warning(
        "functions of atexit have taken more than %g s; this process ends without them",
        CHILD_EXIT_SECONDS,
    )
    streams.exit_now(status)


def _exit_at_once(status: int) -> None:
    sleep(SLOW_SECONDS)
    os._exit(status)


def exit_within(seconds: float, status: int) -> None:
    """End this program with *status* at most *seconds* after its main thread has ended.

    Until then Python waits for threads and processes that tasks started, and for functions of
    `atexit`.
    """
    Thread(target=_exit_late, args=(seconds, status), name="alligator-exit", daemon=True).start()


def _exit_late(seconds: float, status: int) -> None:
    main_thread().join()
    seconds = min(max(EXIT_SECONDS, seconds), TIMEOUT_MAX)
    sleep(min(SLOW_SECONDS, seconds))
    left = [thread for thread in threads() if not thread.daemon and thread is not main_thread()]
    multiprocessing = sys.modules.get("multiprocessing")
    children = multiprocessing.active_children() if multiprocessing is not None else []
    log.warning(
        "the process is still waiting for %d threads and %d processes that tasks started, or for "
        "functions of atexit; it ends in %.1f s without them",
        len(left),
        len(children),
        max(0.0, seconds - SLOW_SECONDS),
    )
    sleep(max(0.0, seconds - SLOW_SECONDS))
    streams.exit_now(status)
