"""What keeps a queue from giving its tasks: a pause, and a limit on how many begin or run.

**Limits.** `Limit.at_once` is compared with the leases of the queue, in whichever way they were given.
A place is free when its lease ends: with an outcome, or because its worker died. There is no other
counter, so none can be wrong. `Limit.starts` counts the tasks that steps have reserved: at any
moment, at most so many in the last `Limit.seconds`, by the store's clock. `Client.lease`, which
operators use, ignores limits and is no start.

A step reserves at most one task of a queue with a limit, so that no worker holds places for tasks which
it has not begun. It serves the other queues as always. A queue whose limit is reached ends neither
`Step.pause` nor `wait`, until a place or a start is free.

**Keys.** A message may have a `Message.limit_key`, such as that of a tenant. The ready tasks of one
queue, priority and key are a *line*, in the order of the queue; those without a key are one, too. The
lines of a priority take turns, one task each: while a line has to wait, no other has two turns. Where a
new line begins among the others is the store's affair. A higher priority goes before a lower one,
whatever the keys are.

A key may have a `Limit`: its own, or that of `EACH`, which is for every key without one of its own. It
counts like that of a queue, for the tasks of that key on that queue, and both apply. A step reserves
at most one task of a key with a limit. A line whose key may not begin has no turns until a lease of a
task of that key ends, or until a start is free. It holds up no other line, at no cost. A start is
remembered for the time of the limit that counted it, whatever that limit becomes.
"""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from ..exceptions import BackendError

EACH: Final = "*"
"""In place of a key: every key of the queue that has no limit of its own. No task has this key."""

MOST_KEYS: Final = 1000
"""How many limits of keys are listed at most, and up to how many keys are counted."""

MOST_NAMED: Final = 10
"""How many keys `KeyStats` names at most."""


class Limit(NamedTuple):
    """The limit of a queue, or of a key on a queue, over all workers."""

    at_once: int | None = None
    """How many of its tasks may be leased at one time; None for any number."""
    starts: int | None = None
    """How many may be reserved within *seconds*, in any such span of time; None for any number."""
    seconds: float = 1.0

    def __str__(self) -> str:
        """Return it in words, such as "at most 3 at once, 100 per minute"."""
        span = {1.0: "per second", 60.0: "per minute"}.get(self.seconds, f"in {self.seconds:g} s")
        parts = [
            None if self.at_once is None else f"{self.at_once:,} at once",
            None if self.starts is None else f"{self.starts:,} {span}",
        ]
        return f"at most {', '.join(filter(None, parts))}"


class KeyStats(NamedTuple):
    """The limit keys of a queue at one moment; each count ends at `MOST_KEYS`."""

    waiting: int = 0
    """How many keys have ready tasks."""
    limited: int = 0
    """How many of these wait for their limit: the last steps found that no task of them may begin."""
    names: Sequence[str] = ()
    """The first of those that wait for their limit, sorted: `MOST_NAMED` at most."""
    limits: Mapping[str, Limit] = MappingProxyType({})
    """The first limits, that of `EACH` before those of keys: `MOST_NAMED` at most."""
    limits_known: int = 0
    """How many limits there are."""

    @classmethod
    def of(cls, waiting: int, limited: Collection[str], limits: Mapping[str, Limit]) -> Self:
        """Return the stats of a queue with these *limited* keys and these *limits*."""
        keys = sorted(limits, key=lambda key: (key != EACH, key))[:MOST_NAMED]
        return cls(
            min(waiting, MOST_KEYS),
            min(len(limited), MOST_KEYS),
            sorted(limited)[:MOST_NAMED],
            {key: limits[key] for key in keys},
            min(len(limits), MOST_KEYS),
        )


class LimitStore:
    """The part of a `Client` that holds tasks back; these methods are those of a store that cannot."""

    @property
    def address(self) -> str:
        """See `Client.address`."""
        raise NotImplementedError

    def pause(self, queue_name: str, seconds: float) -> None:
        """Pause the queue for *seconds* (inf: no end; 0: resume): `step` reserves none of its tasks.

        Everything else continues. The queue counts as used from now on. Workers wake up at the end.
        """
        raise BackendError(f"{self.address} cannot pause a queue.")

    def limit(self, queue_name: str, limit: Limit | None, limit_key: str | None = None) -> None:
        """Give the queue, or that key on it, this limit in place of the one that it has; None for none.

        It applies from the next step on, and leases that are above it continue. A new number of starts
        counts those before, too. The queue counts as used from now on. Workers wake up.
        """
        raise BackendError(
            f"{self.address} cannot limit a queue: start fewer workers with a lower --concurrency."
        )

    def key_limits(self, queue_name: str) -> dict[str, Limit]:
        """Return the limits of keys of the queue, sorted by key: `MOST_KEYS` of them at most."""
        return {}

    def key_stats(self, queue_names: Sequence[str]) -> dict[str, KeyStats]:
        """Return the stats of the keys of each queue that has keys with ready tasks, or limits of keys.

        The cost does not grow with the number of tasks, and from `MOST_KEYS` on not with that of keys.
        """
        return {}
