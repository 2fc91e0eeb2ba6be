"""Commands for dead tasks: list, show, retry and drop; any command line can include them."""

from collections import Counter
from collections.abc import Callable, Sequence
from json import dumps

import click

from ..backends.base import DeadLetter
from ..gator import Gator
from ..telemetry.logs import escape
from .errors import F, Failure, report_errors
from .letters import describe_letter, print_letter, print_letters, summarize
from .selection import Selection
from .source import IdsCommand, existing
from .suggest import CommandGroup
from .worker import queues_option

_task_option = click.option(
    "--task",
    default="",
    metavar="NAME",
    help="Only tasks of this function: send_mail, or shop.mail.*",
)
_reason_option = click.option(
    "--reason", default="", metavar="TEXT", help="Only tasks whose reason contains this text."
)
_all_option = click.option(
    "--all",
    "every",
    is_flag=True,
    help="All dead tasks of all queues, or those that --queue, --task and --reason select.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_ids_argument = click.argument("task_ids", nargs=-1, metavar="[ID]...")

# Texts are passed as help=, because Python drops docstrings with -OO.


def queue_option(command: F) -> F:
    """Add the option ``--queue``, which limits a command to some queues."""
    return queues_option("Only this queue; repeatable.")(command)


def dead_commands(get_gator: Callable[[], Gator]) -> click.Group:
    """Return the group of commands for dead tasks; each command calls *get_gator* once."""
    group = CommandGroup(
        "dead",
        help="List, retry or drop dead tasks, which do not run again by themselves.\n\n"
        "An ID may be shortened to its first digits if no other dead task's id begins with them.",
        short_help="List, retry or drop the tasks that failed permanently.",
    )
    for make in (_make_list, _make_show, _make_retry, _make_drop):
        group.add_command(make(existing(get_gator)))
    return group


def _make_list(open_gator: Callable[[], Gator]) -> click.Command:
    @click.command(
        "list",
        help="List dead tasks of all queues, the latest of each queue first.",
        short_help="List dead tasks, the latest first.",
    )
    @queue_option
    @_task_option
    @_reason_option
    @click.option(
        "--limit", default=100, show_default=True, help="List at most this many of each queue."
    )
    @_json_option
    @report_errors
    def list_(queues: Sequence[str], task: str, reason: str, limit: int, as_json: bool) -> None:
        found = Selection(queues, task=task, reason=reason).find(open_gator(), limit)
        letters = [letter for letters in found.values() for letter in letters[:limit]]
        if as_json:
            click.echo(dumps([summarize(letter) for letter in letters], indent=2))
        elif letters:
            print_letters(letters)
            _print_skipped(found, limit)
        else:
            is_filtered = queues or task or reason
            click.echo("no dead task matches" if is_filtered else "no task is dead")

    return list_


def _make_show(open_gator: Callable[[], Gator]) -> click.Command:
    @click.command(
        "show",
        cls=IdsCommand,
        help="Show dead tasks with their calls, last errors and tracebacks.",
    )
    @queue_option
    @_json_option
    @_ids_argument
    @report_errors
    def show(queues: Sequence[str], as_json: bool, task_ids: Sequence[str]) -> None:
        selection = Selection.of_action(queues, task_ids, every=False)
        letters, missing = selection.choose(open_gator())
        if as_json:
            click.echo(dumps([describe_letter(letter) for letter in letters], indent=2))
        else:
            for letter in letters:
                print_letter(letter)
        _fail_if_missing(missing)

    return show


def _make_retry(open_gator: Callable[[], Gator]) -> click.Command:
    @click.command("retry", cls=IdsCommand, help="Put dead tasks back on their queues.")
    @queue_option
    @_task_option
    @_reason_option
    @_all_option
    @_ids_argument
    @report_errors
    def retry(
        queues: Sequence[str], task: str, reason: str, every: bool, task_ids: Sequence[str]
    ) -> None:
        selection = Selection.of_action(queues, task_ids, every=every, task=task, reason=reason)
        gator = open_gator()
        letters, missing = selection.choose(gator)
        _apply(gator.client.retry_dead, letters, "put back")
        _print_remaining(gator, every=every)
        _fail_if_missing(missing)

    return retry


def _make_drop(open_gator: Callable[[], Gator]) -> click.Command:
    @click.command("drop", cls=IdsCommand, help="Delete dead tasks.")
    @queue_option
    @_task_option
    @_reason_option
    @_all_option
    @click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
    @_ids_argument
    @report_errors
    def drop(
        queues: Sequence[str],
        task: str,
        reason: str,
        every: bool,
        yes: bool,
        task_ids: Sequence[str],
    ) -> None:
        selection = Selection.of_action(queues, task_ids, every=every, task=task, reason=reason)
        gator = open_gator()
        letters, missing = selection.choose(gator)
        if every and letters and not yes:
            _confirm_drop(letters)
        _apply(gator.client.drop_dead, letters, "dropped")
        _print_remaining(gator, every=every)
        _fail_if_missing(missing)

    return drop


def _confirm_drop(letters: Sequence[DeadLetter]) -> None:
    counts = Counter(letter.queue_name for letter in letters)
    tasks = _several(len(letters), "dead task")
    click.confirm(f"Delete {tasks} ({_by_queue(counts)})? This cannot be undone.", abort=True)


def _apply(action: Callable[[str, str], bool], letters: Sequence[DeadLetter], done: str) -> None:
    """Call *action* for each task, and print for how many it worked."""
    counts = Counter(
        letter.queue_name for letter in letters if action(letter.queue_name, letter.task_id)
    )
    where = f" ({_by_queue(counts)})" if counts else ""
    click.echo(f"{_several(counts.total(), 'task')} {done}{where}")


def _print_skipped(found: dict[str, list[DeadLetter]], limit: int) -> None:
    names = [name for name, letters in found.items() if len(letters) > limit]
    if names:
        click.echo(escape(f"There are more on {', '.join(names)}: raise --limit."))


def _print_remaining(gator: Gator, *, every: bool) -> None:
    """Print how many dead tasks remain after an action on many of them."""
    if not every:
        return
    names = dict.fromkeys([gator.queue_name, *gator.client.queue_names()])
    counts = Counter({name: dead for name in names if (dead := gator.client.stats(name).dead)})
    if counts:
        verb = "remains" if counts.total() == 1 else "remain"
        click.echo(f"{_several(counts.total(), 'dead task')} {verb} ({_by_queue(counts)})")


def _by_queue(counts: Counter[str]) -> str:
    return ", ".join(f"{escape(name)}: {count}" for name, count in sorted(counts.items()))


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _fail_if_missing(missing: Sequence[str]) -> None:
    if missing:
        raise Failure(f"no dead task has the id {', '.join(missing)}")
