"""Deal with the dead, for any command line."""

from collections.abc import Callable, Sequence
from json import dumps

import click

from ..backends.base import DeadLetter
from ..gator import Gator
from ..logs import escape
from ..stats import moment
from ..tasks import name_in
from .errors import Failure, WrongCommand, plainly
from .tables import print_table


def dead_commands(get_gator: Callable[[], Gator]) -> click.Group:
    """Make the group of commands that deal with dead tasks; *get_gator* is called by each of them."""
    queue_option = click.option(
        "--queue",
        "-q",
        "queues",
        multiple=True,
        metavar="NAME",
        help="Only this queue; repeatable.",
    )
    ids_argument = click.argument("task_ids", nargs=-1, metavar="[ID]...")
    all_option = click.option(
        "--all", "every", is_flag=True, help="All dead tasks of --queue, or of the default queue."
    )

    @click.group(short_help="List, retry or drop the tasks that failed for good.")
    def dead() -> None:
        """Deal with tasks that will not run again by themselves."""

    @dead.command("list", short_help="List dead tasks, the latest first.")
    @queue_option
    @click.option("--limit", default=100, show_default=True, help="At most so many of each queue.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @plainly
    def list_(queues: Sequence[str], limit: int, as_json: bool) -> None:
        """List dead tasks, of every queue unless told otherwise, the latest first."""
        gator = get_gator()
        letters = [
            letter
            for name in queues or _queues_of(gator)
            for letter in gator.client.dead_letters(name, limit)
        ]
        summaries = [_summary(letter) for letter in letters]
        if as_json:
            click.echo(dumps(summaries, indent=2))
        elif summaries:
            print_table(list(summaries[0]), [list(each.values()) for each in summaries])
        else:
            click.echo("no task is dead")

    @dead.command()
    @queue_option
    @ids_argument
    @plainly
    def show(queues: Sequence[str], task_ids: Sequence[str]) -> None:
        """Show why a task is dead: its last error and traceback."""
        _need_ids(task_ids, every=False)
        gator = get_gator()
        letters = {
            letter.task_id: letter
            for name in queues or _queues_of(gator)
            for letter in _all_dead(gator, name)
        }
        for task_id in task_ids:
            if task_id in letters:
                for name, value in _summary(letters[task_id]).items():
                    click.echo(f"{name}: {escape(value)}")
                for line in letters[task_id].traceback.splitlines():
                    click.echo(f"    {escape(line)}")
        _end_if(missing=[task_id for task_id in task_ids if task_id not in letters])

    @dead.command()
    @queue_option
    @all_option
    @ids_argument
    @plainly
    def retry(queues: Sequence[str], every: bool, task_ids: Sequence[str]) -> None:
        """Put dead tasks back on their queues."""
        _need_ids(task_ids, every)
        gator = get_gator()
        chosen = _choose(gator, queues, task_ids, every)
        _treat(chosen, gator.client.retry_dead, "put back")

    @dead.command()
    @queue_option
    @all_option
    @click.option("--yes", "-y", is_flag=True, help="Do not ask.")
    @ids_argument
    @plainly
    def drop(queues: Sequence[str], every: bool, yes: bool, task_ids: Sequence[str]) -> None:
        """Throw dead tasks away."""
        _need_ids(task_ids, every)
        gator = get_gator()
        chosen = _choose(gator, queues, task_ids, every)
        if every and chosen and not yes:
            names = ", ".join(escape(name) for name in queues or [gator.queue_name])
            count = len(chosen)
            click.confirm(f"Throw away {count} dead tasks of {names} for good?", abort=True)
        _treat(chosen, gator.client.drop_dead, "dropped")

    return dead


def _queues_of(gator: Gator) -> list[str]:
    return list(dict.fromkeys([gator.queue_name, *gator.client.queue_names()]))


def _all_dead(gator: Gator, queue_name: str) -> list[DeadLetter]:
    return gator.client.dead_letters(queue_name, gator.client.stats(queue_name).dead)


def _summary(letter: DeadLetter) -> dict[str, str]:
    return {
        "id": letter.task_id,
        "queue": letter.queue_name,
        "task": name_in(letter.data),
        "died": moment(letter.died_at),
        "reason": letter.reason,
    }


def _need_ids(task_ids: Sequence[str], every: bool) -> None:
    if bool(task_ids) == every:
        raise WrongCommand("Name tasks by their ids, or say --all: one of the two.")


def _choose(
    gator: Gator, queues: Sequence[str], task_ids: Sequence[str], every: bool
) -> list[tuple[str, Sequence[str]]]:
    """List ids, each with the queues it may be on."""
    if every:
        return [
            (letter.task_id, [name])
            for name in queues or [gator.queue_name]
            for letter in _all_dead(gator, name)
        ]
    names = list(queues) or _queues_of(gator)
    return [(task_id, names) for task_id in task_ids]


def _treat(
    chosen: Sequence[tuple[str, Sequence[str]]], act: Callable[[str, str], bool], done: str
) -> None:
    missing = [
        task_id for task_id, names in chosen if not any(act(name, task_id) for name in names)
    ]
    count = len(chosen) - len(missing)
    click.echo(f"{count} {'task' if count == 1 else 'tasks'} {done}")
    _end_if(missing=missing)


def _end_if(*, missing: Sequence[str]) -> None:
    if missing:
        raise Failure(f"no dead task goes by the id {', '.join(missing)}")
