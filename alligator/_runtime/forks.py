"""Call hooks in a forked child, so that objects and modules reset what belongs to the parent.

These hooks replace locks and threads right after the fork. For sockets this is not enough: a server
such as uWSGI may fork without Python's hooks, and two processes that share a socket mix up their
replies. So objects that have connections also compare process ids before they use them.
"""

import os
import signal
from collections.abc import Callable
from threading import get_ident
from typing import Protocol, TypeVar
from weakref import WeakSet

from ..constants import STOP_SIGNALS


class ForkAware(Protocol):
    """An object with threads, locks or connections that a forked child cannot use."""

    def after_fork_in_child(self) -> None:
        """Reset the object: a thread that exists only in the parent may hold one of its locks."""
        ...


F = TypeVar("F", bound=Callable[[], object])

pid: int = os.getpid()
"""The id of this process, after a fork with Python's hooks. It saves a system call for each task."""

_objects: WeakSet[ForkAware] = WeakSet()
_functions: list[Callable[[], object]] = []


def register_fork_hooks(obj: ForkAware) -> None:
    """Call the hook of *obj* in each forked child; only a weak reference to it is kept."""
    _objects.add(obj)


def run_in_forked_child(function: F) -> F:
    """Call *function* in each forked child; a decorator, for the state of modules."""
    _functions.append(function)
    return function


def _call_hooks() -> None:
    global pid
    pid = os.getpid()
    for function in _functions:
        function()
    for obj in list(_objects):
        obj.after_fork_in_child()


# A worker's signal handlers only record that the worker must stop. If a task forks a process, as
# `multiprocessing` does, that process could not be terminated. So it gets the default handlers in
# place of ours. Until then our signals are blocked. Handlers that the program installed stay.

_blocked: dict[int, tuple[list[signal.Signals], set[int]]] = {}
"""For each thread that forks: the signals with our handlers, and those that were blocked before."""


def _before() -> None:
    ours = [
        number
        for number in (*STOP_SIGNALS, signal.SIGCHLD)
        if getattr(signal.getsignal(number), "__module__", "").partition(".")[0] == "alligator"
    ]
    if ours:
        _blocked[get_ident()] = ours, signal.pthread_sigmask(signal.SIG_BLOCK, ours)


def _after_in_parent() -> None:
    _, mask = _blocked.pop(get_ident(), (None, None))
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_in_child() -> None:
    ours, mask = _blocked.pop(get_ident(), ((), None))
    _blocked.clear()
    for number in ours:
        is_int = number == signal.SIGINT
        signal.signal(number, signal.default_int_handler if is_int else signal.SIG_DFL)
    if mask is not None:
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
os.register_at_fork(after_in_child=_call_hooks)
