"""Keep tasks on the local disk while their store cannot be reached, and push them later.

Other queues call this `on_commit_error="spool"`. A commit that does not reach its store is written to
a file and counts as queued. The relay, one thread in one of the processes that share the file, sends
the commits in their order.

Each attempt of the relay has its own commit id, which is stored in the file before it is used. The
next attempt, maybe of another process after a crash, first lets the store abort the last one. So a
push that is still in progress cannot arrive later, and a late abort cannot undo a newer push. A
commit under an id that somebody chose is sent under that id: it is repeated, never undone.
"""

import json
import os
import time
from logging import ERROR, INFO, Logger, getLogger
from threading import Event, Thread, current_thread
from time import monotonic
from typing import Final, Literal, NamedTuple
from weakref import WeakSet

from .._runtime.backoff import pause_after
from .._runtime.forks import register_fork_hooks
from ..backends.base import Client, Commit, Message, redact
from ..backends.sqlite_backend.database import Database
from ..exceptions import BackendError, BackendUnavailable, ConfigurationError

MAX_TASKS = 100_000
MAX_BYTES = 256 * 1024 * 1024
MAX_AGE = 24 * 3600.0
"""The limits of a spool; the age is that of its oldest commit, in seconds."""

PATIENCE = 1.0
"""How many seconds a commit waits for the lock of the file."""

CLAIM_SECONDS = 5.0
"""For how long a process is the relay; it can renew its claim."""

PUSH_SECONDS, BYTES_A_SECOND, LONGEST_PUSH = 2.0, 100_000, 600.0
"""How many seconds an attempt may take: the first number, plus the time for its bytes; the maximum."""

FIRST_DELAY, LONGEST_DELAY = 2.0, 3600.0
"""After how many seconds a commit that its store rejected is tried again; doubled each time."""

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0
"""How many seconds the relay waits if it cannot reach the store, at first and at most."""

APPLICATION_ID: Final = 0x616C7370
"""The identifier in the header of the file: "alsp"."""

