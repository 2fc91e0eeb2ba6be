"""Read ``settings.ALLIGATOR``, with the environment for what is missing in it."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from alligator import Gator, veto_errors
from alligator._runtime.environment import check_list
from alligator.exceptions import ConfigurationError
from alligator.monitoring.health import BACKLOG_SECONDS
from alligator.options import to_bool

FROM_ENVIRONMENT = ("CONN", "PREFIX", "SPOOL", "SECRET", "ALLOW", "ASYNC", "TOKEN")
"""The settings whose default is the variable of the environment with ``ALLIGATOR_`` before it."""

DEFAULTS: Mapping[str, Any] = {
    "OPTIONS": None,
    "COMMIT_AT": "start",
    "COMMIT_VETO": veto_errors,
    "IDEMPOTENCY_KEY": None,
    "IDEMPOTENCY_CLIENT": None,
    "AUTHORIZE": "django_alligator.access.is_active_staff",
    "ACTIONS": False,
    "DETAILS": False,
    "BACKLOG_AFTER": BACKLOG_SECONDS,
    "BACKLOG_DEPTH": None,
    "LIFESPAN": None,
    "DATABASES": ("default",),
}
"""The other settings."""

NAMES = frozenset([*FROM_ENVIRONMENT, *DEFAULTS])

HOOKS = "django_alligator.task_results.*"
"""What a worker calls for a task of `TaskBackend`, besides its function."""

EXAMPLE = 'ALLIGATOR = {"CONN": "sqlite:///var/lib/app/queue.db"}'


def given() -> Mapping[str, Any]:
    """Return ``settings.ALLIGATOR``; it may be missing if the environment has the DSN."""
    found = getattr(settings, "ALLIGATOR", None)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ConfigurationError(
            f"The setting ALLIGATOR must be a dict such as {EXAMPLE}, not a {type(found).__name__}."
        )
    return found


def setting(name: str) -> Any:
    """Return a setting, by its name without ``ALLIGATOR_``; otherwise its default."""
    value = given().get(name)
    if value is not None:
        return value
    if name in FROM_ENVIRONMENT:
        return os.environ.get(f"ALLIGATOR_{name}")
    return None if name in given() else DEFAULTS[name]


def function(name: str) -> Any:
    """Return a setting that is a function, or the dotted path of one; other values as they are."""
    value = setting(name)
    if not isinstance(value, str):
        return value
    try:
        return import_string(value)
    except ImportError as error:
        raise ConfigurationError(
            f"{name} of the setting ALLIGATOR is {value!r}, which cannot be imported: {error}"
        ) from error


def middleware_settings() -> dict[str, Any]:
    """Return the arguments of the middleware that the settings have."""
    return {
        "options": function("OPTIONS"),
        "commit_veto": function("COMMIT_VETO"),
        "commit_at": setting("COMMIT_AT"),
        "idempotency_key": setting("IDEMPOTENCY_KEY"),
        "idempotency_client": function("IDEMPOTENCY_CLIENT"),
    }


def make_gator(task_context: Callable[[], Any]) -> Gator:
    """Return a gator that is made from the settings."""
    found = {name: _text(name) for name in ("CONN", "PREFIX", "SPOOL")}
    if not found["CONN"]:
        raise ConfigurationError(
            f"There is no queue: add {EXAMPLE} to the settings, or set ALLIGATOR_CONN in the "
            "environment to a DSN."
        )
    lists = {name.lower(): _list(name) for name in ("SECRET", "ALLOW")}
    if lists["allow"]:
        lists["allow"].append(HOOKS)
    return Gator.from_env(
        {f"ALLIGATOR_{name}": value for name, value in found.items() if value is not None},
        is_async=is_queued,
        task_context=task_context,
        lifespan=function("LIFESPAN"),
        **lists,
    )


def is_queued() -> bool:
    """Return whether tasks are queued: what ASYNC says, else True unless Django runs tests."""
    value = setting("ASYNC")
    if value is None or value == "":
        return not is_in_test()
    return to_bool("ALLIGATOR['ASYNC']", value)


def is_in_test() -> bool:
    """Return whether Django's test environment is set up, by its runner or by pytest-django."""
    utils = sys.modules.get("django.test.utils")
    return hasattr(getattr(utils, "_TestState", None), "saved_data")


def flag(name: str) -> bool:
    """Return a setting that is true or false."""
    return to_bool(f"ALLIGATOR[{name!r}]", setting(name))


def token() -> str | None:
    """Return the token of the endpoint."""
    return _text("TOKEN")


def _text(name: str) -> str | None:
    value = setting(name)
    if isinstance(value, os.PathLike):  # settings have BASE_DIR / "spool.db"
        value = os.fspath(value)
    if not isinstance(value, str | None):
        raise ConfigurationError(
            f"{name} of the setting ALLIGATOR must be a str, not a {type(value).__name__}."
        )
    return value


def _list(name: str) -> list[str] | None:
    """Return one or several values; in a string commas separate them."""
    value = setting(name)
    if value is None:
        return None
    if isinstance(value, str):
        value = [entry.strip() for entry in value.split(",")]
    return [*check_list(f"ALLIGATOR[{name!r}]", value)]
