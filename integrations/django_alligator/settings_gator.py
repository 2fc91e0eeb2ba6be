"""The gator of the project, which is made from the settings when it is first used."""

from threading import RLock
from typing import Any

from alligator import Gator, Task


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
        from .enlisting import enlist_databases
        from .task_context import TaskContext

        made = make_gator(TaskContext)
        self.__dict__.update(made.__dict__)
        # Here, because models may use it before the app is ready.
        enlist_databases(self)

    def execute(self, task: Task) -> Task:
        """Run *task* in this process, where it has the database connections of its request."""
        from .inline_tasks import run_inline

        return run_inline(super().execute, task)

    def forget(self) -> None:
        """Close it; the next use makes it from the settings of that time, with the same schedules."""
        with self._making:
            self.close()
            for name in self.__dict__.keys() - {"_making", "_schedules"}:
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
