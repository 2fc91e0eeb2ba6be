"""Await inside the greenlet in which SQLAlchemy runs the events of an AsyncSession."""

from collections.abc import Awaitable
from typing import TypeVar

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

T = TypeVar("T")


def is_in_greenlet() -> bool:
    """Return whether `await_in_greenlet` can be used."""
    try:
        return bool(in_greenlet())
    except ImportError:  # of greenlet, without which there are no asynchronous sessions
        return False


def await_in_greenlet(awaitable: Awaitable[T]) -> T:
    """Return the result of *awaitable*; the event loop continues meanwhile."""
    return await_only(awaitable)
