"""What ``app.config`` says of the gator and its endpoint."""

import os
from typing import Any

from flask import Flask

from alligator import Gator, veto_errors
from alligator.exceptions import ConfigurationError
from alligator.health import BACKLOG_SECONDS

DEFAULTS: dict[str, Any] = {
    "ALLIGATOR_URL_PREFIX": "/alligator",
    "ALLIGATOR_OPTIONS": None,
    "ALLIGATOR_COMMIT_AT": "start",
    "ALLIGATOR_COMMIT_VETO": veto_errors,
    "ALLIGATOR_AUTHORIZE": None,
    "ALLIGATOR_ACTIONS": False,
    "ALLIGATOR_DETAILS": False,
    "ALLIGATOR_BACKLOG_AFTER": BACKLOG_SECONDS,
    "ALLIGATOR_BACKLOG_DEPTH": None,
}

WORDS = ("ALLIGATOR_CONN", "ALLIGATOR_PREFIX", "ALLIGATOR_SPOOL")

LISTS = ("ALLIGATOR_SECRET", "ALLIGATOR_ALLOW")
"""What is words with commas in the environment, and may be a list in a configuration."""


def make_gator(app: Flask) -> Gator:
    """Make the gator that the configuration says, or where it is silent the environment."""
    found: dict[str, Any] = {name: setting(app, name) for name in (*WORDS, *LISTS)}
    if not found["ALLIGATOR_CONN"]:
        raise ConfigurationError(
            f"{app.name!r} does not know its queue: set ALLIGATOR_CONN, in app.config before "
            "init_app or in the environment, to a DSN such as sqlite:///var/lib/app/queue.db; or "
            "pass a gator: Alligator(gator=Gator(...))."
        )
    lists = {
        name.removeprefix("ALLIGATOR_").lower(): found.pop(name)
        for name in LISTS
        if not isinstance(found[name], str | None)
    }
    return Gator.from_env(found, **lists)


def setting(app: Flask, name: str) -> Any:
    """Look a setting up, in the configuration first."""
    value = app.config.get(name)
    return os.environ.get(name) if value is None else value


def url_prefix(app: Flask) -> str | None:
    """Return where the endpoint is to be found; None for nowhere."""
    prefix = app.config["ALLIGATOR_URL_PREFIX"]
    if prefix is None:
        return None
    path = prefix.rstrip("/") if isinstance(prefix, str) else ""
    if not path.startswith("/"):
        raise ConfigurationError(
            "ALLIGATOR_URL_PREFIX is a path such as /alligator, or None for no endpoint, "
            f"not {prefix!r}."
        )
    return path
