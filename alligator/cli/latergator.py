"""Be latergator: a worker unless told otherwise."""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from .. import __version__
from ..constants import EXIT_USAGE
from ..exceptions import ConfigurationError
from ..logs import escape, get_log
from .dead import dead_commands
from .errors import WrongCommand, plainly
from .show import show_health, show_stats
from .source import from_source, gator_of_command, health_of_command, import_named
from .worker import check_store, run_worker, worker_options


class Latergator(click.Group):
    """A group whose first command is run when none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``worker`` before arguments that begin with no command and are no option of our own."""
        own = {*self.commands, "--help", "-h", "--version"}
        return super().parse_args(ctx, args if args and args[0] in own else ["worker", *args])


@click.group(
    cls=Latergator,
    subcommand_metavar="[COMMAND] [DSN] [OPTIONS]",
    options_metavar="",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 all went well; 1 a task was not finished in time, the store fails, or "
    "what was named is not there; 2 the command cannot work as it was given.",
)
@click.version_option(__version__, message="Alligator %(version)s")
def main() -> None:
    """Run background tasks.

    Without a COMMAND it is a worker:

    \b
        latergator redis://localhost:6379/0 --concurrency 4

    Without a DSN the environment variable ALLIGATOR_CONN is asked. See latergator worker --help for
    the options. A secret that signs tasks is read from ALLIGATOR_SECRET only.
    """


@main.command(short_help="Run tasks until stopped; the default.")
@worker_options
@click.option(
    "--processes",
    "-p",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Worker processes; one that dies is replaced.",
)
@click.option(
    "--import", "modules", multiple=True, metavar="MODULE", help="Import this first; repeatable."
)
@click.option(
    "--allow",
    multiple=True,
    metavar="PATTERN",
    help="Run only such functions, as in myapp.*; repeatable (ALLIGATOR_ALLOW).",
)
@plainly
def worker(processes: int, modules: Sequence[str], allow: Sequence[str], **options: Any) -> None:
    """Run tasks until stopped; this is what latergator does without a command.

    SIGTERM and ^C end it gracefully: running tasks are finished, the rest is given back.
    """
    if options["reload"] and processes > 1:
        raise WrongCommand("--reload is for one process.")
    gator = gator_of_command(allow=allow, is_async=None)
    for module in modules:
        import_named(module)
    if processes == 1:
        sys.exit(run_worker(gator, **options))

    from ..processes import Processes
    from ..shared_signs import SharedSigns

    check_store(gator, options["burst"])
    gator.client.close()  # each child opens connections of its own
    signs = SharedSigns(processes)
    wanted = [options.pop(name) for name in ("health_file", "health_port", "health_host")]

    def work(place: int) -> int:
        try:
            show_sign = partial(signs.posting, place)
            return run_worker(gator, **options, draw=False, show_sign=show_sign)
        except ConfigurationError as error:
            click.echo(f"Error: {escape(str(error))}", err=True)
            return EXIT_USAGE

    get_log(options["log_level"].upper())
    with signs.shown(*wanted):
        supervisor = Processes(
            processes,
            work,
            shutdown_timeout=options["shutdown_timeout"],
            renew=options["max_tasks"] > 0 and not options["burst"],
        )
        sys.exit(supervisor.run())


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@plainly
def stats(as_json: bool) -> None:
    """Show what is on the queues, and who works on them."""
    show_stats(gator_of_command(), as_json=as_json)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print application/health+json.")
@plainly
def health(as_json: bool) -> None:
    """Show how the store is; exit with 1 if it does not answer.

    --app may name a Health of your program: its limits and checks are asked, too.
    """
    sys.exit(show_health(health_of_command(), as_json=as_json))


dead: click.Group = dead_commands(gator_of_command)
main.add_command(dead)
for _command in (worker, stats, health, *dead.commands.values()):
    from_source(_command)
