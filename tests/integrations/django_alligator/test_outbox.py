"""The table of the outbox is made by a migration, checked, and read over a connection of its own."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections, transaction
from django.test.utils import override_settings

from alligator.commits.databases import ddl
from django_alligator.checks import check_settings, check_tables
from django_alligator.outbox import DjangoOutbox
from tests.harness.django_databases import USING, Shop, add_database, note
from tests.harness.django_files import DjangoProject
from tests.harness.django_settings import settings_of
from tests.harness.programs import lines


@pytest.fixture
def empty(tmp_path: Path) -> str:
    """Name a database without tables."""
    add_database("empty", **settings_of(f"sqlite:///{tmp_path / 'empty.db'}"))
    return "empty"


def columns(using: str, table: str) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        found = connections[using].introspection.get_table_description(cursor, table)
    return [(each.name, each.null_ok) for each in found]


def test_migration_creates_the_same_table_as_the_command(empty: str) -> None:
    call_command("migrate", "django_alligator", database=empty, verbosity=0)
    with connections[empty].cursor() as cursor:
        cursor.execute(ddl("sqlite", "other"))

    assert columns(empty, "alligator_outbox") == columns(empty, "other")
    call_command("migrate", "django_alligator", "zero", database=empty, verbosity=0)
    assert "alligator_outbox" not in connections[empty].introspection.table_names()
    connections[empty].close()


def test_model_has_no_change_without_a_migration() -> None:
    call_command("makemigrations", "django_alligator", check=True, dry_run=True, verbosity=0)


def test_migrated_table_is_used_on_each_database(shop: Shop) -> None:
    with shop.connection.cursor() as cursor:
        cursor.execute("DROP TABLE alligator_outbox")
        cursor.execute("DROP TABLE IF EXISTS django_migrations")
    call_command("migrate", "django_alligator", database=USING, verbosity=0)
    shop.enlister.relay.outbox.check()
    with transaction.atomic(USING):
        shop.order("a")
    state = shop.state()
    shop.gator.close()
    with shop.connection.cursor() as cursor:
        cursor.execute("DROP TABLE django_migrations")

    assert state == (1, ["a"])


def test_missing_table_is_a_warning_of_the_database_check(
    empty: str, production: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with override_settings(ALLIGATOR={"CONN": "locmem://", "DATABASES": [empty]}):
        [warning] = check_tables(databases=[empty, "default"])
        not_asked = check_tables(databases=["default"])
        monkeypatch.setattr(sys, "argv", ["manage.py", "migrate"])
        migrating = check_tables(databases=[empty])
    connections[empty].close()

    assert warning.id == "django_alligator.W021"
    assert "migrate django_alligator --database empty" in warning.msg
    assert (not_asked, migrating) == ([], [])


def test_database_that_can_have_no_outbox_is_an_error_of_the_check(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections[empty], "vendor", "oracle")
    for name, reason in ((empty, "oracle"), ("absent", "no database 'absent'")):
        with override_settings(ALLIGATOR={"CONN": "locmem://", "DATABASES": [name]}):
            [error] = check_settings()

        assert (error.id, reason in error.msg) == ("django_alligator.E001", True)


def test_relay_takes_no_connection_of_the_pool(postgres: str) -> None:
    """The library for pools is not even installed."""
    add_database("pooled", **{**settings_of(postgres), "OPTIONS": {"pool": True}})
    outbox = DjangoOutbox("pooled")
    outbox.call(outbox._begin)

    assert outbox.is_open
    assert connections["pooled"].settings_dict["OPTIONS"] == {"pool": True}
    outbox.close()


def test_outbox_knows_the_connections_of_its_database(empty: str) -> None:
    assert DjangoOutbox("empty").is_of(connections["empty"])
    assert not DjangoOutbox("default").is_of(connections["empty"])
    assert not DjangoOutbox("default").is_of(object())


@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
def test_program_that_forks_has_a_relay_in_each_process(shop: Shop) -> None:
    with transaction.atomic(USING):
        shop.gator.task(note, "parent")
    shop.tasks()
    shop.connection.close()
    child = os.fork()
    if child == 0:  # its queue is in its memory, so the outbox becomes empty
        try:
            with transaction.atomic(USING):
                shop.gator.task(note, "child")
            os._exit(0 if shop.tasks() == ["child"] else 1)
        finally:
            os._exit(2)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


PLACE = """
import os
import sys

from django.core.management.base import BaseCommand
from django.db import transaction

from django_alligator import gator
from shop.models import Order
from shop.tasks import note


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("ending")

    def handle(self, *args, ending, **options):
        with transaction.atomic():
            Order.objects.create(name=ending)
            gator.task(note, ending)
            if ending == "raise":
                raise RuntimeError
        if ending == "kill":
            os.kill(os.getpid(), 9)
        if ending == "exit":
            sys.exit()
"""


def test_command_that_ends_after_its_commit_loses_no_task(project: DjangoProject) -> None:
    """The project's own command; it ends as usual, by an error, or is killed right after the commit."""
    commands = project.folder / "shop" / "management" / "commands"
    commands.mkdir(parents=True)
    (commands / "place.py").write_text(PLACE)
    project.create_tables()

    endings = ("return", "exit", "kill", "raise")
    assert [project.manage("place", each).returncode for each in endings] == [0, 0, -9, 1]
    for words in (["outbox", "relay"], ["worker", "--burst"]):
        done = project.manage("alligator", *words)
        assert done.returncode == 0, done.stderr

    assert sorted(lines(project.out)) == ["exit", "kill", "return"]
