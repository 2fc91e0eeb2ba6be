"""Workers with isolated tasks, and the processes of tests."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from alligator import Gator, Worker


class Listening(Worker):
    """A worker that keeps the results of its tasks."""

    results: list[Any]

    def result(self, result: Any) -> None:
        self.results.append(result)


def burst(gator: Gator, **settings: Any) -> Listening:
    """Run isolated tasks until nothing is ready."""
    worker = Listening(gator, burst=True, isolate=True, **settings)
    worker.results = []
    assert worker.run_forever() == 0
    return worker


def lives(pid: int) -> bool:
    """Whether there is such a process, and it is not only waiting to be collected."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with suppress(OSError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return True


def descendants(pid: int) -> list[int]:
    """List the processes that *pid* has started, and theirs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(") ")[2].split()
            if int(fields[1]) == pid:
                child = int(path.parent.name)
                found += [child, *descendants(child)]
    return found
