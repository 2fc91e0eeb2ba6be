"""Run one worker, or several in processes of their own."""

from contextlib import closing
from functools import partial
from typing import Any

import click

from ..constants import EXIT_USAGE
from ..exceptions import ConfigurationError
from ..gator import Gator
from ..telemetry.logs import escape, get_log
from .errors import F
from .worker import check_store, run_worker


def processes_option(command: F) -> F:
    """Add the option ``--processes``, whose value is an argument of `run_workers`."""
    return click.option(
        "--processes",
        "-p",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Worker processes; a process that dies is replaced.",
    )(command)


def run_workers(gator: Gator, processes: int, **options: Any) -> int:
    """Run workers until they are stopped or done, and return the exit status.

    *options* are those of `run_worker`.
    """
    if processes == 1:
        return run_worker(gator, **options)

    from ..workers.liveness import Liveness
    from ..workers.prefork import Prefork
    from ..workers.shared_health import SharedHealth

    get_log(options["log_level"].upper())
    check_store(gator, options["burst"], options["queues"])
    gator.client.close()  # each child opens connections of its own
    shared = SharedHealth(processes)
    wanted = [options.pop(name) for name in ("health_file", "health_port", "health_host")]
    liveness = Liveness(shared.health, *wanted)

    def work(slot: int) -> int:
        try:
            share_health = partial(shared.posting, slot)
            return run_worker(gator, **options, draw=False, share_health=share_health)
        except ConfigurationError as error:
            click.echo(f"Error: {escape(str(error))}", err=True)
            return EXIT_USAGE

    with closing(liveness):
        supervisor = Prefork(
            processes,
            work,
            liveness,
            shutdown_timeout=options["shutdown_timeout"],
            renew=options["max_tasks"] > 0 and not options["burst"],
        )
        return supervisor.run()
