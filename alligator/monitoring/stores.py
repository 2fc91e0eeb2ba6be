"""The stores that gators use, each of them once."""

from collections.abc import Iterable
from typing import NamedTuple

from ..backends.base import Client
from ..gator import Gator


class Store(NamedTuple):
    """A store, and the gators that use it."""

    client: Client
    gators: list[Gator]

    @property
    def kind(self) -> str:
        """The scheme of the DSN, which is the only part of it that may be shown."""
        scheme, mark, _ = self.gators[0].conn_string.partition("://")
        return scheme if mark else type(self.client).__name__

    @property
    def own_queues(self) -> list[str]:
        """The queues of the gators."""
        return list(dict.fromkeys(gator.queue_name for gator in self.gators))

    @property
    def is_needed(self) -> bool:
        """Whether any of the gators currently queues its tasks."""
        return any(_is_async(gator) for gator in self.gators)


def find_stores(gators: Gator | Iterable[Gator]) -> list[Store]:
    """Return the stores of *gators*, in the order given."""
    stores: dict[object, Store] = {}
    for gator in [gators] if isinstance(gators, Gator) else gators:
        store = stores.setdefault(_identity(gator), Store(gator.client, []))
        store.gators.append(gator)
    return list(stores.values())


def _identity(gator: Gator) -> object:
    # A custom backend may read the DSN in any way, and an unnamed locmem is a store of its own.
    if gator.backend_class is not None or gator.conn_string == "locmem://":
        return id(gator.client)
    return gator.conn_string


def _is_async(gator: Gator) -> bool:
    try:
        return gator.is_async
    except Exception:  # is_async may be a function that needs an application context
        return True
