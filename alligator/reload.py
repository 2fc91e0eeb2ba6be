"""Start a worker anew when a file of its program changes: for development."""

import logging
import os
import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path
from threading import Event, Thread

from .workers import Worker

LOOK_SECONDS = 1.0
"""How often the files are looked at."""

log: logging.Logger = logging.getLogger("alligator")


class Reloader:
    """A thread that stops *worker* gracefully when a module it has loaded is written anew.

    A file with a syntax error is left alone until it has none. Tasks that are running are waited for
    as long as it takes, unless a signal comes.
    """

    def __init__(self, worker: Worker, look_every: float = LOOK_SECONDS) -> None:
        self.has_changed: bool = False
        self._worker = worker
        self._look_every = look_every
        self._seen: dict[Path, int] = {}
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="alligator-reload", daemon=True)

    def __enter__(self) -> "Reloader":
        self._seen = dict(_modules())
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._look_every):
            for path, written in _modules():
                if self._seen.setdefault(path, written) != written:
                    self._seen[path] = written
                    if self._worker.keep_running and _compiles(path):
                        self._restart(path)
                        return

    def _restart(self, path: Path) -> None:
        log.info("%s has changed: starting anew", path)
        self.has_changed = True
        self._worker.shutdown_timeout = inf
        self._worker.stop()


def start_anew() -> None:
    """Replace this process by the program as it was started; this does not return."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - no shell is wanted


def _modules() -> Iterator[tuple[Path, int]]:
    """List the files of loaded modules, and when they were written."""
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if isinstance(name, str) and name.endswith(".py"):
            path = Path(name)
            try:
                yield path, path.stat().st_mtime_ns
            except OSError:  # in a zip, or being replaced right now
                continue


def _compiles(path: Path) -> bool:
    try:
        compile(path.read_bytes(), path, "exec")
    except (OSError, SyntaxError, ValueError) as error:
        log.error("%s cannot be loaded, so what was loaded before goes on: %s", path, error)
        return False
    return True
