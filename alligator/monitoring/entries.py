"""Entries of a health document, in the format of ``application/health+json``."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..constants import PASS, WARN

Checks = dict[str, list[dict[str, Any]]]
"""The entries by ``component:measurement``."""

MAX_NAMED = 5
"""How many names one message lists."""


class Entries(NamedTuple):
    """Makes the entries of one component, all with the same time."""

    component: str
    time: str

    def make(self, status: str, output: str = "", **fields: Any) -> dict[str, Any]:
        """Return an entry; *fields* are further members, such as ``observedValue``."""
        message = {"output": output} if output else {}
        return {
            "componentId": self.component,
            **fields,
            "status": status,
            **message,
            "time": self.time,
        }

    def warn_if(self, output: str, **fields: Any) -> dict[str, Any]:
        """Return an entry that warns with *output*, or passes when that is empty."""
        return self.make(WARN if output else PASS, output, **fields)


def join_names(names: Sequence[str], count: int | None = None) -> str:
    """Return the first of *names*, and how many more there are: of *count*, if these are not all.

    >>> join_names(["a", "b", "c", "d", "e", "f", "g"])
    'a, b, c, d, e and 2 more'
    >>> join_names(["a", "b"], 30)
    'a, b and 28 more'
    """
    more = (len(names) if count is None else count) - min(len(names), MAX_NAMED)
    return ", ".join(names[:MAX_NAMED]) + (f" and {more:,} more" if more > 0 else "")
