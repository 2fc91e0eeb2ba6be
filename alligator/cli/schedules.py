"""Commands for schedules: list them, run one now, forget one that was removed."""

from collections.abc import Callable, Sequence
from json import dumps

import click

from ..gator import Gator
from ..monitoring.stats import measure
from ..telemetry.logs import escape
from .errors import Failure, WrongCommand, beside, report_errors
from .source import IdsCommand, existing
from .suggest import CommandGroup, nearest
from .tables import age, print_table, since

_names_argument = click.argument("schedule_names", nargs=-1, metavar="[NAME]...")


def schedule_commands(get_gator: Callable[[], Gator]) -> click.Group:
    """Return the group of commands for schedules; each command calls *get_gator* once."""
    group = CommandGroup(
        "schedules",
        help="List schedules, run one now, or forget one that was removed from the program.",
        short_help="List schedules, or run one now.",
    )
    open_gator = existing(get_gator)
    for command in (_make_list(open_gator), _make_run(get_gator), _make_forget(open_gator)):
        group.add_command(command)
    return group


def _make_list(open_gator: Callable[[], Gator]) -> click.Command:
    @click.command(
        "list",
        help="List the schedules that workers keep in the store, and those of the program.",
        short_help="List the schedules, with their next and last runs.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @report_errors
    def list_(as_json: bool) -> None:
        gator = open_gator()
        (store,) = measure(gator)["stores"]
        found = store["schedules"]
        if as_json:
            click.echo(dumps(found, indent=2))
        elif found is None:
            click.echo(f"{gator.store} keeps no schedules")
        elif not found:
            click.echo("there are no schedules")
        else:
            columns = ["schedule", "when", "timezone", "function", "next", "last", "kept"]
            print_table(
                columns,
                [
                    [
                        *(each["name"], each["definition"], each["timezone"], each["function"]),
                        *(each["next"], each["last"] or "never"),
                        f"{age(each['seen_ago'])} ago" if each["seen_ago"] is not None else "never",
                    ]
                    for each in found
                ],
            )
            late = [each for each in found if each["next"] and since(each["next"]) > 0]
            for each in late:
                click.echo(f"{escape(each['name'])} is late by {age(since(each['next']))}")

    return list_


def _make_run(get_gator: Callable[[], Gator]) -> click.Command:
    @click.command(
        "run",
        cls=IdsCommand,
        help="Queue a task of each of these schedules now, in addition to its ticks.\n\n"
        "The schedules are those of the program; latergator needs --app for this.",
        short_help="Queue a task of a schedule now.",
    )
    @_names_argument
    @report_errors
    def run(schedule_names: Sequence[str]) -> None:
        gator = get_gator()
        if not gator.schedules:
            raise WrongCommand(
                "This Gator has no schedules: import the module that calls gator.cron or gator.every "
                "(latergator needs --app module:gator for this)."
            )
        _check_names(schedule_names, [*gator.schedules])
        for name in schedule_names:
            task = gator.run_schedule(name)
            click.echo(f"{escape(name)}: queued as {escape(task.task_id)}")

    return run


def _make_forget(open_gator: Callable[[], Gator]) -> click.Command:
    @click.command(
        "forget",
        cls=IdsCommand,
        help="Forget schedules that were removed from the program.\n\n"
        "The store does so by itself after a day. A schedule that a worker still keeps returns within a "
        "minute.",
        short_help="Forget a schedule that was removed from the program.",
    )
    @_names_argument
    @report_errors
    def forget(schedule_names: Sequence[str]) -> None:
        gator = open_gator()
        _check_names(schedule_names, [each.name for each in gator.client.schedules()])
        for name in schedule_names:
            gator.client.forget_schedule(name)
            click.echo(f"{escape(name)}: forgotten")

    return forget


def _check_names(names: Sequence[str], known: Sequence[str]) -> None:
    """Raise before anything is done if there is no name, or no schedule of one of them."""
    if not names:
        raise WrongCommand(f"Name a schedule: {beside('list')} shows them.")
    for name in names:
        if name not in known:
            near = nearest(name, known)
            hint = f" Did you mean {escape(near)}?" if near else ""
            raise Failure(f"There is no schedule {escape(name)}.{hint}")
