"""From a DSN to the backend that keeps its tasks; its library is imported only then."""

from importlib import import_module

from ..exceptions import MissingExtra, UnknownBackend
from .base import Client, redact

SCHEMES = {
    "locmem": "locmem_backend",
    "sqlite": "sqlite_backend",
    "redis": "redis_backend",
    "rediss": "redis_backend",
    "unix": "redis_backend",
    "redis+sentinel": "redis_backend",
    "rediss+sentinel": "redis_backend",
    "redis+cluster": "redis_backend",
    "rediss+cluster": "redis_backend",
    "sqs": "sqs_backend",
    "sqs+http": "sqs_backend",
    "sqs+https": "sqs_backend",
}

# Which library a backend stands on, and the extra that brings it.
EXTRAS = {"redis_backend": ("redis", "redis"), "sqs_backend": ("boto3", "sqs")}


def open_client(conn_string: str) -> Client:
    """Make the client for *conn_string*; nothing is connected yet.

    Raises `UnknownBackend` or `MissingExtra`, each saying what to type instead.
    """
    scheme, mark, _ = conn_string.partition("://")
    if not mark or scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        # Without :// there is no telling what in it is secret.
        plain = mark or not set(conn_string) & set(":@?")
        shown = repr(redact(conn_string)) if plain else "The DSN"
        raise UnknownBackend(
            f"{shown} does not begin with one of: {known}. "
            "A store of your own is given as backend_class=."
        )
    name = SCHEMES[scheme]
    library, extra = EXTRAS.get(name, (None, None))
    try:
        module = import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if library is None or error.name != library:
            raise  # some other import is broken: show it as it is
        raise MissingExtra(f"{scheme}:// needs: pip install 'alligator[{extra}]'") from error
    client: Client = module.Client(conn_string)
    return client
