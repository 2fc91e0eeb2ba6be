"""What the message of a task says of it besides its payload."""

from typing import Protocol

from ..backends.base import Client
from ..backends.unique import Unique
from ..options import Priority
from .follow_ups import check_keeps_follow_ups
from .limit_keys import check_keeps_limit_keys
from .stored_options import level_of
from .unique import check_keeps_keys

Routing = tuple[int, Unique | None, bool, str | None]
"""The priority, the unique key, whether it is a follow-up, and the limit key."""

NOTHING: Routing = (0, None, False, None)


class HasRouting(Protocol):
    """A task, as far as this module is concerned."""

    priority: Priority
    unique: Unique | None
    limit_key: str | None


def routing_of(task: HasRouting, client: Client, *, follows: bool = False) -> Routing:
    """Return the routing of *task*; raise `InvalidOption` if the store of *client* has no such thing."""
    priority, unique, limit_key = task.priority, task.unique, task.limit_key
    if priority == "normal" and unique is None and limit_key is None and not follows:
        return NOTHING
    level = level_of(priority, client)
    if unique is not None:
        check_keeps_keys(client)
    if follows:
        check_keeps_follow_ups(client)
    if limit_key is not None:
        check_keeps_limit_keys(client)
    return level, unique, follows, limit_key
