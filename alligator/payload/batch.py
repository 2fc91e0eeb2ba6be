"""The numbers of a batch, which a store writes before the payload of a follow-up."""

import re
from typing import Final, NamedTuple

MARK: Final = "batch:"
"""The beginning of such a payload; that of any other is a brace, or the scheme of a signature."""

_PREFIX = re.compile(rf"{MARK}(\d{{1,9}}),(\d{{1,9}}) ")


class Batch(NamedTuple):
    """The tasks that a follow-up has waited for.

    No secret signs these numbers, because the store counts: who can write to it can change them.
    """

    tasks: int
    """How many there were: the tasks that its commit has queued."""
    dead: int
    """How many of them did not succeed: they are dead, or were canceled or dropped."""

    def before(self, data: str) -> str:
        """Return the payload of a follow-up of this batch.

        >>> Batch(10, 2).before("{}")
        'batch:10,2 {}'
        """
        return f"{MARK}{self.tasks},{self.dead} {data}"


def batch_in(data: str) -> Batch | None:
    """Return the batch of a payload; None if it has none.

    >>> batch_in("batch:10,2 {}"), batch_in("{}")
    (Batch(tasks=10, dead=2), None)
    """
    found = _PREFIX.match(data) if data.startswith(MARK) else None
    return Batch(int(found[1]), int(found[2])) if found else None


def without_batch(data: str) -> str:
    """Return a payload without the numbers of its batch.

    >>> without_batch("batch:10,2 {}"), without_batch("batch: {}")
    ('{}', 'batch: {}')
    """
    return _PREFIX.sub("", data, count=1) if data.startswith(MARK) else data


def with_batch_of(before: str, data: str) -> str:
    """Return *data* with the numbers of the batch of the payload *before*, if it has any.

    >>> with_batch_of("batch:10,2 {}", "[]"), with_batch_of("{}", "[]")
    ('batch:10,2 []', '[]')
    """
    batch = batch_in(before)
    return data if batch is None else batch.before(data)
