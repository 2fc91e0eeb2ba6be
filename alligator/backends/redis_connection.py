"""Reach a Redis server: keep connections, bound every wait, put errors into words."""

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha1
from importlib import import_module
from importlib.resources import files
from time import monotonic, sleep
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from redis.exceptions import NoScriptError, RedisError, ResponseError

from ..exceptions import BackendError, BackendUnavailable
from .redis_dsn import read_dsn
from .redis_topology import NO_TEXT, Alone, find_topology, left

hiredis: Any = None
"""The parser in C, where it is installed."""
with suppress(ImportError):
    hiredis = import_module("hiredis")

CLOCK_SECONDS = 10.0
"""For how long a server's clock and ours are taken to run alike."""
DRIFT_SECONDS = 0.01
"""By how much they may differ after that, at most."""
MOVE_SECONDS = 0.02
"""How long to wait before asking again for what is on its way from one server to another."""
HANG_UP_SECONDS = 1.0
"""How long a server that we have hung up on may take to do so, too."""

# What to say of an error with one of these words in its name or, if the server sent it, in its
# text. The refusals are lasting, the troubles pass.
REFUSALS = {
    "MAXMEMORY": "is out of memory and took nothing: let workers drain it, or raise maxmemory",
    "AUTHENTICATION": "does not accept the user name and password of the DSN",
    "UNAUTHENTICATED": "wants a password: redis://:password@host",
    "NOPERM": "forbids its user a command or a key that Alligator needs (ACL)",
    "USER EXECUTING": "forbids its user a command or a key that Alligator needs (ACL)",
    "WRONGTYPE": "holds other data under our keys: choose a namespace of your own with ?ns=",
}
TROUBLES = {
    "LOADING": "is still loading its data",
    "TIMEOUT": "did not answer in time",
    "CONNECTION": "cannot be reached",
    "READONLY": "is a replica and takes no writes",
    "BUSY": "is busy with somebody's script",
    "MISCONF": "cannot write to its disk",
    "NOREPLICAS": "has too few replicas to take writes",
    "MASTERDOWN": "has lost its master",
    "CLUSTERDOWN": "has lost a part of its cluster",
    "TRYAGAIN": "is moving the queue to another node",
    "ASKERROR": "is moving the queue to another node",
    "MOVED": "has moved the queue to another node",
    "NON LOCAL KEY": "is moving the queue to another node",
    "UNBLOCKED": "is not the master any more",
}


class Script:
    """A script, and the name by which the server knows it once it has seen it."""

    def __init__(self, name: str) -> None:
        folder = files("alligator.backends") / "redis_scripts"
        parts = (folder / f"{part}.lua" for part in ("common", name))
        self.source: str = "\n".join(part.read_text("utf-8") for part in parts)
        self.sha: str = sha1(self.source.encode(), usedforsecurity=False).hexdigest()


