"""Close the SQLite connections of a process before it forks.

SQLite keeps its own list of the file locks of a process. In a forked child that list is wrong for as
long as a connection of the parent is open, also for connections that the child opens itself.
"""

import os
import sqlite3
import threading
import time
from time import monotonic
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """An object that closes its connections before a fork."""

    def before_fork(self) -> None:
        """Close all connections, and keep other threads from opening new ones."""
        ...

    def after_fork_in_parent(self) -> None:
        """Release the lock after the fork, so that other threads continue."""
        ...

    def after_fork_in_child(self) -> None:
        """Reset locks, and forget the connections of the parent without closing them."""
        ...


class ForkState:
    """Whether this process is about to fork. Threads that wait for a file then release their lock."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Return to the state of a new process."""
        self.is_pending = False
        self.create_lock: threading.Lock = threading.Lock()
        """Held while a file is created. A thread that holds it acquires no other lock."""

    def wait(self, seconds: float) -> None:
        """Wait until no fork is pending, for at most *seconds*."""
        end = monotonic() + seconds
        while self.is_pending and monotonic() < end:
            time.sleep(0.0005)


state: ForkState = ForkState()

inherited: list[tuple[sqlite3.Connection, int]] = []
"""Connections of the parent process. Closing one here would release the parent's file locks."""

_registered: WeakSet[Forkable] = WeakSet()
_registry_lock = threading.RLock()


def register(holder: Forkable) -> None:
    """Call the methods of *holder* at each fork, until it is garbage-collected."""
    with _registry_lock:
        _registered.add(holder)


def _before_fork() -> None:
    _registry_lock.acquire()
    state.is_pending = True
    for holder in _registered:
        holder.before_fork()


def _after_fork_in_parent() -> None:
    for holder in _registered:
        holder.after_fork_in_parent()
    state.is_pending = False
    _registry_lock.release()


def _after_fork_in_child() -> None:
    state.reset()
    for holder in _registered:
        holder.after_fork_in_child()
    _registry_lock.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
