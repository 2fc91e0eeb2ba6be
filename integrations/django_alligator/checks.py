"""The checks of ``manage.py check``: what is set up wrongly."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.http import HttpRequest
from django.utils.module_loading import import_string

from alligator.exceptions import AlligatorException, ConfigurationError

from . import configuration
from .outbox import DjangoOutbox
from .settings_gator import gator

MAY_BE_FIRST = frozenset(
    [
        "corsheaders.middleware.CorsMiddleware",
        "django.middleware.csp.ContentSecurityPolicyMiddleware",
        "django.middleware.gzip.GZipMiddleware",
        "django.middleware.security.SecurityMiddleware",
        "whitenoise.middleware.WhiteNoiseMiddleware",
    ]
)
"""Middlewares that add headers to a response, or answer requests that reach no view."""


def register_checks() -> None:
    """Register the checks with Django."""
    register(check_settings, "django_alligator")
    register(check_middleware, "django_alligator")
    register(check_store, "django_alligator", Tags.security, deploy=True)
    register(check_tables, "django_alligator", Tags.database)


def check_settings(**_: Any) -> list[CheckMessage]:
    """Return what is wrong with ``settings.ALLIGATOR``."""
    found = getattr(settings, "ALLIGATOR", {})
    if isinstance(found, Mapping):
        unknown = [name for name in found if name not in configuration.NAMES]
        if unknown:
            return [_unknown(name) for name in unknown]
    try:
        gator.store  # noqa: B018 - this makes it
    except AlligatorException as error:
        return [Error(f"The gator cannot be made: {error}", id="django_alligator.E001")]
    return list(_check_uses())


def _unknown(name: Any) -> Error:
    names = sorted(configuration.NAMES)
    near = get_close_matches(str(name).upper().removeprefix("ALLIGATOR_"), names, 1)
    hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(names)}."
    return Error(
        f"The setting ALLIGATOR has {name!r}, which is unknown and has no effect.",
        hint=hint,
        id="django_alligator.E002",
    )


def _check_uses() -> Iterator[CheckMessage]:
    from .endpoint import endpoint
    from .middleware import Middleware

    async def get_response(request: HttpRequest) -> None:
        """Stand for the views; with an event loop functions of both kinds are allowed."""

    for make in (lambda: Middleware(get_response), endpoint):
        try:
            make()
        except AlligatorException as error:
            message = f"The setting ALLIGATOR cannot be used: {error}"
            yield Error(message, id="django_alligator.E003")


def check_middleware(**_: Any) -> list[CheckMessage]:
    """Return what is wrong with the place of the middleware in ``settings.MIDDLEWARE``."""
    places = [number for number, name in enumerate(settings.MIDDLEWARE) if _is_ours(name)]
    if not places:
        return [
            checks.Warning(
                "The tasks of a request are queued at once, also if it fails afterwards: MIDDLEWARE "
                "does not have Alligator's.",
                hint='MIDDLEWARE = ["django_alligator.Middleware", ...]',
                id="django_alligator.W001",
            )
        ]
    before = [name for name in settings.MIDDLEWARE[: places[0]] if name not in MAY_BE_FIRST]
    if not before:
        return []
    return [
        checks.Warning(
            f"The tasks of a request are queued before {' and '.join(before)} may replace its "
            "response by an error.",
            hint="Make django_alligator.Middleware the first of MIDDLEWARE.",
            id="django_alligator.W002",
        )
    ]


def _is_ours(name: str) -> bool:
    from .middleware import Middleware

    try:
        found = import_string(name)
    except ImportError:  # which Django reports
        return False
    return isinstance(found, type) and issubclass(found, Middleware)


def check_store(**_: Any) -> list[CheckMessage]:
    """Return what is wrong with the store for a deployment."""
    try:
        if gator.conn_string != "locmem://":
            return []
    except AlligatorException:  # which `check_settings` reports
        return []
    return [
        checks.Warning(
            "The queue is in the memory of each process: a worker does not see its tasks.",
            hint="Give CONN of the setting ALLIGATOR the DSN of another store.",
            id="django_alligator.W003",
        )
    ]


def check_tables(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Return which databases have no table, although tasks follow their transactions."""
    if "migrate" in sys.argv[1:2]:
        return []  # which is about to create it
    try:
        relays = gator.relays
    except AlligatorException:  # which `check_settings` reports
        return []
    found: list[CheckMessage] = []
    for relay in relays:
        outbox = relay.outbox
        if not (isinstance(outbox, DjangoOutbox) and outbox.using in (databases or ())):
            continue
        if outbox.is_needed():
            try:
                relay.check()
            except ConfigurationError as error:
                message = f"A task in atomic() fails. {error}"
                found.append(checks.Warning(message, id="django_alligator.W021"))
            finally:
                outbox.close()
    return found
