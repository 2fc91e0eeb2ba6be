"""Commands for whole queues: pause, resume, and wait until one is empty."""

from collections.abc import Callable
from math import inf, isnan
from time import monotonic, sleep
from typing import Any

import click

from ..constants import MAX_SECONDS
from ..gator import Gator
from ..telemetry.logs import escape
from .errors import F, Failure, WrongCommand, beside, report_errors
from .selection import queues_of
from .source import IdsCommand, existing
from .suggest import nearest
from .tables import age

POLL_SECONDS = 0.5
"""How often `drain` looks at the queue."""

PAUSE_HELP = """Pause these queues: no worker begins their tasks until they are resumed.

Running tasks continue, and the queues accept new tasks. The store keeps the pause, so it also applies
to workers that start later.
"""

DRAIN_HELP = """Wait until no task of these queues is ready or running.

Scheduled tasks that are not due yet do not count. Exits with 1 after --timeout, and at once if a queue
is paused and has ready tasks.
"""


class SecondsRange(click.FloatRange):
    """A number in a range; click lets NaN pass any range."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return the number."""
        number: float = super().convert(value, param, ctx)
        if isnan(number):
            self.fail(f"{value} is not a number of seconds.", param, ctx)
        return number


def names_argument(command: F) -> F:
    """Add the argument of names of queues to *command*, as `queue_words`."""
    return click.argument("queue_words", nargs=-1, metavar="[QUEUE]...")(command)


def pausing_commands(get_gator: Callable[[], Gator]) -> list[click.Command]:
    """Return the commands ``pause``, ``resume`` and ``drain``; each calls *get_gator* once."""
    return [make(existing(get_gator)) for make in (_make_pause, _make_resume, _make_drain)]


def _make_pause(open_gator: Callable[[], Gator]) -> click.Command:
    @click.command(
        "pause",
        cls=IdsCommand,
        help=PAUSE_HELP,
        short_help="Pause a queue: no worker begins its tasks.",
    )
    @click.option(
        "--for",
        "seconds",
        type=SecondsRange(min=0, max=MAX_SECONDS, min_open=True),
        metavar="SECONDS",
        help="Resume by itself after this time.",
    )
    @names_argument
    @report_errors
    def pause(seconds: float | None, queue_words: tuple[str, ...]) -> None:
        gator = open_gator()
        for name in names_of(gator, queue_words):
            gator.pause(name, until=seconds)
            end = "" if seconds is None else f" for {age(seconds)}"
            click.echo(f"{escape(name)} is paused{end}; {tasks_left(gator, name)}")

    return pause


def _make_resume(open_gator: Callable[[], Gator]) -> click.Command:
    @click.command("resume", cls=IdsCommand, help="End the pause of these queues.")
    @names_argument
    @report_errors
    def resume(queue_words: tuple[str, ...]) -> None:
        gator = open_gator()
        for name in names_of(gator, queue_words):
            was_paused = gator.stats(name).paused
            gator.resume(name)
            how = "is resumed" if was_paused else "was not paused"
            click.echo(f"{escape(name)} {how}; {tasks_left(gator, name)}")

    return resume


def _make_drain(open_gator: Callable[[], Gator]) -> click.Command:
    @click.command(
        "drain", cls=IdsCommand, help=DRAIN_HELP, short_help="Wait until a queue is empty."
    )
    @click.option(
        "--timeout",
        type=SecondsRange(min=0, max=MAX_SECONDS),
        metavar="SECONDS",
        help="Give up after this time; by default never.",
    )
    @names_argument
    @report_errors
    def drain(timeout: float | None, queue_words: tuple[str, ...]) -> None:
        gator = open_gator()
        end = inf if timeout is None else monotonic() + timeout
        for name in names_of(gator, queue_words):
            _wait_until_empty(gator, name, end)
            click.echo(f"{escape(name)} is empty; {tasks_left(gator, name)}")

    return drain


def _wait_until_empty(gator: Gator, name: str, end: float) -> None:
    while (stats := gator.stats(name)).ready + stats.leased:
        if stats.paused and stats.ready and not stats.leased:
            raise Failure(f"{escape(name)} is paused: {beside('resume')} {escape(name)}")
        if monotonic() >= end:
            raise Failure(f"{escape(name)} is not empty after this time; {tasks_left(gator, name)}")
        sleep(max(0.0, min(POLL_SECONDS, end - monotonic())))


def names_of(gator: Gator, words: tuple[str, ...]) -> list[str]:
    """Return the queues that the command names; raise before anything is done if one is unknown."""
    if not words:
        raise WrongCommand(f"Name a queue: {beside('stats')} shows them.")
    known = queues_of(gator)
    for name in words:
        if name not in known:
            near = nearest(name, known)
            hint = f" Did you mean {escape(near)}?" if near else ""
            raise Failure(f"There is no queue {escape(name)} in {gator.store}.{hint}")
    return list(dict.fromkeys(words))


def tasks_left(gator: Gator, name: str) -> str:
    """Return how many tasks the queue has, such as "3 ready, 1 leased, 0 scheduled"."""
    stats = gator.stats(name)
    return ", ".join(
        f"{getattr(stats, state):,} {state}" for state in ("ready", "leased", "scheduled")
    )
