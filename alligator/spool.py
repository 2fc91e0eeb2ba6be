"""Keep tasks on this machine's disk while their store is away, and send them on when it is back.

This is the `on_commit_error="spool"` of other queues. A commit that does not reach its store is
written to a file and counts as queued. A relay, one thread in one of the processes that share the
file, sends the commits on in their order.

An attempt of the relay has a commit id of its own, noted in the file before it is used. Whoever
makes the next attempt, be it another process after a crash, has the store abort the last one
first: so what is still under way cannot arrive later, and nobody's late undoing takes away what
has been sent since.
"""

import json
import os
import time
from collections.abc import Sequence
from logging import ERROR, INFO, Logger, getLogger
from threading import Thread
from typing import Final, Literal, NamedTuple
from weakref import WeakSet

from .backends.base import Message
from .backends.sqlite_database import Database
from .breaker import Pusher
from .exceptions import BackendError, BackendUnavailable, ConfigurationError
from .forks import tell_of_forks

MAX_TASKS = 100_000
MAX_BYTES = 256 * 1024 * 1024
MAX_AGE = 24 * 3600.0
"""What a spool holds at most; with one that is older, in seconds, in it, it takes no more."""

PATIENCE = 1.0
"""How many seconds a commit waits for its turn to write."""

TURN_SECONDS = 5.0
"""For how long a process is the one that relays, unless it says so again."""

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0
"""How many seconds the relay leaves a store alone that is away, at first and at most."""

APPLICATION_ID: Final = 0x616C7370
"""The mark in the header of the file: "alsp"."""

VERSION_1: Final = (
    # `commit_id` is the last that the tasks were pushed under, at first that of the request.
    """
    CREATE TABLE kept (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        origin TEXT NOT NULL,
        commit_id TEXT NOT NULL,
        tasks INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        data TEXT NOT NULL
    )
    """,
    "CREATE INDEX kept_origin ON kept (origin)",
    "CREATE TABLE total (commits INTEGER NOT NULL, tasks INTEGER NOT NULL, bytes INTEGER NOT NULL)",
    "INSERT INTO total VALUES (0, 0, 0)",
    """
    CREATE TRIGGER kept_added AFTER INSERT ON kept BEGIN
        UPDATE total SET commits = commits + 1, tasks = tasks + new.tasks, bytes = bytes + new.bytes;
    END
    """,
    """
    CREATE TRIGGER kept_gone AFTER DELETE ON kept BEGIN
        UPDATE total SET commits = commits - 1, tasks = tasks - old.tasks, bytes = bytes - old.bytes;
    END
    """,
    "CREATE TABLE relay (owner TEXT NOT NULL, until REAL NOT NULL)",
    "INSERT INTO relay VALUES ('', 0)",
)

VERSIONS: Final = (VERSION_1,)
"""What leads from one version of the tables to the next: to change them, add an entry."""

TOTAL = (
    "SELECT commits, tasks, bytes, ifnull((SELECT at FROM kept ORDER BY seq LIMIT 1), 0) FROM total"
)
ADD = "INSERT INTO kept (at, origin, commit_id, tasks, bytes, data) VALUES (?, ?, ?, ?, ?, ?)"
FIND = "SELECT seq, commit_id FROM kept WHERE origin = ?"
FIRST = "SELECT seq, commit_id, data FROM kept ORDER BY seq LIMIT 1"
BEGIN = "UPDATE kept SET commit_id = ? WHERE seq = ? AND commit_id = ?"
REMOVE = "DELETE FROM kept WHERE seq = ? AND commit_id = ?"
# Also when it ends far in the future: then the clock was set back.
CLAIM = """
    UPDATE relay SET owner = :owner, until = :now + :turn
    WHERE owner = :owner OR until <= :now OR until > :now + :turn
"""
LEAVE = "UPDATE relay SET until = 0 WHERE owner = ?"

log: Logger = getLogger("alligator")


class Content(NamedTuple):
    """What a spool holds."""

    commits: int = 0
    tasks: int = 0
    bytes: int = 0
    age: float = 0.0
    """Seconds since its oldest came."""


