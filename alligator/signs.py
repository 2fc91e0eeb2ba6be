"""Show whoever runs a worker's container that it lives, by a file that is touched."""

import os
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import NamedTuple

from .exceptions import ConfigurationError

TOUCH_SECONDS = 5.0
"""How often the file of a worker that lives is touched."""


class Sign(NamedTuple):
    """How a worker is."""

    lives: bool
    """Whether it beats, and each of its threads goes on with its work: else a restart would help."""
    store: bool
    """Whether its store has answered the latest beat: a restart would not help if it has not."""


class HealthFile:
    """A file that is touched as long as the worker lives: any probe can tell how old it is."""

    def __init__(self, ask: Callable[[], Sign], path: str) -> None:
        self._ask = ask
        self._path = path
        self._ended = Event()
        try:
            self._touch()
        except OSError as error:
            raise ConfigurationError(
                f"--health-file: {path} cannot be written ({error.strerror}). Name a file in a "
                "folder that this user may write to."
            ) from error
        self._thread = Thread(target=self._run, name="alligator-health-file", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take the file away: the worker has ended."""
        self._ended.set()
        self._thread.join()
        with suppress(OSError):
            os.unlink(self._path)

    def _run(self) -> None:
        while not self._ended.wait(TOUCH_SECONDS):
            with suppress(OSError):  # a full disk: it gets old, as it would for any other reason
                self._touch()

    def _touch(self) -> None:
        sign = self._ask()
        if sign.lives:
            with open(self._path, "w", encoding="utf-8") as file:
                file.write(f"the store {'answers' if sign.store else 'does not answer'}\n")
