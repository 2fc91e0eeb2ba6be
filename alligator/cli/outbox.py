"""Commands for the outbox in the application's database: its table, its content, its relay."""

from collections.abc import Callable
from json import dumps
from typing import Any

import click

from .._runtime.failures import describe
from ..commits.databases import ALIASES, DIALECTS, TABLE, ddl
from ..commits.outbox import MAX_COUNTED, Content
from ..commits.relay import Relay
from ..exceptions import AlligatorException
from ..gator import Gator
from ..telemetry.logs import escape
from .errors import Failure, WrongCommand, report_errors
from .suggest import CommandGroup

MAX_SHOWN = 20
"""How many refused commits are listed."""

NO_OUTBOX = (
    "This Gator has no outbox: the program gives it one with sqlalchemy_alligator.enlist(gator, "
    "sessions), gator.relay_from(connect) or, in Django, ALLIGATOR['DATABASES'] (latergator needs "
    "--app module:gator for this)."
)


def outbox_commands(get_gator: Callable[[], Gator]) -> click.Group:
    """Return the group of commands for the outbox; each command calls *get_gator* once."""
    group = CommandGroup(
        "outbox",
        help="Create, show or relay the outbox in the application's database.",
        short_help="Create, show or relay the outbox in the application's database.",
    )

    def find() -> list[Relay]:
        relays = get_gator().relays
        if not relays:
            raise WrongCommand(NO_OUTBOX)
        return relays

    for command in (_make_sql(), _make_status(find), _make_relay(find)):
        group.add_command(command)
    return group


def _make_sql() -> click.Command:
    @click.command("sql", help="Print the statement that creates the table of the outbox.")
    @click.option(
        "--dialect",
        type=click.Choice([*DIALECTS, *ALIASES]),
        required=True,
        help="The kind of the application's database.",
    )
    @click.option("--table", default=TABLE, show_default=True, help="The name of the table.")
    @report_errors
    def sql(dialect: str, table: str) -> None:
        click.echo(ddl(dialect, table), nl=False)

    return sql


def _make_status(find: Callable[[], list[Relay]]) -> click.Command:
    @click.command("status", help="Show how many commits wait in the outbox, and those refused.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @report_errors
    def status(as_json: bool) -> None:
        found = [_summarize(relay) for relay in find()]
        if as_json:
            click.echo(dumps(found, indent=2))
            return
        for each in found:
            if not each["needed"]:
                click.echo(f"{each['table']}: not needed, the store is in the same database")
                continue
            more = " or more" if each["commits"] == MAX_COUNTED else ""
            click.echo(
                f"{each['table']}: {each['commits']}{more} commits, the oldest {each['age']:.0f} s old; "
                f"{each['refused']} refused"
            )
            for commit in each["refused_commits"]:
                click.echo(
                    f"  {commit['commit_id']}: refused {commit['failures']} times: "
                    f"{escape(commit['error'])}"
                )

    return status


def _summarize(relay: Relay) -> dict[str, Any]:
    outbox = relay.outbox
    content, refused = Content(), []
    try:
        needed = relay.check()
        if needed:
            content, refused = outbox.content(), outbox.refused(MAX_SHOWN)
    except AlligatorException:
        raise
    except Exception as error:  # of any driver
        raise Failure(f"The outbox {outbox.table} cannot be read: {describe(error)}") from error
    finally:
        outbox.close()
    return {
        "table": outbox.table,
        "needed": needed,
        "commits": content.commits,
        "age": round(content.age, 3),
        "refused": content.refused,
        "refused_commits": [
            {"commit_id": commit_id, "failures": failures, "error": error}
            for commit_id, failures, error in refused
        ],
    }


def _make_relay(find: Callable[[], list[Relay]]) -> click.Command:
    @click.command(
        "relay",
        help="Push what is in the outbox until nothing is left that the store takes.\n\n"
        "Web processes and workers do this all the time; the command is for one that does not run.",
        short_help="Push what is in the outbox.",
    )
    @report_errors
    def relay() -> None:
        settled = 0
        for each in find():
            try:
                if not each.check():
                    continue
                while number := each.run_once():
                    settled += number
            except AlligatorException:
                raise
            except Exception as error:  # of any driver
                message = f"The outbox {each.outbox.table} cannot be relayed: {describe(error)}"
                raise Failure(message) from error
            finally:
                each.outbox.close()
        click.echo(f"{settled} commits relayed")

    return relay