class Spool:
    """A file for the commits that do not reach their store.

    It takes them until it holds `max_tasks`, `max_bytes`, or one that is older than `max_age`
    seconds; then, or when the disk is full, a push fails as if there were no spool. What it has taken
    it keeps until it is sent. Several processes may share a file, but not several stores.

    A process begins to relay when it pushes for the first time, or is asked for its health.
    """

    def __init__(self, pusher: Pusher, path: str, conn_string: str) -> None:
        if "://" in path or not path or path.endswith("/"):
            raise ConfigurationError(
                f"spool is the path of a file, such as /var/lib/app/spool.db, not {path!r}."
            )
        self.path: str = os.path.realpath(path)
        self.max_tasks = MAX_TASKS
        self.max_bytes = MAX_BYTES
        self.max_age = MAX_AGE
        self._pusher = pusher
        self._conn_string = conn_string
        self._database = Database(
            self.path, VERSIONS, patience=PATIENCE, application_id=APPLICATION_ID
        )
        self._relay: Thread | None = None
        self._is_awake = False
        for other in list(_spools):
            if other.path == self.path and other._conn_string != conn_string:
                raise ConfigurationError(
                    f"{path} is the spool of another store: name another file."
                )
        _spools.add(self)
        tell_of_forks(self)

    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        """Push, or keep *messages* when the store is away; raise what it raised if that fails too."""
        if not self._is_awake:
            self.wake()
        # Never one of the client's own making: the relay has to know what may be under way.
        commit_id = commit_id or os.urandom(12).hex()
        try:
            self._pusher.push_many(messages, commit_id=commit_id)
        except BackendUnavailable as error:
            try:
                self._keep(messages, commit_id)
            except BackendError as trouble:
                said = f"{str(error).rstrip('.')}. Nor are the tasks kept for later: {trouble}"
                refusal = BackendUnavailable(said)
                refusal.retry_after = error.retry_after
                raise refusal from error
            self._start(error)

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        """Take back a push, be it in the spool or in the store."""
        found = None
        if os.path.exists(self.path):
            with self._database.write(durable=True) as connection:
                found = connection.execute(FIND, (commit_id,)).fetchone()
                if found is not None:
                    connection.execute(REMOVE, found)
        if found is None:
            self._pusher.abort(commit_id, messages)
        elif found[1] != commit_id:  # the relay may be sending it
            self._pusher.abort(found[1], messages)

    def wake(self) -> None:
        """Begin to relay, in this process, if there is anything to be sent."""
        self._is_awake = True
        try:
            if self.content().commits:
                self._start("they were kept earlier")
        except BackendError as error:
            self._is_awake = False
            log.error("the spool cannot be read: %s", error)

    def after_fork_in_child(self) -> None:
        """Look again at the next push whether there is anything to be sent: the relay is not here."""
        self._is_awake = False

    def content(self) -> Content:
        """Measure what it holds, at a cost that does not grow with it."""
        if not os.path.exists(self.path):
            return Content()
        with self._database.read() as connection:
            return _content(connection.execute(TOTAL).fetchone())

    def warnings(self) -> list[str]:
        """Say what of the file's place could lose what is in it; raise when it cannot be used."""
        return self._database.warnings()

    def why_full(self, content: Content, tasks: int = 1, length: int = 0) -> str:
        """Say why it takes no more; nothing while it does."""
        if content.tasks + tasks > self.max_tasks:
            return f"the spool is full: it holds {content.tasks:,} tasks"
        if content.bytes + length > self.max_bytes:
            return f"the spool is full: it holds {content.bytes:,} bytes"
        if content.age > self.max_age:
            return f"the spool takes no more: its oldest task waits for {content.age:,.0f} s"
        return ""

    def _keep(self, messages: Sequence[Message], commit_id: str) -> None:
        now = time.time()
        data = json.dumps([(*message[:3], now + message.delay) for message in messages])
        with self._database.write(durable=True) as connection:
            content = _content(connection.execute(TOTAL).fetchone())
            full = self.why_full(content, len(messages), len(data))
            if full:
                raise BackendError(full)
            connection.execute(ADD, (now, commit_id, commit_id, len(messages), len(data), data))

    # The relay.

    def _start(self, reason: object) -> None:
        if self._relay is not None and self._relay.is_alive():  # a forked child has none
            return
        log.warning("tasks wait in %s for their store: %s", self.path, reason)
        self._relay = Thread(target=self._run, name="alligator-relay", daemon=True)
        try:
            self._relay.start()
        except RuntimeError as error:  # the interpreter is going down, or has too many
            log.error("they are sent on by another process, or the next: %s", error)

    def _run(self) -> None:
        owner = os.urandom(8).hex()
        pause = FIRST_PAUSE
        sent = 0
        while True:
            try:
                found = self._send_one(owner)
            except Exception as error:  # whatever it is, what is kept has to go out one day
                found = "busy"
                level = INFO if isinstance(error, BackendUnavailable) else ERROR
                log.log(level, "what is kept in %s cannot be sent on yet: %s", self.path, error)
            if found == "empty":
                break
            if found == "sent":
                sent += 1
                pause = FIRST_PAUSE
            else:
                time.sleep(pause)  # by its full name, as gevent replaces it there
                pause = min(2 * pause, LONGEST_PAUSE)
        if sent:
            log.warning("%d commits that were kept in %s are on their queues", sent, self.path)
        self._relay = None
        self.wake()  # one may have come since

    def _send_one(self, owner: str) -> Literal["sent", "empty", "busy"]:
        """Send the oldest on, unless another process is at it."""
        with self._database.write(durable=False) as connection:
            first = connection.execute(FIRST).fetchone()
            if first is None:
                connection.execute(LEAVE, (owner,))
                return "empty"
            claim = {"owner": owner, "now": time.time(), "turn": TURN_SECONDS}
            if not connection.execute(CLAIM, claim).rowcount:
                return "busy"
        seq, last, data = first
        now = time.time()
        messages = [
            Message(queue_name, task_id, payload, max(0.0, due - now))
            for queue_name, task_id, payload, due in json.loads(data)
        ]
        self._pusher.abort(last, messages)
        attempt = os.urandom(12).hex()
        with self._database.write(durable=False) as connection:
            if not connection.execute(BEGIN, (attempt, seq, last)).rowcount:
                return "busy"  # this process was asleep, and another has taken over
        self._pusher.push_many(messages, commit_id=attempt)
        with self._database.write(durable=False) as connection:
            connection.execute(REMOVE, (seq, attempt))
        return "sent"


def _content(row: tuple[int, int, int, float]) -> Content:
    commits, tasks, size, since = row
    return Content(commits, tasks, size, max(0.0, time.time() - since) if commits else 0.0)


_spools: WeakSet[Spool] = WeakSet()
