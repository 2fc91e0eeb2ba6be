"""How many tasks a dispatcher reserves at once."""

from time import monotonic

from .._runtime.backoff import pause_after
from .places import Places
from .reservations import BATCH_SECONDS

MAX_BATCH = 200
"""How many tasks are reserved at once at most."""

LOOK_AHEAD = 100
"""How many tasks are looked at to find those of the kind that has a free place."""

FIRST_PAUSE, MAX_PAUSE = 0.05, 1.0
"""Seconds between two looks at tasks that may have no place; doubled while they have none."""


UNKNOWN_SECONDS = 1.0
"""How long tasks are assumed to take until it is known."""


class Kind:
    """The tasks of one kind: how long they take, and whether there were too many of them."""

    def __init__(self) -> None:
        self._seconds = UNKNOWN_SECONDS
        self.overflows: bool = False
        """Whether some had to be released, because there was no place for them."""

    def note_end(self, seconds: float) -> None:
        """Note how long a task has run. Not exact if two threads call it at the same moment."""
        self._seconds += (seconds - self._seconds) / 8

    def forget(self) -> None:
        """Forget how long tasks took, because those that run now take longer."""
        self._seconds = UNKNOWN_SECONDS

    def surplus(self, places: int) -> int:
        """Return how many tasks run in *places* within `BATCH_SECONDS`: these need not wait long."""
        return min(int(places * BATCH_SECONDS / max(self._seconds, 1e-6)), MAX_BATCH)


class Demand:
    """Decides how many tasks to reserve: as many as there are free places, and more of short ones.

    Plain functions and coroutines may have places of their own. Their kind is known only after they
    were reserved. Those without a place are released, and the next look at them follows after a
    pause. So neither kind waits behind the other for long.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._last = 1
        self._pauses = 0
        self._paused_until = 0.0
        self.plain: Kind = Kind()
        self.coroutines: Kind = Kind() if places.total is None else self.plain

    def room(self, plain: int, coroutines: int) -> int:
        """Return how many tasks to reserve if *plain* and *coroutines* are reserved, but not started."""
        places = self._places
        if places.total is not None:
            surplus = min(self.plain.surplus(places.total), 2 * self._last)
            room = _room(places.free(), plain + coroutines, surplus)
        else:
            room = self._room_of_kinds(plain, coroutines)
        room = min(room, MAX_BATCH)
        if room:
            self._last = room
        return room

    def keep(self) -> tuple[int, int]:
        """Return how many plain tasks, and how many coroutines, may wait for a place."""
        places = self._places
        return (
            places.free_for_plain() + max(1, self.plain.surplus(places.most_plain)),
            places.free_for_coroutines() + max(1, self.coroutines.surplus(places.most_coroutines)),
        )

    def note_found(self, plain: int, coroutines: int) -> None:
        """Note how many tasks of each kind were reserved."""
        if plain and coroutines:
            self._pauses, self._paused_until = 0, 0.0

    def note_overflow(self, plain: int, coroutines: int) -> None:
        """Note how many tasks of each kind had to be released."""
        self.plain.overflows = plain > 0
        self.coroutines.overflows = coroutines > 0
        if plain or coroutines:
            self._pause()

    def pause_left(self) -> float:
        """Return for how many seconds tasks that may have no place are not looked at."""
        return max(0.0, self._paused_until - monotonic())

    def _room_of_kinds(self, plain: int, coroutines: int) -> int:
        places = self._places
        rooms = (
            (
                self.plain,
                _room(places.free_for_plain(), plain, self.plain.surplus(places.most_plain)),
            ),
            (
                self.coroutines,
                _room(
                    places.free_for_coroutines(),
                    coroutines,
                    self.coroutines.surplus(places.most_coroutines),
                ),
            ),
        )
        overflow = self.plain.overflows or self.coroutines.overflows
        if not overflow and all(room for _, room in rooms):
            return sum(room for _, room in rooms)
        if self.pause_left():  # only those of which there were too many
            return sum(room for kind, room in rooms if kind.overflows)
        if not any(room for _, room in rooms):
            return 0
        self._pause()
        return LOOK_AHEAD

    def _pause(self) -> None:
        self._pauses += 1
        self._paused_until = monotonic() + pause_after(self._pauses, FIRST_PAUSE, MAX_PAUSE)


def _room(free: int, waiting: int, surplus: int) -> int:
    """Return how many tasks to reserve for *free* places, so that up to *surplus* wait for one.

    It is done when half of these have started, so that the others run meanwhile.
    """
    return max(0, free - waiting, surplus - waiting if 2 * waiting <= surplus else 0)
