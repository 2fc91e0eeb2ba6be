"""Whether a store can queue a follow-up."""

from ..backends.base import Client
from ..exceptions import InvalidOption


def check_keeps_follow_ups(client: Client) -> None:
    """Raise `InvalidOption` if the store of *client* does not count the tasks of a commit."""
    if not client.keeps_follow_ups:
        raise InvalidOption(
            f"then() is not possible here: {client.address} cannot tell when all tasks of a commit are "
            "done. Use another store, or let the tasks count in the database of the application."
        )
