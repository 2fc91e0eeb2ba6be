"""Start the worker again, with the new code, when a file of the program has changed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from logging import Logger, getLogger
from threading import Event, Thread, main_thread
from typing import Any

from django.utils import autoreload

log: Logger = getLogger("alligator")


def run_with_reload(run: Callable[[], Any]) -> int:
    """Run the worker until it ends by itself, and return its status; a change replaces the process.

    A changed file stops the worker as SIGTERM does, so that no task is interrupted.
    """
    changed = Event()
    signal.signal(signal.SIGTERM, _exit)  # until the worker handles it
    _watch(lambda: _stop(changed))
    try:
        run()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    if changed.is_set():
        _replace_process()
    return status


def _replace_process() -> None:
    """Start the program again in this process, as soon as its code passes ``manage.py check``."""
    words = [os.fspath(word) for word in autoreload.get_child_arguments()]
    checking = [*words[: 1 - len(sys.argv)], "check"]
    while True:
        changed = Event()
        _watch(changed.set)  # first, because the check takes its time
        if subprocess.run(checking, stdout=subprocess.DEVNULL).returncode == 0:  # noqa: S603
            break
        log.error("the program has errors; the worker starts after the next change")
        changed.wait()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(words[0], words)  # noqa: S606


def _exit(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _stop(changed: Event) -> None:
    changed.set()
    os.kill(os.getpid(), signal.SIGTERM)


def _watch(then: Callable[[], object]) -> None:
    """Call *then* in a thread once a file of the program has changed."""

    def wait() -> None:
        with suppress(SystemExit):  # by which Django ends a process, whose parent starts it again
            autoreload.get_reloader().run(main_thread())
        then()

    Thread(target=wait, name="alligator-reload", daemon=True).start()
