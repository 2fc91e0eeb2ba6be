"""The places of a worker: how many tasks of each kind run at once."""

from threading import Lock

PLAIN, COROUTINES = 1, 100
"""How many plain functions and how many coroutines run at once if no number was given."""


class Places:
    """The places for plain functions and for coroutines: *total* for both, or some for each kind."""

    def __init__(self, total: int | None = None) -> None:
        self.total = total
        self.most_plain: int = PLAIN if total is None else total
        self.most_coroutines: int = COROUTINES if total is None else total
        self._lock = Lock()
        self._plain = self._coroutines = 0

    @property
    def coroutines(self) -> int:
        """How many places coroutines occupy."""
        return self._coroutines

    def free_for_plain(self) -> int:
        """Return how many more plain functions may run now."""
        used = self._plain if self.total is None else self._plain + self._coroutines
        return max(0, self.most_plain - used)

    def free_for_coroutines(self) -> int:
        """Return how many more coroutines may run now."""
        used = self._coroutines if self.total is None else self._plain + self._coroutines
        return max(0, self.most_coroutines - used)

    def free(self) -> int:
        """Return how many more tasks may run now, if they are of the right kind."""
        if self.total is not None:
            return self.free_for_plain()
        return self.free_for_plain() + self.free_for_coroutines()

    def take_for_plain(self, *, always: bool = False) -> bool:
        """Occupy a place with a plain function, if one is free or *always*; return whether it was."""
        with self._lock:
            if not always and not self.free_for_plain():
                return False
            self._plain += 1
            return True

    def take_for_coroutine(self) -> bool:
        """Occupy a place with a coroutine, if one is free; return whether it was."""
        with self._lock:
            used = self._coroutines if self.total is None else self._plain + self._coroutines
            if used >= self.most_coroutines:
                return False
            self._coroutines += 1
            return True

    def give_back_plain(self) -> None:
        """Free the place of a plain function."""
        with self._lock:
            self._plain -= 1

    def give_back_coroutine(self) -> None:
        """Free the place of a coroutine."""
        with self._lock:
            self._coroutines -= 1
