"""Checks of Django's check framework: the databases whose transactions tasks follow."""

import sys
from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections

from alligator.commits.databases import check_dialect
from alligator.exceptions import ConfigurationError

from .configuration import setting
from .models import OutboxCommit


def _enlisted() -> Sequence[str]:
    try:
        return setting("DATABASES") or ()
    except ConfigurationError:  # which another check reports
        return ()


@register()
def check_databases(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """Check that the databases of the setting exist, and can have an outbox."""
    found: list[CheckMessage] = []
    for using in _enlisted():
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
    """Check that the table of the outbox exists."""
    if "migrate" in sys.argv[1:2]:
        return []  # which is about to create it
    found: list[CheckMessage] = []
    for using in _enlisted():
        if using not in (databases or ()) or using not in connections.settings:
            continue
        connection = connections[using]
        with connection.cursor() as cursor:
            tables = connection.introspection.table_names(cursor)
        if OutboxCommit._meta.db_table not in tables:
            found.append(
                checks.Warning(
                    f"The database {using!r} has no table {OutboxCommit._meta.db_table}, so a task in "
                    "atomic() fails.",
                    hint=f"Run: python manage.py migrate django_alligator --database {using}",
                    id="django_alligator.W021",
                )
            )
    return found
