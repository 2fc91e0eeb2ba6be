"""Create locks when they are first used, because gevent may patch `threading` after the import."""

from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LazyDict(dict[K, V]):
    """A dictionary that creates a value with *make* when its key is first looked up.

    A server may import the application first, and patch its children with gevent later. A lock that
    was created before the patch blocks all greenlets of the process, not only the one that waits.
    *make* must look up `threading.Lock` in its module at each call.
    """

    def __init__(self, make: Callable[[], V]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: K) -> V:
        return self.setdefault(key, self._make())  # another thread may have created it meanwhile
