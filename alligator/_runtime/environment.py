"""Read the arguments of a gator from environment variables."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..constants import ALL
from ..exceptions import ConfigurationError

SETTINGS = {"secret": "secret (ALLIGATOR_SECRET)", "allow": "allow (--allow, ALLIGATOR_ALLOW)"}
"""The arguments in error messages, with their other names."""


def gator_settings(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of `Gator` that the environment sets; see `Gator.from_env`."""
    conn_string = environ.get("ALLIGATOR_CONN")
    if not conn_string:
        raise ConfigurationError(
            "ALLIGATOR_CONN is not set: give it a DSN, such as sqlite:///var/lib/app/queue.db."
        )
    prefix = environ.get("ALLIGATOR_PREFIX")
    return {
        "conn_string": conn_string,
        "queue_name": f"{prefix}_{ALL}" if prefix else ALL,
        "is_async": environ.get("ALLIGATOR_ASYNC") or True,
        "spool": environ.get("ALLIGATOR_SPOOL"),
    }


def read_list(environ: Mapping[str, Any], name: str) -> list[str] | None:
    """Return the entries of a comma-separated variable; None if it is not set.

    Raises `ConfigurationError` if it is set but empty, or has a blank entry.
    """
    value = environ.get(name)
    if value is None:
        return None
    return check_list(name, [entry.strip() for entry in value.split(",")])


def check_list(name: str, value: str | Sequence[str] | None) -> list[str]:
    """Return one string or several as a list; raises `ConfigurationError` for blank entries."""
    if value is None:
        return []
    entries = [value] if isinstance(value, str) else value
    setting = SETTINGS.get(name, name)
    is_several = isinstance(entries, Collection) and not isinstance(entries, Mapping)
    if not is_several or not all(isinstance(entry, str) for entry in entries):
        kind = type(entries).__name__
        raise ConfigurationError(f"{setting} is a string or a list of strings, not {kind}.")
    if not entries or not all(map(str.strip, entries)):
        raise ConfigurationError(
            f"{setting} is empty, or has a blank entry. It would protect nothing: give it a value, "
            "or leave it out if you do not want it."
        )
    return list(entries)
