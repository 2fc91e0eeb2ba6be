"""The unique key of a task, as its options describe it."""

from ..backends.base import Client
from ..backends.unique import Unique
from ..exceptions import InvalidOption
from ..options import Seconds, check_name, check_shortest, check_until, to_bool


def to_unique(
    unique: str | None,
    unique_until: str | None,
    unique_for: Seconds | None,
    replace: object = False,
) -> Unique | None:
    """Return the key that these options of a task describe; None for none.

    >>> to_unique("invoice-7", "done", 60)
    Unique(key='invoice-7', until_start=False, seconds=60.0)
    """
    if unique is None:
        if unique_until is None and unique_for is None and not replace:
            return None
        raise InvalidOption("unique_until, unique_for and replace need a key: give unique=, too.")
    if to_bool("replace", replace):
        if unique_until is not None or unique_for is not None:
            raise InvalidOption(
                "replace=True excludes unique_until and unique_for: a task that runs cannot be "
                "replaced, so a key that it holds would discard the call."
            )
        return Unique(check_name("unique", unique), replace=True)
    until = "start" if unique_until is None else check_until("unique_until", unique_until)
    seconds = 0.0 if unique_for is None else check_shortest("unique_for", unique_for)
    return Unique(check_name("unique", unique), until == "start", seconds)


def check_keeps_keys(client: Client) -> None:
    """Raise `InvalidOption` if the store of *client* cannot decide on unique keys."""
    if not client.keeps_keys:
        raise InvalidOption(
            f"unique is not possible here: {client.address} cannot tell whether a task with the key "
            "waits or runs. Use another store, or let the task check whether its work is done."
        )
