"""The query of the dashboard's address: which tasks the page lists."""

from typing import Any, NamedTuple
from urllib.parse import urlencode

from ..http import read_fields

DEFAULT_LIMIT = 10
"""How many dead, scheduled or running tasks are shown unless the query asks for more."""

MAX_LISTED = 200
"""How many of them the query may ask for."""


class PageQuery(NamedTuple):
    """The fields of the query; the defaults are those of the plain address."""

    queue: str = ""
    """The only queue whose tasks are listed; empty for all."""
    task: str = ""
    """The key of the task whose details are open."""
    of: str = ""
    """The queue of that task: it is looked up there if it is not among the listed tasks."""
    limit: int = DEFAULT_LIMIT
    done: str = ""
    """What a button has done: a key of `NOTICES`."""

    @classmethod
    def parse(cls, query: str) -> "PageQuery":
        """Return the fields of *query*; an invalid one has its default."""
        fields = read_fields(query)
        limit = fields.get("limit", "")
        is_number = limit.isascii() and limit.isdecimal() and len(limit) < 6
        return cls(
            fields.get("queue", ""),
            fields.get("task", ""),
            fields.get("of", ""),
            max(1, min(int(limit), MAX_LISTED)) if is_number else DEFAULT_LIMIT,
            fields.get("done", ""),
        )

    @property
    def encoded(self) -> str:
        """The query with its question mark; empty if all fields have their defaults."""
        fields = {name: value for name, value in self._asdict().items() if value}
        if self.limit == DEFAULT_LIMIT:
            del fields["limit"]
        return f"?{urlencode(fields, errors='replace')}" if fields else ""

    def link(self, **changes: Any) -> str:
        """Return the address of this page with *changes*."""
        return self._replace(**changes).encoded or "./"
