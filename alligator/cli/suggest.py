"""Suggestions for a word that is neither a command nor a DSN."""

import os
import re
from collections.abc import Collection, Iterable

import click

from ..backends.base import redact
from ..telemetry.logs import escape
from .errors import WrongCommand

OTHER_WORDS = {
    "queues": "stats",
    "workers": "stats",
    "status": "stats",
    "info": "stats",
    "inspect": "stats",
    "ping": "health",
    "run": "worker",
    "start": "worker",
    "work": "worker",
    "consume": "worker",
    "failed": "dead list",
    "list": "dead list",
    "show": "dead show",
    "retry": "dead retry",
    "requeue": "dead retry",
    "drop": "dead drop",
    "purge": "dead drop",
}
"""The commands for words that other queues use."""

FILE_ENDINGS = (".db", ".sqlite", ".sqlite3")

_ADDRESS = re.compile(r"localhost|[\w.-]+:\d{2,5}(/\d+)?")
"""A host with a port: the part after the colon is too short for a password."""


class CommandGroup(click.Group):
    """A group that suggests a command for an unknown word."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; for an unknown word raise an error that suggests one."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise WrongCommand(no_command(args[0], self.commands, ctx.command_path))
        return super().resolve_command(ctx, args)


def no_command(word: str, commands: Collection[str], path: str) -> str:
    """Return the error for a *word* that is none of the *commands* of the command at *path*."""
    # The word may be a DSN, perhaps a mistyped one.
    return f"{escape(redact(word))!r} is not a command. {_suggest(word, commands, path)}"


def no_dsn(word: str, commands: Collection[str], path: str) -> str:
    """Return the error for a *word* where a command or a DSN is expected."""
    dsn = _dsn_like(word)
    if not dsn and redact(word) != word:  # a part of it may be secret, so it is not shown
        return "The DSN has no scheme: begin it with redis://, sqlite:// or sqs://."
    suggestion = f"Did you mean {escape(dsn)}?" if dsn else _suggest(word, commands, path)
    return f"{escape(word)!r} is neither a command nor a DSN. {suggestion}"


def _suggest(word: str, commands: Collection[str], path: str) -> str:
    near = OTHER_WORDS.get(word, "")
    if near.partition(" ")[0] not in commands:
        near = nearest(word, commands)
    return f"Did you mean: {path} {near}?" if near else f"Commands: {', '.join(commands)}."


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the one of *words* that is most similar to *word*; empty if none is."""
    from difflib import get_close_matches  # imported only after a mistake

    return next(iter(get_close_matches(word, list(words), 1)), "")


def _dsn_like(word: str) -> str:
    """Return the DSN that *word* is without its scheme; empty if it may contain a password."""
    if _ADDRESS.fullmatch(word):
        return f"redis://{word}"
    is_file = word.endswith(FILE_ENDINGS) or os.sep in word or os.path.isfile(word)
    return f"sqlite://{word}" if is_file and redact(word) == word else ""