class Call(NamedTuple):
    """A script with what it is to be run on."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | int] = ()

    @property
    def command(self) -> tuple[str | int, ...]:
        """The words of it, for a server that has seen the script."""
        script, keys, args = self
        return ("EVALSHA", script.sha, len(keys), *keys, *args)


class Connections:
    """The connections of a process to one master, used by one thread at a time each.

    redis-py makes them and speaks the protocol. Its pool is not used: that costs as much as the
    call itself, and takes locks, which a signal handler must not wait for.
    """

    def __init__(self, conn_string: str) -> None:
        dsn = read_dsn(conn_string)
        self.store: str = dsn.store
        self.namespace: str = dsn.namespace
        self.answer: float = dsn.answer
        self.topology: Alone = find_topology(dsn)
        self._forget()

    def _forget(self) -> None:
        """Begin anew: what a parent process has open is not for its child."""
        self._pid = os.getpid()
        self._idle: list[Any] = []
        self._waiting: dict[Any, list[float]] = {}
        """The connections that wait, and when each was interrupted."""
        self._clocks: WeakKeyDictionary[Any, tuple[float, float]] = WeakKeyDictionary()

    def close(self) -> None:
        """Close those that are idle."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.disconnect()

    def take(self, deadline: float) -> Any:
        """Take an idle connection, or make one; `exchange` gives it back."""
        if self._pid != os.getpid():
            self._forget()
        while self._idle:
            try:
                connection = self._idle.pop()
                # Nothing is left to read on it but its end, if the server has closed it.
                if not connection.can_read(0):
                    return connection
                connection.disconnect()
            except (IndexError, RedisError):
                pass
        return self.topology.connect(deadline)

    def exchange(self, connection: Any, command: Sequence[Any], timeout: float) -> Any:
        """Send *command* and wait for its reply; *connection* is idle afterwards, or closed."""
        try:
            reply = self._ask(connection, command, timeout)
        except ResponseError:
            self._idle.append(connection)
            raise
        self._idle.append(connection)
        return reply

    def _ask(self, connection: Any, command: Sequence[Any], timeout: float) -> Any:
        """Send *command* and wait for its reply; *connection* is closed when there is none."""
        data = packed(connection, command)
        try:
            connection._sock.settimeout(timeout)
            connection.send_packed_command([data], check_health=False)
            return connection.read_response()
        except ResponseError:
            raise
        except BaseException:
            self.give_up(connection)
            raise

    def _ask_all(
        self, connection: Any, commands: Sequence[Sequence[Any]], deadline: float
    ) -> list[Any]:
        """Send *commands* at once, and wait for their replies; an error is a reply, too.

        What is missing when *connection* is lost, and closed, is the error that came instead.
        """
        replies: list[Any] = []
        try:
            data = b"".join([packed(connection, command) for command in commands])
            connection._sock.settimeout(left(deadline))
            connection.send_packed_command([data], check_health=False)
            while len(replies) < len(commands):
                connection._sock.settimeout(left(deadline))
                try:
                    replies.append(connection.read_response())
                except ResponseError as error:
                    replies.append(error)
        except RedisError as error:
            self.give_up(connection)
            replies += [error] * (len(commands) - len(replies))
        except BaseException:
            self.give_up(connection)
            raise
        return replies

    def give_back(self, connection: Any) -> None:
        """Let others use a connection that is idle."""
        self._idle.append(connection)

    def give_up(self, connection: Any) -> None:
        """Close a connection on which a reply is missing."""
        connection.disconnect()
        if self.topology.moves:
            self.topology.lose()
            self.close()

    def server_time(
        self, connection: Any, moment: float, deadline: float = 0.0, *, anew: bool = False
    ) -> int:
        """Tell what the server's clock will say at *moment* of ours, at the least, in microseconds.

        Waits until *deadline* for it, or until that moment.
        """
        offset, measured = self._clocks.get(connection, (0.0, 0.0))
        if anew or not measured or monotonic() - measured > CLOCK_SECONDS:
            try:
                seconds, micros = self._ask(connection, ("TIME",), left(deadline or moment))
            except ResponseError:
                self._idle.append(connection)
                raise
            measured = monotonic()  # now it is later there than it said, never earlier
            offset = int(seconds) + int(micros) / 1e6 - measured - DRIFT_SECONDS
            self._clocks[connection] = offset, measured
        return int((moment + offset) * 1e6)

    def run(self, connection: Any, call: Call, deadline: float) -> Any:
        """Run a script, teaching it to the server if need be, and going after it if it moved."""
        command = call.command
        while True:
            try:
                return self.exchange(connection, command, left(deadline))
            except NoScriptError:
                command = ("EVAL", call.script.source, *command[2:])
            except ResponseError as error:
                if not self._is_elsewhere(error, deadline):
                    raise
            connection = self.take(deadline)

    def run_all(self, connection: Any, calls: Sequence[Call], deadline: float) -> list[Any]:
        """Run scripts in one trip; return for each its reply, or the error there was in its place."""
        if len(calls) == 1:
            try:
                return [self.run(connection, calls[0], deadline)]
            except RedisError as error:
                return [error]
        replies = self._ask_all(connection, [call.command for call in calls], deadline)
        if not is_lost(replies):
            self._idle.append(connection)
        for place, reply in enumerate(replies):
            # Not run, for a reason that passes when it is sent once more, by itself.
            if isinstance(reply, NoScriptError) or (
                isinstance(reply, ResponseError) and self._is_elsewhere(reply, deadline)
            ):
                try:
                    replies[place] = self.run(self.take(deadline), calls[place], deadline)
                except RedisError as error:
                    replies[place] = error
        return replies

    def _is_elsewhere(self, error: ResponseError, deadline: float) -> bool:
        """Tell whether what was refused with *error* may be sent once more, to the master as it is now.

        If so, a moment has passed.
        """
        if not self.topology.is_elsewhere(error):
            return False
        self.close()
        if monotonic() + MOVE_SECONDS > deadline:
            return False
        sleep(MOVE_SECONDS)
        return True

    def call(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[str | int] = (),
        patience: float = 0.0,
    ) -> Any:
        """Run a script on a connection of the list, its errors explained."""
        deadline = monotonic() + max(patience, self.answer)
        try:
            return self.run(self.take(deadline), Call(script, keys, args), deadline)
        except RedisError as error:
            raise self.explain(error) from error

    def command(self, *words: str) -> Any:
        """Run a plain command that changes nothing."""
        deadline = monotonic() + self.answer
        try:
            while True:
                try:
                    return self.exchange(self.take(deadline), words, left(deadline))
                except ResponseError as error:
                    if not self._is_elsewhere(error, deadline):
                        raise
        except RedisError as error:
            raise self.explain(error) from error

    def wait(
        self,
        command: Sequence[Any],
        timeout: float,
        wanted: Callable[[], bool],
        call: Call | None = None,
    ) -> list[Any]:
        """Run a command that blocks for up to *timeout* seconds, and *call* as soon as it ends.

        Returns their replies, errors among them; nothing when it is not *wanted* any more.
        """
        commands: list[Sequence[Any]] = [command]
        if call is not None:
            commands.append(call.command)
        connection = self.take(monotonic() + self.answer)
        # In this order: `interrupt` either finds the connection, or has changed what is wanted.
        interrupts = self._waiting[connection] = []
        replies: list[Any] = []
        try:
            is_wanted = wanted()
            if is_wanted:
                replies = self._ask_all(connection, commands, monotonic() + timeout + self.answer)
                if is_lost(replies):
                    raise replies[-1]
        except RedisError:
            if wanted() and not interrupts:
                raise
            return []
        finally:
            del self._waiting[connection]
        if is_wanted and wanted() and not interrupts:
            self._idle.append(connection)
        else:  # half of it is closed, or is about to be
            connection.disconnect()
        return replies

    def forgive(self, error: ResponseError) -> None:
        """Do nothing about *error* if it will not be there the next time; raise it if it will."""
        if not self._is_elsewhere(error, monotonic() + self.answer):
            raise error

    def interrupt(self) -> None:
        """End each `wait`. Takes no lock, so a signal handler may call it.

        A reply may be on its way that has a task in it: only our side is closed, and what comes
        before the server closes its own is read. If that does not, a later interrupt ends it.
        """
        for connection, interrupts in tuple(self._waiting.items()):
            sock = connection._sock  # looked at once, for its thread may be about to close it
            if connection.pid == os.getpid() and sock is not None:
                interrupts.append(monotonic())
                hangs = interrupts[-1] - interrupts[0] > HANG_UP_SECONDS
                with suppress(OSError):
                    how = socket.SHUT_RDWR if hangs else socket.SHUT_WR
                    socket.socket.shutdown(sock, how)

    def explain(self, error: RedisError) -> BackendError:
        """Put *error* into words that say what to do, and never the password."""
        sent = error if isinstance(error, ResponseError) else ""
        words = f"{type(error).__name__} {sent}".upper()
        if "READONLY" in words:
            self.close()  # so that the next use looks for the new master
        for word, saying in REFUSALS.items():
            if word in words:
                return BackendError(f"{self.store} {saying} ({error})")
        for word, saying in TROUBLES.items():
            if word in words:
                return BackendUnavailable(f"{self.store} {saying} ({error})")
        return BackendError(f"{self.store}: {error}")


def packed(connection: Any, command: Sequence[Any]) -> bytes:
    """Write *command* down as the protocol has it."""
    try:
        return _pack(connection, command)
    except UnicodeEncodeError:  # what came as no text goes back as it was
        raw = [a.encode(errors=NO_TEXT) if isinstance(a, str) else a for a in command]
        return _pack(connection, raw)


def _pack(connection: Any, command: Sequence[Any]) -> bytes:
    if hiredis is not None:  # redis-py ends there too, having looked at every word
        data: bytes = hiredis.pack_command(tuple(command))
        return data
    return b"".join(connection.pack_command(*command))


def is_lost(replies: Sequence[Any]) -> bool:
    """Whether the connection was lost before the last of them came."""
    return isinstance(replies[-1], RedisError) and not isinstance(replies[-1], ResponseError)
