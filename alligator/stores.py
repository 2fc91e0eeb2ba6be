"""Find the stores that some gators use, each of them once."""

from collections.abc import Iterable
from typing import NamedTuple

from .backends.base import Client
from .gator import Gator


class Store(NamedTuple):
    """One place where tasks are kept, and the gators that keep theirs there."""

    client: Client
    gators: list[Gator]

    @property
    def kind(self) -> str:
        """The scheme of the DSN, for people; nothing else of it may be shown."""
        scheme, mark, _ = self.gators[0].conn_string.partition("://")
        return scheme if mark else type(self.client).__name__

    @property
    def own_queues(self) -> list[str]:
        """The queues of the gators."""
        return list(dict.fromkeys(gator.queue_name for gator in self.gators))

    @property
    def is_needed(self) -> bool:
        """Whether any of the gators puts tasks there, now."""
        return any(_is_async(gator) for gator in self.gators)


def find_stores(gators: Gator | Iterable[Gator]) -> list[Store]:
    """Group *gators* by the store they use, in the order given."""
    stores: dict[object, Store] = {}
    for gator in [gators] if isinstance(gators, Gator) else gators:
        store = stores.setdefault(_identity(gator), Store(gator.client, []))
        store.gators.append(gator)
    return list(stores.values())


def _identity(gator: Gator) -> object:
    # What a class of somebody else's makes of a DSN is not known, and a nameless locmem is its own.
    if gator.backend_class is not None or gator.conn_string == "locmem://":
        return id(gator.client)
    return gator.conn_string


def _is_async(gator: Gator) -> bool:
    try:
        return gator.is_async
    except Exception:  # a switch that is a function may need an application that is not there
        return True
