"""The protocol of Redis, RESP 2: calls of scripts, commands as bytes, and bytes as replies."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha1
from importlib import import_module
from importlib.resources import files
from typing import Any

from redis import exceptions as errors

hiredis: Any = None
"""The parser in C, if it is installed."""
with suppress(ImportError):
    hiredis = import_module("hiredis")

NO_TEXT = "surrogateescape"
"""How bytes that are not UTF-8 are decoded: their task is dead-lettered and does not stop the worker."""

NOTHING = object()
"""What a reader returns if no complete reply has arrived."""

KINDS: dict[str, Callable[[str], errors.RedisError]] = {
    "ASK": errors.AskError,
    "CLUSTERDOWN": errors.ClusterDownError,
    "LOADING": errors.BusyLoadingError,
    "MASTERDOWN": errors.MasterDownError,
    "MOVED": errors.MovedError,
    "NOAUTH": errors.AuthenticationError,
    "NOPERM": errors.NoPermissionError,
    "NOSCRIPT": errors.NoScriptError,
    "OOM": errors.OutOfMemoryError,
    "READONLY": errors.ReadOnlyError,
    "TRYAGAIN": errors.TryAgainError,
    "WRONGPASS": errors.AuthenticationError,
}
"""The exceptions for the first words of errors."""


class Script:
    """A Lua script with its digest, by which the server knows it once it has run it."""

    def __init__(self, name: str, *shared: str) -> None:
        folder = files("alligator.backends.redis_backend") / "scripts"
        parts = (folder / f"{part}.lua" for part in ("common", *shared, name))
        self.source: str = "\n".join(part.read_text("utf-8") for part in parts)
        self.sha: str = sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str], args: Sequence[str | int] = ()) -> "Call":
        """Return a call with these keys and arguments."""
        return Call(self, ["EVALSHA", self.sha, len(keys), *keys, *args])


class Call:
    """A call of a script, or without one a command."""

    def __init__(self, script: Script | None, command: list[str | int]) -> None:
        self.script = script
        self.command = command
        """The words of the command, for a server that knows the script."""

    @property
    def with_source(self) -> list[str | int]:
        """The words of the command, for a server that does not know the script."""
        assert self.script is not None
        return ["EVAL", self.script.source, *self.command[2:]]


def packed(command: Sequence[Any]) -> bytes:
    """Return *command* encoded for the protocol."""
    if hiredis is not None:
        try:  # not suppress(), which costs more
            data: bytes = hiredis.pack_command(tuple(command))
            return data
        except UnicodeEncodeError:  # bytes that are not UTF-8 go back unchanged
            pass
    words = [
        word if isinstance(word, bytes) else str(word).encode("utf-8", NO_TEXT) for word in command
    ]
    parts = (b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n%b" % (len(words), b"".join(parts))


def new_reader() -> Any:
    """Return what turns bytes into replies; an error of the server is a reply, too.

    Its `gets` raises `InvalidResponse` for bytes that are not of the protocol.
    """
    if hiredis is None:
        return Reader()
    return hiredis.Reader(
        protocolError=errors.InvalidResponse,
        replyError=read_error,
        encoding="utf-8",
        errors=NO_TEXT,
        notEnoughData=NOTHING,
    )


def read_error(text: str) -> errors.RedisError:
    """Return the exception for an error of the server."""
    code, _, rest = text.partition(" ")
    if code in KINDS:
        return KINDS[code](rest)
    if "max number of clients" in text:
        return errors.ConnectionError(text)
    if code == "ERR" and ("AUTH" in text or "invalid password" in text):
        return errors.AuthenticationError(rest)
    return errors.ResponseError(text)


class Reader:
    """A slower reader, which is used if hiredis is not installed."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: "bytes | bytearray | memoryview", start: int = 0, size: int = -1) -> None:
        """Add bytes that have arrived."""
        self._data += data[start : len(data) if size < 0 else start + size]

    def gets(self) -> Any:
        """Return the next reply, `NOTHING` if it is not complete."""
        try:
            reply, end = self._read(0)
        except EOFError:
            return NOTHING
        del self._data[:end]
        return reply

    def _read(self, start: int) -> tuple[Any, int]:
        """Return the reply that begins at *start*, and where it ends; raise `EOFError`."""
        stop = self._data.find(b"\r\n", start)
        if stop < 0:
            raise EOFError
        kind, line = chr(self._data[start]), self._data[start + 1 : stop].decode("utf-8", NO_TEXT)
        end = stop + 2
        if kind in "+-":
            return (line if kind == "+" else read_error(line)), end
        if kind not in "$*:" or not line.removeprefix("-").isdecimal():
            raise errors.InvalidResponse(f"not a reply: {bytes(self._data[start:stop])!r:.100}")
        size = int(line)
        if kind == ":":
            return size, end
        if size < 0:
            return None, end
        if kind == "$":
            if len(self._data) < end + size + 2:
                raise EOFError
            return self._data[end : end + size].decode("utf-8", NO_TEXT), end + size + 2
        replies = []
        for _ in range(size):
            reply, end = self._read(end)
            replies.append(reply)
        return replies, end
