"""Check the tasks on the queues against the code that is here, without running them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from json import dumps
from typing import NamedTuple

import click

from .._runtime.failures import describe
from ..backends.base import Lease, Peeked
from ..exceptions import AlligatorException, PayloadError
from ..gator import Gator
from ..payload import envelope
from ..payload.arguments import misfit
from ..telemetry.logs import escape
from .errors import EXIT_FAILURE, WrongCommand
from .progress import track
from .selection import queues_of
from .source import check_exists
from .tables import print_table

COLUMNS = ("id", "queue", "state", "task", "problem")

MAX_NAMES = 1_000
"""How many functions are counted separately: garbage may name any number."""


class Problem(NamedTuple):
    """A task that would not run, and why."""

    task_id: str
    queue_name: str
    state: str
    name: str
    reason: str


class Checked(NamedTuple):
    """The result of a check."""

    number: int
    """How many tasks were checked."""
    problems: Sequence[Problem]
    """The first of the problems."""
    by_name: Counter[str]
    """How many problems each function has."""


def check(gator: Gator, queues: Sequence[str], limit: int) -> Checked:
    """Check the tasks of the queues, all by default; return up to *limit* problems."""
    names = list(queues) or queues_of(gator)
    each = [gator.client.stats(name) for name in names]
    total = sum(stats.ready + stats.scheduled + stats.dead for stats in each)
    count = 0
    problems: list[Problem] = []
    by_name: Counter[str] = Counter()
    for task in track(_peek(gator, names), total):
        count += 1
        reason = problem_of(gator, task)
        if reason:
            name = envelope.name_in(task.data)
            by_name[name if name in by_name or len(by_name) < MAX_NAMES else "others"] += 1
            if len(problems) < limit:
                problems.append(Problem(task.task_id, task.queue_name, task.state, name, reason))
    return Checked(count, problems, by_name)


def problem_of(gator: Gator, peeked: Peeked) -> str:
    """Return why a task would not run with the code that is here; empty if it would."""
    lease = Lease(*peeked[:3])
    try:
        task = gator.read(lease)
        task.check_call()
    except AlligatorException as error:
        return str(error)
    except Exception as error:  # a task class of the program may raise anything
        return describe(error)
    try:
        found = envelope.read(gator.guard.open(*lease[:3]))
    except PayloadError:  # a task class of the program may have a format of its own
        return ""
    return misfit(task.func, found) if task.func else ""


def _peek(gator: Gator, names: Sequence[str]) -> Iterator[Peeked]:
    for name in names:
        yield from gator.client.peek(name)


def show_check(gator: Gator, queues: Sequence[str], limit: int, *, as_json: bool) -> int:
    """Print what would not run, and return the exit status."""
    if not gator.client.can_peek:
        raise WrongCommand(
            f"{gator.store} cannot be checked: it does not show a task before it is reserved."
        )
    check_exists(gator.client)
    checked = check(gator, queues, limit)
    failed = checked.by_name.total()
    if as_json:
        problems = [dict(zip(COLUMNS, problem, strict=True)) for problem in checked.problems]
        click.echo(
            dumps({"checked": checked.number, "failed": failed, "problems": problems}, indent=2)
        )
    else:
        if failed:
            print_table(COLUMNS, checked.problems)
        if failed > len(checked.problems):
            click.echo(escape(f"There are more: {_counts(checked.by_name)}. Raise --limit."))
        click.echo(f"{failed:,} of {checked.number:,} tasks would not run with this code")
    return EXIT_FAILURE if failed else 0


def _counts(by_name: Counter[str]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in by_name.most_common(10))
