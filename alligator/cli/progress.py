"""Draw how a worker empties its queues."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from ..exceptions import BackendError
from ..workers import Worker

PROGRESS_SECONDS = 0.2
"""How often a progress bar moves."""


@contextmanager
def progress() -> Iterator[Callable[[Worker], None]]:
    """Draw a bar on stderr for a worker that empties its queues, above it what is logged."""
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
        bar.console.show_cursor()  # a worker out of time leaves without hiding and showing
        try:
            yield show
        finally:
            ended.set()
            for thread in threads:
                thread.join()
