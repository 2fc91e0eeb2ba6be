"""The Lua scripts, and calls of them."""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple


class Script:
    """A script with its digest, by which the server knows it once it has run it."""

    def __init__(self, name: str, *shared: str) -> None:
        folder = files("alligator.backends.redis_backend") / "scripts"
        parts = (folder / f"{part}.lua" for part in ("common", *shared, name))
        self.source: str = "\n".join(part.read_text("utf-8") for part in parts)
        self.sha: str = sha1(self.source.encode(), usedforsecurity=False).hexdigest()


class Call(NamedTuple):
    """A script with its keys and arguments."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | int] = ()

    @property
    def command(self) -> tuple[str | int, ...]:
        """The words of the command, for a server that knows the script."""
        script, keys, args = self
        return ("EVALSHA", script.sha, len(keys), *keys, *args)
