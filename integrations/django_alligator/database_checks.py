"""Checks of Django's check framework: the databases whose transactions tasks follow."""

import sys
from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections

from alligator.commits.databases import check_dialect
from alligator.exceptions import AlligatorException, ConfigurationError

from .configuration import setting
from .outbox import DjangoOutbox
from .settings_gator import gator


@register()
def check_databases(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """Check that the databases of the setting exist, and can have an outbox."""
    found: list[CheckMessage] = []
    for using in setting("DATABASES") or ():
        if using not in connections.settings:
            found.append(
                Error(
                    f"DATABASES of the setting ALLIGATOR names {using!r}, which is not in the setting "
                    "DATABASES.",
                    hint="Name databases of the project, or none: ALLIGATOR = {'DATABASES': []}.",
                    id="django_alligator.E021",
                )
            )
            continue
        try:
            if connections.settings[using]["ENGINE"] != "django.db.backends.dummy":
                check_dialect(connections[using].vendor)
        except ConfigurationError as error:
            found.append(
                Error(
                    f"Tasks cannot follow the transactions of the database {using!r}. {error}",
                    hint="Do not enlist it: ALLIGATOR = {'DATABASES': []}.",
                    id="django_alligator.E022",
                )
            )
    return found


@register(Tags.database)
def check_tables(
    app_configs: Any = None, databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """Check that the table of the outbox exists, where it is needed."""
    if "migrate" in sys.argv[1:2]:
        return []  # which is about to create it
    try:
        relays = gator.relays
    except AlligatorException:
        return []  # there is no queue, which another check says
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
