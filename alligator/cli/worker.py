"""Run a worker, for any command line."""

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing

import click

from ..constants import ALL
from ..exceptions import BackendUnavailable
from ..gator import Gator
from ..signs import HealthFile, Sign
from ..workers import Worker
from .errors import F, WrongCommand
from .progress import progress


def run_worker(
    gator: Gator,
    *,
    queues: Sequence[str] = (),
    concurrency: int = 1,
    max_tasks: int = 0,
    burst: bool = False,
    shutdown_timeout: float = 25.0,
    log_level: str = "INFO",
    nap_time: float = 0.1,
    reload: bool = False,
    isolate: bool = False,
    memory: int | None = None,
    health_file: str | None = None,
    health_port: int | None = None,
    health_host: str = "127.0.0.1",
    draw: bool = True,
    show_sign: Callable[[Callable[[], Sign]], AbstractContextManager[None]] | None = None,
) -> int:
    """Run a worker until it is stopped or done, and return the exit status.

    With *burst* it ends when nothing is ready, and with *draw* it shows its progress meanwhile, if
    stderr is a terminal. With *reload* it starts the whole program anew when a file of it changes.
    *show_sign* is given what tells how the worker is.
    """
    if memory is not None and not isolate:
        raise WrongCommand("--memory is for tasks with a process of their own: say --isolate, too.")
    if reload and isolate:
        raise WrongCommand("--reload does not see the files of isolated tasks: drop --isolate.")
    check_store(gator, burst)
    drawing = burst and draw and sys.stderr.isatty()
    worker = Worker(
        gator,
        max_tasks,
        list(queues) or ALL,
        nap_time,
        log_level.upper(),
        concurrency=concurrency,
        burst=burst,
        shutdown_timeout=shutdown_timeout,
        isolate=isolate,
        memory=memory,
    )
    worker.prepare()  # what follows has threads of its own
    with ExitStack() as stack:
        if health_file is not None:
            stack.enter_context(closing(HealthFile(worker.sign, health_file)))
        if health_port is not None:
            from ..health_server import HealthServer  # http.server: who is not probed needs none

            stack.enter_context(closing(HealthServer(worker.sign, health_port, health_host)))
        if show_sign is not None:
            stack.enter_context(show_sign(worker.sign))
        show = stack.enter_context(progress()) if drawing else _ignore
        show(worker)
        if not reload:
            return worker.run_forever()
        from ..reload import Reloader, start_anew

        with Reloader(worker) as reloader:
            status = worker.run_forever()
    if reloader.has_changed:
        start_anew()
    return status


def worker_options(command: F) -> F:
    """Give *command* the options of a worker; they are the keywords of `run_worker`."""
    for option in reversed(
        [
            click.option(
                "--queue",
                "-q",
                "queues",
                multiple=True,
                metavar="NAME",
                help="Take tasks from this queue; repeatable, the most important first.",
            ),
            click.option(
                "--concurrency",
                "-c",
                type=click.IntRange(min=1),
                default=1,
                show_default=True,
                help="Threads that run tasks side by side.",
            ),
            click.option(
                "--max-tasks",
                type=click.IntRange(min=0),
                default=0,
                help="End after so many tasks; 0 for never.",
            ),
            click.option("--burst", is_flag=True, help="Run what is ready, then end."),
            click.option(
                "--shutdown-timeout",
                type=click.FloatRange(min=0),
                default=25.0,
                show_default=True,
                metavar="SECONDS",
                help="How long running tasks may take to finish after SIGTERM or SIGINT.",
            ),
            click.option(
                "--isolate",
                is_flag=True,
                help="Run tasks in processes of their own, which may hang or crash.",
            ),
            click.option(
                "--memory",
                type=click.IntRange(min=1),
                metavar="MIB",
                help="With --isolate: how much memory a task may take; then it fails.",
            ),
            click.option(
                "--health-file",
                metavar="PATH",
                help="Touch this file every few seconds while the worker lives.",
            ),
            click.option(
                "--health-port",
                type=click.IntRange(0, 65535),
                metavar="PORT",
                help="Answer /health/live and /health/ready over HTTP.",
            ),
            click.option(
                "--health-host",
                default="127.0.0.1",
                show_default=True,
                metavar="ADDRESS",
                help="Where --health-port listens; 0.0.0.0 for the probes of Kubernetes.",
            ),
            click.option(
                "--nap-time",
                type=click.FloatRange(min=0),
                default=0.1,
                show_default=True,
                metavar="SECONDS",
                help="How often to look at a store that cannot wake its workers.",
            ),
            click.option(
                "--log-level",
                type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
                default="info",
                show_default=True,
                help="What is worth a line on stderr.",
            ),
            click.option(
                "--reload", is_flag=True, help="Start anew when a loaded file changes: development."
            ),
        ]
    ):
        command = option(command)
    return command


def check_store(gator: Gator, burst: bool) -> None:
    """Find out before anything is begun whether the store can be used at all."""
    if gator.conn_string == "locmem://":
        message = "locmem:// lives in one process: this worker sees only tasks that it makes itself"
        logging.getLogger("alligator").warning(message)
    # When it is away, a worker waits for it; but nobody wants to wait for a burst to begin. What
    # will not mend by itself, such as a folder that is not there, ends any worker.
    try:
        gator.client.ping()
    except BackendUnavailable:
        if burst:
            raise


def _ignore(worker: Worker) -> None:
    pass
