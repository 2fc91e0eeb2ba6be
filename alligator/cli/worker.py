"""Options and start of a worker; any command line can include them."""

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack

import click

from .._runtime import streams
from .._runtime.exits import exit_within
from ..constants import ALL, UNRUNNABLE_SECONDS
from ..exceptions import BackendUnavailable, InvalidOption
from ..gator import Gator
from ..options import check_name
from ..telemetry.logs import escape, get_log
from ..workers import Worker
from ..workers.liveness import Liveness, WorkerHealth
from .errors import F, WrongCommand
from .progress import progress
from .suggest import nearest


def run_worker(
    gator: Gator,
    *,
    queues: Sequence[str] = (),
    concurrency: int | None = None,
    max_tasks: int = 0,
    burst: bool = False,
    shutdown_timeout: float = 25.0,
    log_level: str = "INFO",
    nap_time: float = 0.1,
    isolate: bool = False,
    memory: int | None = None,
    loop: str = "asyncio",
    blocking_after: float = 1.0,
    unrunnable_after: float = UNRUNNABLE_SECONDS,
    keep_schedules: bool | None = None,
    health_file: str | None = None,
    health_port: int | None = None,
    health_host: str = "127.0.0.1",
    draw: bool = True,
    share_health: Callable[[Callable[[], WorkerHealth]], AbstractContextManager[None]]
    | None = None,
) -> int:
    """Run a worker until it is stopped or done, and return the exit status.

    With *burst* it ends when nothing is ready, and with *draw* it shows its progress meanwhile, if
    stderr is a terminal. *share_health* is called with a function that returns the health of the worker.
    """
    streams.open_missing()
    if memory is not None and not isolate:
        raise WrongCommand(
            "--memory limits tasks that run in processes of their own: add --isolate."
        )
    get_log(log_level.upper())  # so that a problem before its start is logged, too
    check_store(gator, burst, () if share_health is not None else queues)
    drawing = burst and draw and streams.is_terminal(sys.stderr)
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
        loop=loop,
        blocking_after=blocking_after,
        unrunnable_after=unrunnable_after,
        keep_schedules=keep_schedules,
    )
    worker.prepare()  # before the code below starts threads
    with ExitStack() as stack:
        if health_file is not None or health_port is not None:
            liveness = Liveness(worker.health, health_file, health_port, health_host)
            stack.enter_context(liveness.served())
        if share_health is not None:
            stack.enter_context(share_health(worker.health))
        show = stack.enter_context(progress()) if drawing else _ignore
        show(worker)
        status = worker.run_forever()
    exit_within(worker.time_left(), status)
    return status


def split_names(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> list[str]:
    """Return the names of queues; each value may be several names separated by commas."""
    try:
        return [check_name("--queue", name.strip()) for given in value for name in given.split(",")]
    except InvalidOption as error:
        raise WrongCommand(str(error)) from error


def queues_option(help: str) -> Callable[[F], F]:
    """Return the option ``--queue``, which may be given several times."""
    return click.option(
        "--queue", "-q", "queues", multiple=True, metavar="NAME", callback=split_names, help=help
    )


def worker_options(command: F) -> F:
    """Add the options of a worker to *command*; they are the keyword arguments of `run_worker`."""
    for option in reversed(
        [
            queues_option("Take tasks from this queue; repeatable, the most important first."),
            click.option(
                "--concurrency",
                "-c",
                type=click.IntRange(min=1),
                help="How many tasks run at once. By default one plain function, in a thread, and up "
                "to 100 coroutines.",
            ),
            click.option(
                "--max-tasks",
                type=click.IntRange(min=0),
                default=0,
                help="Stop after this many tasks; 0 for no limit.",
            ),
            click.option("--burst", is_flag=True, help="Run the tasks that are ready, then stop."),
            click.option(
                "--shutdown-timeout",
                type=click.FloatRange(min=0),
                default=25.0,
                show_default=True,
                metavar="SECONDS",
                help="How long running tasks may take after SIGTERM or SIGINT.",
            ),
            click.option(
                "--isolate",
                is_flag=True,
                help="Run tasks in child processes, so that a task may hang or crash.",
            ),
            click.option(
                "--memory",
                type=click.IntRange(min=1),
                metavar="MIB",
                help="With --isolate: the memory limit of a task; above it the task fails.",
            ),
            click.option(
                "--loop",
                type=click.Choice(["asyncio", "uvloop"]),
                default="asyncio",
                show_default=True,
                help="The event loop for coroutines.",
            ),
            click.option(
                "--blocking-after",
                type=click.FloatRange(min=0),
                default=1.0,
                show_default=True,
                metavar="SECONDS",
                help="Warn of a coroutine that blocks the event loop for longer than this.",
            ),
            click.option(
                "--unrunnable-after",
                type=click.FloatRange(min=0),
                default=UNRUNNABLE_SECONDS,
                show_default=True,
                metavar="SECONDS",
                help="How long a task that no worker can import is retried before it is dead.",
            ),
            click.option(
                "--schedules/--no-schedules",
                "keep_schedules",
                default=None,
                help="Whether to queue the ticks of the program's schedules. By default yes, if "
                "the store recognises the ticks of other workers.",
            ),
            click.option(
                "--health-file",
                metavar="PATH",
                help="Touch this file every few seconds while the worker is alive.",
            ),
            click.option(
                "--health-port",
                type=click.IntRange(0, 65535),
                metavar="PORT",
                help="Serve /health/live and /health/ready over HTTP on this port.",
            ),
            click.option(
                "--health-host",
                default="127.0.0.1",
                show_default=True,
                metavar="ADDRESS",
                help="The address for --health-port; 0.0.0.0 for probes of Kubernetes.",
            ),
            click.option(
                "--nap-time",
                type=click.FloatRange(min=0),
                default=0.1,
                show_default=True,
                metavar="SECONDS",
                help="How often to poll a store that cannot wake its workers.",
            ),
            click.option(
                "--log-level",
                type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
                default="info",
                show_default=True,
                help="The lowest level that is logged to stderr.",
            ),
        ]
    ):
        command = option(command)
    return command


def check_store(gator: Gator, burst: bool, queues: Sequence[str] = ()) -> None:
    """Raise before the start if the store or its *queues* cannot be used.

    A worker waits for a store that it cannot reach, but with *burst* that is an error. Errors that
    do not go away by themselves, such as a missing folder, are always raised.
    """
    if gator.conn_string == "locmem://":
        message = "locmem:// lives in one process: this worker sees only tasks that it makes itself"
        logging.getLogger("alligator").warning(message)
    try:
        gator.client.register_queues(queues or [gator.queue_name])
        gator.client.ping()
        _warn_of_new(queues, [gator.queue_name, *gator.client.queue_names()])
    except BackendUnavailable:
        if burst:
            raise


def _warn_of_new(queues: Sequence[str], known: Sequence[str]) -> None:
    """Warn of queues that no task was ever put on: their names may be mistyped."""
    for name in queues:
        if name not in known:
            near = nearest(name, known)
            logging.getLogger("alligator").warning(
                "there is no queue %s yet; this worker waits for its first task. %s",
                escape(name),
                f"Did you mean {escape(near)}?" if near else "Check its name.",
            )


def _ignore(worker: Worker) -> None:
    pass
