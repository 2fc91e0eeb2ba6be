"""``manage.py alligator``: the commands of latergator, for the gator of the settings."""

from argparse import REMAINDER, ArgumentParser
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import click
from django.core.management.base import BaseCommand, CommandError, CommandParser

from alligator.cli import PROGRAM_HELP
from django_alligator.commands import commands


class Command(BaseCommand):
    """Passes its words to the commands, which have options of their own."""

    help = PROGRAM_HELP
    requires_system_checks = []

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command line; its errors and exit statuses are those of latergator."""
        # What every command of manage.py takes, and manage.py itself has read.
        common = ArgumentParser(add_help=False, allow_abbrev=False)
        common.add_argument("--settings")
        common.add_argument("--pythonpath")
        _, words = common.parse_known_args(argv[2:])
        commands()(words, prog_name=f"{Path(argv[0]).name} {argv[1]}")

    def print_help(self, prog_name: str, subcommand: str) -> None:
        """Print what ``manage.py help alligator`` shows."""
        commands()(["--help"], prog_name=f"{prog_name} {subcommand}", standalone_mode=False)

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the words of ``call_command("alligator", "worker", "--burst")``."""
        parser.add_argument("words", nargs=REMAINDER)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run a command for `call_command`; raises `CommandError` if its exit status is not 0."""
        out: Any = self.stdout
        err: Any = self.stderr
        out.ending = err.ending = ""  # click ends the lines
        try:
            with redirect_stdout(out), redirect_stderr(err):
                commands()(options["words"], prog_name="alligator", standalone_mode=False)
        except click.ClickException as error:
            message = error.format_message()
            raise CommandError(message, returncode=error.exit_code) from error
        except click.Abort as error:
            raise CommandError("Aborted.") from error
        except SystemExit as end:
            if end.code:
                words = " ".join(options["words"])
                raise CommandError(
                    f"alligator {words} ended with status {end.code}.", returncode=int(end.code)
                ) from None
