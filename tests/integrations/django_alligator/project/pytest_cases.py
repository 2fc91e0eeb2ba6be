"""Tests of a project with pytest-django; `test_test_cases` runs them."""

from typing import Any

import pytest
from django.test import Client

from alligator.testing import CapturedTasks
from tests.integrations.django_alligator.project.models import RAN, note


@pytest.fixture(autouse=True)
def ran() -> list[str]:
    """Return the names of the orders whose tasks have run in this test."""
    RAN.clear()
    return RAN


@pytest.mark.django_db
def test_callbacks_of_the_fixture_run_the_tasks(
    client: Client, ran: list[str], django_capture_on_commit_callbacks: Any
) -> None:
    client.get("/block/?name=a")
    with django_capture_on_commit_callbacks(execute=True):
        client.get("/block/?name=b")

    assert ran == ["b"]


@pytest.mark.django_db
def test_recorded_tasks_are_those_of_the_callbacks(
    client: Client, alligator_tasks: CapturedTasks, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        client.get("/block/?name=a")
        client.get("/block/?name=b&fate=rollback")
        alligator_tasks.assert_not_pushed()

    alligator_tasks.assert_pushed(note, args=["a"])
    alligator_tasks.assert_not_pushed(note, args=["b"])


@pytest.mark.django_db
def test_recorded_tasks_outside_of_a_transaction_follow_the_response(
    client: Client, alligator_tasks: CapturedTasks
) -> None:
    client.get("/plain/?name=a")
    client.get("/plain/?name=b&status=404")

    assert [task.func_args for task in alligator_tasks] == [("a",)]


@pytest.mark.django_db(transaction=True)
def test_committed_tasks_are_recorded(client: Client, alligator_tasks: CapturedTasks) -> None:
    client.get("/block/?name=a&status=500")
    client.get("/block/?name=b&fate=rollback")

    alligator_tasks.assert_pushed(note, args=["a"], times=1)
    assert len(alligator_tasks) == 1


@pytest.mark.django_db(transaction=True)
def test_committed_tasks_run(client: Client, ran: list[str], alligator_sync: None) -> None:
    client.get("/block/?name=a")

    assert ran == ["a"]
