"""The stores: a DSN selects a client; its library is imported when the client is opened."""

from importlib import import_module

from .._runtime.overrides import check_overrides
from ..exceptions import ConfigurationError, MissingExtra, UnknownBackend
from .base import Client, redact
from .redaction import HIDDEN

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
    "valkey": "redis_backend",
    "valkeys": "redis_backend",
    "valkey+sentinel": "redis_backend",
    "valkeys+sentinel": "redis_backend",
    "valkey+cluster": "redis_backend",
    "valkeys+cluster": "redis_backend",
    "postgresql": "postgres_backend",
    "postgres": "postgres_backend",
    "sqs": "sqs_backend",
    "sqs+http": "sqs_backend",
    "sqs+https": "sqs_backend",
}

# The library that a backend uses, and the extra that installs it.
EXTRAS = {
    "redis_backend": ("redis", "redis"),
    "postgres_backend": ("psycopg", "postgres"),
    "sqs_backend": ("boto3", "sqs"),
}

MIN_VERSIONS = {"redis_backend": (5, 1), "postgres_backend": (3, 1)}
"""The oldest supported version of a backend's library, where projects may have an older one."""

UNUSED_METHODS = {
    "push": "override push_many and push_commits",
    "pop": "override step and wait_then_step",
    "get": "override lease and cancel",
    "get_connection": "give the password, the certificates and so on in the DSN",
    "_run_query": "use the methods of the client",
    "queues": "use drop_all, or one Gator('locmem://') for each test",
    "task_data": "use drop_all, or one Gator('locmem://') for each test",
}
"""Methods that subclasses of the 1.0 clients could override, and what to do instead."""


def open_client(conn_string: str) -> Client:
    """Return a client for *conn_string*; this opens no connection.

    Raises `UnknownBackend` or `MissingExtra`; each says what to type instead.
    """
    if not isinstance(conn_string, str):
        raise ConfigurationError(
            "conn_string is a DSN, such as sqlite:///var/lib/app/queue.db, not of the type "
            f"{type(conn_string).__name__}."
        )
    scheme, mark, _ = conn_string.partition("://")
    if not mark or scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES if "+" not in name)
        shown = redact(conn_string)
        shown = "The DSN" if shown == HIDDEN else repr(shown)
        from difflib import get_close_matches  # imported only for this error

        near = get_close_matches(scheme, SCHEMES, 1) if mark else []
        way_out = f"Did you mean {near[0]}://? " if near else ""
        raise UnknownBackend(
            f"{shown} does not begin with one of: {known}. {way_out}"
            "Pass a store of your own as backend_class=."
        )
    name = SCHEMES[scheme]
    library, extra = EXTRAS.get(name, (None, None))
    try:
        if name in MIN_VERSIONS:
            _check_version(name, scheme)
        module = import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if library is None or error.name != library:
            raise  # another import failed: do not hide its error
        raise MissingExtra(f"{scheme}:// needs: pip install 'alligator[{extra}]'") from error
    client: Client = module.Client(conn_string)
    return client


def _check_version(name: str, scheme: str) -> None:
    """Raise `MissingExtra` if the library of a backend is too old."""
    library, extra = EXTRAS[name]
    version = str(getattr(import_module(library), "__version__", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if len(numbers) == 2 and numbers < MIN_VERSIONS[name]:
        minimum = ".".join(map(str, MIN_VERSIONS[name]))
        raise MissingExtra(
            f"{scheme}:// needs {library} {minimum} or newer, but {version} is installed: "
            f"pip install --upgrade 'alligator[{extra}]'"
        )


def refuse_overrides(client: Client) -> None:
    """Raise `ConfigurationError` if a subclass of a client overrides a method that is not called.

    Alligator 1.0 called it; this version would silently ignore the override.
    """
    kinds = type(client).__mro__
    own = next(
        position for position, kind in enumerate(kinds) if kind.__module__.startswith(__name__)
    )
    if kinds[own] is Client:
        return  # it derives from the contract itself, which 1.0 did not have
    check_overrides(kinds[:own], UNUSED_METHODS)