VERSION_1: Final = (
    # `commit_id` is the id of the last attempt to push the tasks; at first that of the request.
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

VERSION_2: Final = (
    # A commit that its store rejects, or that cannot be read, is tried again later.
    "ALTER TABLE kept ADD COLUMN failures INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE kept ADD COLUMN not_before REAL NOT NULL DEFAULT 0",
    "ALTER TABLE kept ADD COLUMN error TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX kept_failures ON kept (failures) WHERE failures > 0",
)

VERSION_3: Final = (
    # A commit under an id that somebody chose is sent under that id, and never undone.
    "ALTER TABLE kept ADD COLUMN undo INTEGER NOT NULL DEFAULT 1",
)

VERSIONS: Final = (VERSION_1, VERSION_2, VERSION_3)
"""The statements that lead from one version of the tables to the next: to change them, add an entry."""

TOTAL = """
    SELECT commits, tasks, bytes, ifnull((SELECT at FROM kept ORDER BY seq LIMIT 1), 0),
        (SELECT count(*) FROM kept WHERE failures > 0),
        ifnull((SELECT error FROM kept WHERE failures > 0 ORDER BY failures DESC LIMIT 1), '')
    FROM total
"""
ADD = """
    INSERT INTO kept (at, origin, commit_id, tasks, bytes, data, undo) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
FIND = "SELECT seq, commit_id FROM kept WHERE origin = ?"
FIRST = """
    SELECT seq, commit_id, data, failures, undo FROM kept WHERE not_before <= ? ORDER BY seq LIMIT 1
"""
IS_EMPTY = "SELECT NOT EXISTS (SELECT 1 FROM kept)"
SET_ASIDE = "UPDATE kept SET failures = ?, not_before = ?, error = ? WHERE seq = ?"
BEGIN = "UPDATE kept SET commit_id = ? WHERE seq = ? AND commit_id = ?"
REMOVE = "DELETE FROM kept WHERE seq = ? AND commit_id = ?"
# A claim that ends far in the future is ignored: the clock was set back.
CLAIM = """
    UPDATE relay SET owner = :owner, until = :now + :seconds
    WHERE owner = :owner OR until <= :now OR until > :now + :longest
"""
LEAVE = "UPDATE relay SET until = 0 WHERE owner = ?"

log: Logger = getLogger("alligator")


class Content(NamedTuple):
    """The content of a spool."""

    commits: int = 0
    tasks: int = 0
    bytes: int = 0
    age: float = 0.0
    """The age of its oldest commit, in seconds."""
    failing: int = 0
    """How many of its commits the store rejected, or could not be read."""
    error: str = ""
    """The error of the failing commit that was tried most often."""


class Spool:
    """A file for the commits that do not reach their store.

    It is full when it holds `max_tasks` or `max_bytes`, or a commit older than `max_age` seconds. If
    it or the disk is full, a push fails as without a spool. A commit that it holds is kept until it
    has been sent. Several processes may share a file; several stores may not.

    A process starts its relay at its first push, or when its health is read.
    """

    def __init__(self, path: str, client: Client) -> None:
        if not isinstance(path, str) or "://" in path or not path or path.endswith("/"):
            shown = redact(str(path))
            raise ConfigurationError(
                f"spool must be the path of a file, such as /var/lib/app/spool.db, not {shown!r}."
            )
        self.path: str = os.path.realpath(path)
        self.max_tasks = MAX_TASKS
        self.max_bytes = MAX_BYTES
        self.max_age = MAX_AGE
        self._client = client
        self._database = Database(
            self.path, VERSIONS, timeout=PATIENCE, application_id=APPLICATION_ID
        )
        self._relay: Thread | None = None
        self._suspect = 0
        """The commit whose last push failed although the store replied to a ping right after it."""
        self.is_awake: bool = False
        self._is_closed = False
        self._has_ended = Event()
        for other in list(_spools):
            if other.path == self.path and other._client.conn_string != client.conn_string:
                raise ConfigurationError(
                    f"{path} is already the spool of another store: choose another file."
                )
        _spools.add(self)
        register_fork_hooks(self)

    def prepare(self, commit: Commit) -> None:
        """Prepare for a push of *commit*, which may have to be kept."""
        if not self.is_awake:
            self.wake()
        # The id is created here, not by the client: the relay must know what may be in progress.
        commit.commit_id = commit.commit_id or os.urandom(12).hex()

    def keep(self, commit: Commit, error: BackendUnavailable) -> None:
        """Keep a commit in the file, because its push raised *error*.

        Its outcome is then None: duplicates among kept tasks are not known yet. Raises *error* if it
        cannot be kept either.
        """
        assert commit.commit_id is not None
        try:
            self._keep(commit, commit.commit_id)
        except BackendError as failure:
            message = f"{str(error).rstrip('.')}. The spool did not accept the tasks: {failure}"
            unavailable = BackendUnavailable(message)
            unavailable.retry_after = error.retry_after
            raise unavailable from error
        commit.outcome, commit.is_settled = None, True
        self._start(error)

    def abort(self, commit: Commit) -> None:
        """Undo a push, in the spool or in the store."""
        commit_id, found = commit.commit_id, None
        assert commit_id is not None
        if os.path.exists(self.path):
            with self._database.write(durable=True) as connection:
                found = connection.execute(FIND, (commit_id,)).fetchone()
                if found is not None:
                    connection.execute(REMOVE, found)
        if found is None:
            self._client.abort(commit_id, commit.messages)
        elif found[1] != commit_id:  # the relay may be sending it now
            self._client.abort(found[1], commit.messages)

    def wake(self) -> None:
        """Start the relay in this process if the file holds commits."""
        self.is_awake, self._is_closed = True, False
        try:
            if self.content().commits:
                self._start("they were kept by an earlier process or outage")
        except BackendError as error:
            self.is_awake = False
            log.error(
                "the spool %s cannot be read; the next push tries again: %s", self.path, error
            )

    def close(self) -> None:
        """End the relay of this process and close the file; a later push opens both again."""
        relay, self._is_closed = self._relay, True
        if relay is not None and relay is not current_thread():
            self._has_ended.set()
            relay.join(PATIENCE)
        self.is_awake = False
        self._database.close()

    def after_fork_in_child(self) -> None:
        """Start the relay at the next push if it is needed: its thread exists only in the parent."""
        self.is_awake = False
        self._has_ended = Event()

    def content(self) -> Content:
        """Return what the file holds, at a cost that does not grow with it."""
        if not os.path.exists(self.path):
            return Content()
        with self._database.read() as connection:
            return _content(connection.execute(TOTAL).fetchone())

    def warnings(self) -> list[str]:
        """Return warnings about the location of the file; raise if the file cannot be used."""
        return self._database.warnings()

    def why_full(self, content: Content, tasks: int = 1, length: int = 0) -> str:
        """Return why the spool accepts no more tasks, or an empty text."""
        if content.tasks + tasks > self.max_tasks:
            return f"the spool is full: it holds {content.tasks:,} tasks"
        if content.bytes + length > self.max_bytes:
            return f"the spool is full: it holds {content.bytes:,} bytes"
        if content.age > self.max_age:
            return (
                f"the spool accepts no more tasks: the oldest has waited for {content.age:,.0f} s"
            )
        return ""

    def _keep(self, commit: Commit, commit_id: str) -> None:
        messages, now = commit.messages, time.time()
        data = json.dumps(
            [(*message[:3], now + message.delay, *message.more) for message in messages]
        )
        with self._database.write(durable=True) as connection:
            if not commit.undo and connection.execute(FIND, (commit_id,)).fetchone():
                return  # it was kept before, and this repeats it
            content = _content(connection.execute(TOTAL).fetchone())
            full = self.why_full(content, len(messages), len(data))
            if full:
                raise BackendError(full)
            row = now, commit_id, commit_id, len(messages), len(data), data, commit.undo
            connection.execute(ADD, row)

    # The relay.

    def _start(self, reason: object) -> None:
        if self._relay is not None and self._relay.is_alive():  # a forked child has none
            return
        self._has_ended.clear()
        log.warning("tasks are kept in %s until their store can be reached: %s", self.path, reason)
        self._relay = Thread(target=self._run, name="alligator-relay", daemon=True)
        try:
            self._relay.start()
        except RuntimeError as error:  # the interpreter is shutting down, or has too many threads
            log.error("could not start a relay; another process sends the tasks: %s", error)

    def _run(self) -> None:
        owner = os.urandom(8).hex()
        sent = failures = 0
        while not self._is_closed:
            try:
                found = self._send_one(owner)
            except Exception as error:  # of any kind: the relay must not end while commits are kept
                found = "busy"
                level = INFO if isinstance(error, BackendUnavailable) else ERROR
                log.log(
                    level, "tasks in %s cannot be pushed yet; trying again: %s", self.path, error
                )
            if found == "empty":
                break
            if found == "sent":
                sent += 1
                failures = 0
            else:
                failures += 1
                self._has_ended.wait(pause_after(failures, FIRST_PAUSE, LONGEST_PAUSE))
        if sent:
            log.warning("%d commits that were kept in %s are now on their queues", sent, self.path)
        self._relay = None
        if not self._is_closed:
            self.wake()  # a commit may have been added meanwhile

    def _send_one(self, owner: str) -> Literal["sent", "empty", "busy"]:
        """Send the oldest commit that is due, unless another process is the relay."""
        now = time.time()
        with self._database.write(durable=False) as connection:
            first = connection.execute(FIRST, (now,)).fetchone()
            if first is None:
                if connection.execute(IS_EMPTY).fetchone() == (1,):
                    connection.execute(LEAVE, (owner,))
                    return "empty"
                return "busy"
            patience = min(PUSH_SECONDS + len(first[2]) / BYTES_A_SECOND, LONGEST_PUSH)
            claim = {
                "owner": owner,
                "now": now,
                "seconds": CLAIM_SECONDS + patience,
                "longest": CLAIM_SECONDS + LONGEST_PUSH,
            }
            if not connection.execute(CLAIM, claim).rowcount:
                return "busy"
        seq, last, data, failures, undo = first
        try:
            return self._attempt(seq, last, data, patience, undo=bool(undo))
        except Exception as error:
            if isinstance(error, BackendError):
                self._client.ping()  # raises if the store cannot be reached
            if isinstance(error, BackendUnavailable) and not failures and self._suspect != seq:
                # The store may have come back between push and ping. So the commit keeps its place
                # until a second push fails while the store replies.
                self._suspect = seq
                return "busy"
            self._set_aside(seq, failures + 1, f"{type(error).__name__}: {error}")
            return "sent"

    def _attempt(
        self, seq: int, last: str, data: str, patience: float, *, undo: bool
    ) -> Literal["sent", "busy"]:
        now = time.time()
        messages = [
            Message(queue_name, task_id, payload, max(0.0, due - now), *more)
            for queue_name, task_id, payload, due, *more in json.loads(data)
        ]
        attempt = last
        if undo:
            self._client.abort(last, messages)
            attempt = os.urandom(12).hex()
        with self._database.write(durable=False) as connection:
            if not connection.execute(BEGIN, (attempt, seq, last)).rowcount:
                return "busy"  # this process was suspended, and another one has taken over
        commit = Commit(messages, attempt, undo=undo, deadline=monotonic() + patience)
        [pushed] = self._client.push_commits([commit])
        if isinstance(pushed, BaseException):
            raise pushed
        for place in pushed or ():
            log.warning(
                "%s was kept in %s and is dropped: a task with its id already waits on %s",
                *(messages[place].task_id, self.path, messages[place].queue_name),
            )
        with self._database.write(durable=False) as connection:
            connection.execute(REMOVE, (seq, attempt))
        return "sent"

    def _set_aside(self, seq: int, failures: int, error: str) -> None:
        """Postpone a commit that cannot be sent now, so that it does not block the others."""
        delay = pause_after(failures, FIRST_DELAY, LONGEST_DELAY)
        with self._database.write(durable=False) as connection:
            connection.execute(SET_ASIDE, (failures, time.time() + delay, error[:500], seq))
        log.error(
            "commit %d in %s could not be sent; it is tried again in %.0f s, the others are sent "
            "meanwhile: %s",
            *(seq, self.path, delay, error),
        )


def _content(row: tuple[int, int, int, float, int, str]) -> Content:
    commits, tasks, size, since, failing, error = row
    age = max(0.0, time.time() - since) if commits else 0.0
    return Content(commits, tasks, size, age, failing, error)


_spools: WeakSet[Spool] = WeakSet()
