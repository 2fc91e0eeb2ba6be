"""Progress bars: of a worker that runs until its queues are empty, and of a check of tasks."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TypeVar

from ..exceptions import BackendError
from ..workers import Worker

T = TypeVar("T")

PROGRESS_SECONDS = 0.2
"""How often the progress bar is updated."""


@contextmanager
def progress() -> Iterator[Callable[[Worker], None]]:
    """Show a progress bar on stderr, below the log lines; yield a function that takes the worker."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    ended = Event()
    threads: list[Thread] = []
    columns = (TextColumn("tasks"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())

    def follow(worker: Worker) -> None:
        row = bar.add_task("tasks", total=None)
        last = False
        while not last:
            last = ended.wait(PROGRESS_SECONDS)
            done = worker.tasks_complete
            try:
                each = [worker.gator.client.stats(name) for name in worker.queue_names]
            except BackendError:
                continue
            total = done + sum(stats.ready + stats.leased for stats in each)
            bar.update(row, completed=done, total=total)

    def show(worker: Worker) -> None:
        threads.append(Thread(target=follow, args=(worker,), name="alligator-bar", daemon=True))
        threads[-1].start()

    with Progress(*columns, console=Console(stderr=True)) as bar:
        bar.console.show_cursor()  # now, because a worker out of time exits without doing so
        try:
            yield show
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def track(items: Iterable[T], total: int) -> Iterator[T]:
    """Yield *items*, of which there are about *total*, with a progress bar on a terminal's stderr."""
    from rich.console import Console
    from rich.progress import track as track_items

    console = Console(stderr=True)
    yield from track_items(
        items,
        "tasks",
        total,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
