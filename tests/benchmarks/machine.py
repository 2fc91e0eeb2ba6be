"""Describe the machine, and the load of other processes on it."""

import os
import platform
import time
from pathlib import Path
from typing import Self

TICKS = os.sysconf("SC_CLK_TCK")


def describe() -> dict[str, str]:
    """Return a description of the machine."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": f"{os.cpu_count()} x {models[0] if models else platform.machine()}",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def thread_seconds(pid: int) -> float:
    """Return the CPU time of a process's threads, in nanosecond resolution."""
    stats = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in stats) / 1e9


def _fields(path: Path) -> list[str]:
    # The name of the program may hold anything, and stands in parentheses.
    return path.read_text().rpartition(")")[2].split()


def _busy() -> float:
    user, nice, system, _, _, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / TICKS


def tree_seconds(pid: int) -> float:
    """Return the CPU time of a process and its children."""
    stats: dict[int, tuple[int, float]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = _fields(path)
        except OSError:  # it has ended
            continue
        stats[int(path.parent.name)] = int(fields[1]), sum(map(int, fields[11:15])) / TICKS
    ours = {pid}
    while more := {pid for pid, (parent, _) in stats.items() if parent in ours} - ours:
        ours |= more
    return sum(stats[pid][1] for pid in ours if pid in stats)


class Watch:
    """Measures how many cores other processes used during a block."""

    foreign = 0.0

    def __enter__(self) -> Self:
        self._start, self._before = time.monotonic(), _busy() - tree_seconds(os.getpid())
        return self

    def __exit__(self, *exc_info: object) -> None:
        used = _busy() - tree_seconds(os.getpid()) - self._before
        self.foreign = max(0.0, used / (time.monotonic() - self._start))
