"""The gator of the project, which is made from the settings when it is first used."""

import sys
from collections.abc import Callable
from threading import RLock
from typing import Any

from alligator import Gator, Task

CREATED: list[Callable[[Gator], object]] = []
"""Called with the gator each time it is made from the settings, before its first use."""


class SettingsGator(Gator):
    """A gator without its attributes, until the first one is read: then the settings are read.

    So a module may import it before Django has its settings. When a test overrides the setting, the
    next use makes it again from that; the object stays the same.
    """

    def __init__(self) -> None:
        # Without super().__init__(): there are no settings yet.
        self.__dict__["_making"] = RLock()

    def __getattr__(self, name: str) -> Any:
        # Called for what is not there; Python and libraries ask for special names on their own.
        if name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        with self._making:
            if not self.is_made:
                self._make()
        return object.__getattribute__(self, name)

    @property
    def is_made(self) -> bool:
        """Whether the settings were read."""
        return "client" in self.__dict__

    def _make(self) -> None:
        from .configuration import make_gator
        from .task_context import TaskContext

        made = make_gator(is_queued, TaskContext)
        self.__dict__.update(made.__dict__)
        for created in CREATED:
            created(self)

    def execute(self, task: Task) -> Task:
        """Run *task* in this process, where it has the database connections of its request."""
        from .inline_tasks import run_inline

        return run_inline(super().execute, task)

    def forget(self) -> None:
        """Close it; the next use makes it from the settings of that time."""
        with self._making:
            self.close()
            for name in self.__dict__.keys() - {"_making"}:
                del self.__dict__[name]

    def close(self) -> None:
        """Release connections, files and threads, if it has been made."""
        if self.is_made:
            super().close()

    def __repr__(self) -> str:
        if not self.is_made:
            return f"<{type(self).__name__}, not used yet>"
        return super().__repr__()


gator: Gator = SettingsGator()


def is_queued() -> bool:
    """Return whether tasks are queued: what ASYNC says, else True unless Django runs tests."""
    from .configuration import is_queued_by_setting

    chosen = is_queued_by_setting()
    return not is_in_test() if chosen is None else chosen


def is_in_test() -> bool:
    """Return whether Django's test environment is set up, by its runner or by pytest-django."""
    utils = sys.modules.get("django.test.utils")
    return hasattr(getattr(utils, "_TestState", None), "saved_data")
