"""The check of ``manage.py check --database``: the table of the outbox."""

import sys
from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Tags, register

from alligator.exceptions import AlligatorException, ConfigurationError

from .outbox import DjangoOutbox
from .settings_gator import gator


def register_database_checks() -> None:
    """Register the check with Django."""
    register(check_tables, Tags.database)


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
