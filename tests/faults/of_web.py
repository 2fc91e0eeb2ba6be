"""What can happen to a web server: it is killed before, during and after a commit, or frozen."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import monotonic

from tests.faults.books import BROKEN
from tests.faults.catalogue import EVERYWHERE, fault
from tests.faults.house import Broken, House, eventually
from tests.faults.proxy import Proxy


def kill_while_asked(house: House, ready: Callable[[], object], **query: object) -> tuple[str, ...]:
    """Ask for tasks, kill the server once *ready* holds, and return the ids of the tasks."""
    client = Thread(target=lambda: house.ask(3, **query))
    client.start()
    eventually(ready, "the request comes to the place where it hangs", seconds=10)
    house.strikes += 1
    house.mark()
    house.end_web()
    client.join()
    answer = house.books.answers[-1]
    if answer.status != BROKEN:
        raise Broken(f"the client was answered {answer.status} by a server that was killed")
    return answer.ids


@fault(*EVERYWHERE, "sqs", quick=True)
def web_killed(house: House) -> None:
    """Kill the web server at random moments while clients ask, and start it again."""
    house.web()
    house.worker()
    with house.traffic(4):
        for _ in range(2):
            house.pause(0.2, 0.6)
            house.strikes += 1
            house.end_web()
            house.mark()
            house.web()


@fault()
def web_told_to_stop(house: House) -> None:
    """Send the web server SIGTERM while clients ask, as a deployment does, and start it again."""
    house.worker()
    with house.traffic(4):
        for house.site in ("flask", "starlette"):
            house.web()
            house.pause(0.3, 0.6)
            house.strikes += 1
            house.end_web(signal.SIGTERM)
            house.mark()


@fault()
def web_killed_before_the_commit(house: House) -> None:
    """Kill the web server when a view has started its tasks: none of them may be queued."""
    for house.site in ("flask", "starlette"):
        house.web()
        hanging = Path(f"{house.books.ledger}.hanging")
        hanging.unlink(missing_ok=True)
        ids = kill_while_asked(house, hanging.exists, hang="before")
        if house.store.census().keys() & {*ids}:
            raise Broken("I2: tasks are queued whose view did not get to its end")


@fault()
def web_killed_after_the_commit(house: House) -> None:
    """Kill the web server after a commit and before the response: the tasks are all queued."""
    for house.site in ("flask", "starlette"):
        house.web()
        hanging = Path(f"{house.books.ledger}.hanging")
        hanging.unlink(missing_ok=True)
        ids = kill_while_asked(house, hanging.exists, hang="after")
        if not {*ids} <= house.store.census().keys():
            raise Broken("I1: tasks of a commit are gone")


@fault()
def web_killed_during_the_commit(house: House) -> None:
    """Kill the web server while its commit waits for the store: all of its tasks run, or none."""
    for house.site in ("flask", "starlette"):
        ids = (
            kill_in_commit_sqlite(house) if house.kind == "sqlite" else kill_in_commit_redis(house)
        )
        found = len(house.store.census().keys() & {*ids})
        if found not in (0, len(ids)):
            raise Broken(f"{found} of {len(ids)} tasks of a commit are queued")
        house.notes.append(f"{house.site}: {'all' if found else 'none'} queued")


def kill_in_commit_sqlite(house: House) -> tuple[str, ...]:
    house.web()
    other = house.sqlite.connect()
    other.execute("BEGIN IMMEDIATE")
    try:
        return kill_while_asked(house, waited(0.5))
    finally:
        other.execute("ROLLBACK")
        other.close()


def waited(seconds: float) -> Callable[[], bool]:
    """Make a condition that holds so many seconds from now."""
    end = monotonic() + seconds
    return lambda: monotonic() > end


def kill_in_commit_redis(house: House) -> tuple[str, ...]:
    with Proxy(house.valkey.server) as proxy:
        house.dsn = proxy.dsn
        house.web()
        house.ask(1)  # so that there is a connection, and what is held back is the push
        with proxy.stall():  # so that what it has sent arrives when nobody waits for an answer
            seen = proxy.passed
            ids = kill_while_asked(house, lambda: proxy.passed > seen)
        house.pause(0.2, 0.2)
    house.dsn = house.store.dsn
    return ids


@fault()
def web_frozen(house: House) -> None:
    """Freeze all processes of the web server for longer than a commit may take."""
    house.web()
    house.worker()
    with house.traffic():
        house.pause(0.2, 0.4)
        house.strikes += 1
        for pid in house.web_pids:
            os.kill(pid, signal.SIGSTOP)
        house.pause(2.2, 2.4)
        for pid in house.web_pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        house.mark()


@fault()
def fork_after_connecting(house: House) -> None:
    """Let gunicorn load the application and reach the store, and fork its workers after that."""
    house.site = "preloaded"
    house.environ["CONNECT_FIRST"] = "1"
    house.web()
    house.worker()
    with house.traffic(4):
        house.pause(1, 1.5)
        house.strikes += 1
        # Its parent starts another, which must not share a connection with those that live.
        for pid in house.web_pids[1:2]:
            os.kill(pid, signal.SIGKILL)
        house.mark()
        house.pause(1, 1.5)
