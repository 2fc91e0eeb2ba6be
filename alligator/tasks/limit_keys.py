"""The limit key of a task, as its options describe it."""

from ..backends.base import Client
from ..backends.limits import EACH
from ..exceptions import InvalidOption
from ..options import check_name


def to_limit_key(option: str, value: object) -> str:
    """Return a limit key: a name that is not `EACH`."""
    if value == EACH:
        raise InvalidOption(
            f'{option} of a task cannot be "{EACH}": in gator.limit() this means each key. Name one key.'
        )
    return check_name(option, value)


def check_keeps_limit_keys(client: Client) -> None:
    """Raise `InvalidOption` if the store of *client* has no turns and limits for keys."""
    if not client.keeps_limit_keys:
        raise InvalidOption(
            f"limit_key is not possible here: {client.address} has no turns and limits for keys. Use "
            "another store, or a queue for each key."
        )
