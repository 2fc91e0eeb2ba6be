"""Read the settings of the gator and its endpoint from ``app.config`` and the environment."""

import os
from collections.abc import Collection, Mapping
from typing import Any

from flask import Flask

from alligator import Gator, veto_errors
from alligator.exceptions import ConfigurationError
from alligator.monitoring.health import BACKLOG_SECONDS

DEFAULTS: dict[str, Any] = {
    "ALLIGATOR_URL_PREFIX": "/alligator",
    "ALLIGATOR_OPTIONS": None,
    "ALLIGATOR_COMMIT_AT": "start",
    "ALLIGATOR_COMMIT_VETO": veto_errors,
    "ALLIGATOR_IDEMPOTENCY_KEY": None,
    "ALLIGATOR_IDEMPOTENCY_CLIENT": None,
    "ALLIGATOR_AUTHORIZE": None,
    "ALLIGATOR_ACTIONS": False,
    "ALLIGATOR_DETAILS": False,
    "ALLIGATOR_BACKLOG_AFTER": BACKLOG_SECONDS,
    "ALLIGATOR_BACKLOG_DEPTH": None,
}

TEXT_SETTINGS = ("ALLIGATOR_CONN", "ALLIGATOR_PREFIX", "ALLIGATOR_SPOOL")

LIST_SETTINGS = ("ALLIGATOR_SECRET", "ALLIGATOR_ALLOW")
"""Settings that may be a list in ``app.config``; in the environment commas separate the values."""


def make_gator(app: Flask) -> Gator:
    """Return a gator made from the configuration; the environment provides missing settings."""
    found: dict[str, Any] = {name: setting(app, name) for name in TEXT_SETTINGS}
    for name in LIST_SETTINGS:
        value = setting(app, name)
        several = isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)
        if several and not value:
            raise ConfigurationError(
                f"{name} of {app.name!r} is empty: add a value, or remove the setting."
            )
        found[name] = (
            [to_text(app, name, each) for each in value] if several else to_text(app, name, value)
        )
    if not found["ALLIGATOR_CONN"]:
        raise ConfigurationError(
            f"{app.name!r} has no queue: set ALLIGATOR_CONN, in app.config before init_app or in the "
            "environment, to a DSN such as sqlite:///var/lib/app/queue.db; or pass a gator: "
            "Alligator(gator=Gator(...))."
        )
    lists = {
        name.removeprefix("ALLIGATOR_").lower(): found.pop(name)
        for name in LIST_SETTINGS
        if not isinstance(found[name], str | None)
    }
    return Gator.from_env(found, **lists)


def setting(app: Flask, name: str) -> Any:
    """Return a setting of the configuration, otherwise of the environment."""
    value = app.config.get(name)
    return os.environ.get(name) if value is None else value


def to_text(app: Flask, name: str, value: Any) -> Any:
    """Return *value* as text, or None; raise `ConfigurationError` for other types."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # from_prefixed_env decodes JSON, in which digits are a number
    if isinstance(value, str | None):
        return value
    raise ConfigurationError(
        f"{name} of {app.name!r} must be a str, not a {type(value).__name__}. If "
        f"app.config.from_prefixed_env() reads it, which decodes it as JSON, put it in double "
        f"quotes: FLASK_{name}='\"…\"'."
    )


def url_prefix(app: Flask) -> str | None:
    """Return the path of the endpoint; None if there is no endpoint."""
    prefix = app.config["ALLIGATOR_URL_PREFIX"]
    if prefix is None:
        return None
    path = prefix.rstrip("/") if isinstance(prefix, str) else ""
    if not path.startswith("/"):
        raise ConfigurationError(
            "ALLIGATOR_URL_PREFIX must be a path such as /alligator, or None for no endpoint, "
            f"not {prefix!r}."
        )
    return path
