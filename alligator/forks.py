"""Tell what a process holds that it finds itself in a forked child."""

import os
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """What has threads, locks or connections that stay with the parent."""

    def after_fork_in_child(self) -> None:
        """Begin anew: a thread that is not here may have been holding a lock."""
        ...


_all: WeakSet[Forked] = WeakSet()


def tell_of_forks(holder: Forked) -> None:
    """Have *holder* told in each forked child, for as long as somebody else keeps it."""
    _all.add(holder)


def _tell() -> None:
    for holder in list(_all):
        holder.after_fork_in_child()


os.register_at_fork(after_in_child=_tell)
