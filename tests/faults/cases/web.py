"""Faults of a web server: killed before, during and after a commit, or frozen."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any

from tests.faults.audit import BROKEN
from tests.faults.catalogue import EVERYWHERE, fault
from tests.faults.harness import Broken, Harness, eventually
from tests.faults.proxy import Proxy


def kill_while_asked(
    harness: Harness, ready: Callable[[], object], **query: Any
) -> tuple[str, ...]:
    """Request tasks, kill the server when *ready* is true, and return the ids of the tasks."""
    client = Thread(target=lambda: harness.ask(3, **query))
    client.start()
    eventually(ready, "the request comes to the place where it hangs", seconds=10)
    harness.injections += 1
    harness.mark()
    harness.end_web()
    client.join()
    answer = harness.audit_log.answers[-1]
    if answer.status != BROKEN:
        raise Broken(f"the client was answered {answer.status} by a server that was killed")
    return answer.ids


@fault(*EVERYWHERE, "sqs", quick=True)
def web_killed(harness: Harness) -> None:
    """Kill the web server at random moments under load, and start it again."""
    harness.web()
    harness.worker()
    with harness.traffic(4):
        for _ in range(2):
            harness.pause(0.2, 0.6)
            harness.injections += 1
            harness.end_web()
            harness.mark()
            harness.web()


@fault()
def web_terminated(harness: Harness) -> None:
    """Send SIGTERM to the web server under load, as a deployment does, and start it again."""
    harness.worker()
    with harness.traffic(4):
        for harness.site in ("flask", "starlette"):
            harness.web()
            harness.pause(0.3, 0.6)
            harness.injections += 1
            harness.end_web(signal.SIGTERM)
            harness.mark()


@fault()
def web_killed_before_commit(harness: Harness) -> None:
    """Kill the web server after a view has started its tasks, before the commit: none may be queued."""
    for harness.site in ("flask", "starlette"):
        harness.web()
        hanging = Path(f"{harness.audit_log.ledger}.hanging")
        hanging.unlink(missing_ok=True)
        ids = kill_while_asked(harness, hanging.exists, hang="before")
        if harness.store.census().keys() & {*ids}:
            raise Broken("I2: tasks are queued whose view did not get to its end")


@fault()
def web_killed_after_commit(harness: Harness) -> None:
    """Kill the web server after a commit, before the response: all tasks are queued."""
    for harness.site in ("flask", "starlette"):
        harness.web()
        hanging = Path(f"{harness.audit_log.ledger}.hanging")
        hanging.unlink(missing_ok=True)
        ids = kill_while_asked(harness, hanging.exists, hang="after")
        if not {*ids} <= harness.store.census().keys():
            raise Broken("I1: tasks of a commit are gone")


@fault()
def web_killed_under_an_idempotency_key(harness: Harness) -> None:
    """Kill the web server after a commit under a key, and repeat the request: its tasks run once."""
    harness.environ["KEYS"] = "on"
    harness.worker()
    for harness.site in ("flask", "starlette"):
        harness.web()
        hanging = Path(f"{harness.audit_log.ledger}.hanging")
        hanging.unlink(missing_ok=True)
        request = {"name": f"order-{harness.site}", "key": harness.site}
        ids = kill_while_asked(harness, hanging.exists, hang="after", **request)
        eventually(lambda ids=ids: {*ids} <= harness.audit_log.ended(), "the tasks have run")  # type: ignore[misc]
        harness.web()
        before = harness.gator.stats().pushed
        answer = harness.ask(3, **request)
        if answer.status != 201:
            raise Broken(f"the repeated request was answered {answer.status}")
        if harness.gator.stats().pushed != before:
            raise Broken("I3: a repeated request has queued its tasks again")


@fault()
def web_killed_during_commit(harness: Harness) -> None:
    """Kill the web server while its commit waits for the store: all of its tasks run, or none."""
    for harness.site in ("flask", "starlette"):
        ids = (
            kill_in_commit_sqlite(harness)
            if harness.kind == "sqlite"
            else kill_in_commit_of_a_server(harness)
        )
        found = len(harness.store.census().keys() & {*ids})
        if found not in (0, len(ids)):
            raise Broken(f"{found} of {len(ids)} tasks of a commit are queued")
        harness.notes.append(f"{harness.site}: {'all' if found else 'none'} queued")


def kill_in_commit_sqlite(harness: Harness) -> tuple[str, ...]:
    harness.web()
    other = harness.sqlite.connect()
    other.execute("BEGIN IMMEDIATE")
    try:
        return kill_while_asked(harness, waited(0.5))
    finally:
        other.execute("ROLLBACK")
        other.close()


def waited(seconds: float) -> Callable[[], bool]:
    """Return a condition that becomes true after *seconds*."""
    end = monotonic() + seconds
    return lambda: monotonic() > end


def kill_in_commit_of_a_server(harness: Harness) -> tuple[str, ...]:
    with Proxy(harness.store.dsn) as proxy:
        harness.dsn = proxy.leading_to(harness.store.dsn)
        harness.web()
        harness.ask(1)  # so that there is a connection, and what is held back is the push
        with proxy.stall():  # so that its data arrives when no client waits for a response
            seen = proxy.passed
            ids = kill_while_asked(harness, lambda: proxy.passed > seen)
        harness.pause(0.2, 0.2)
    harness.dsn = harness.store.dsn
    return ids


@fault()
def web_frozen(harness: Harness) -> None:
    """Freeze all processes of the web server for longer than a commit may take."""
    harness.web()
    harness.worker()
    with harness.traffic():
        harness.pause(0.2, 0.4)
        harness.injections += 1
        for pid in harness.web_pids:
            os.kill(pid, signal.SIGSTOP)
        harness.pause(2.2, 2.4)
        for pid in harness.web_pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        harness.mark()


@fault()
def fork_after_connecting(harness: Harness) -> None:
    """Load the application and connect to the store before gunicorn forks its workers."""
    harness.site = "preloaded"
    harness.environ["CONNECT_FIRST"] = "1"
    harness.web()
    harness.worker()
    with harness.traffic(4):
        harness.pause(1, 1.5)
        harness.injections += 1
        # Its parent starts another, which must not share a connection with those that live.
        for pid in harness.web_pids[1:2]:
            os.kill(pid, signal.SIGKILL)
        harness.mark()
        harness.pause(1, 1.5)
