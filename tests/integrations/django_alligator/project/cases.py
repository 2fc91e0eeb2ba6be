"""Tests of a project, as its developers write them; `test_test_cases` runs them."""

from typing import Any
from urllib.request import urlopen

from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.test import LiveServerTestCase, TestCase, TransactionTestCase, override_settings

from alligator.testing import capture, drain, sync
from django_alligator import gator
from tests.integrations.django_alligator.project.models import RAN, Order, note

QUEUED = override_settings(ALLIGATOR={"CONN": "locmem://", "ASYNC": True})


def left() -> int:
    """Return the number of commits in the outbox."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM alligator_outbox")
        return int(cursor.fetchone()[0])


class InTestCase(TestCase):
    """The transaction of the test is never committed, and none of the project's."""

    @classmethod
    def setUpTestData(cls) -> None:
        """Save an order whose task is of no interest."""
        with transaction.atomic():
            Order.objects.create(name="class")

    def setUp(self) -> None:
        """Save another one."""
        RAN.clear()
        with transaction.atomic():
            Order.objects.create(name="set up")

    def test_task_outside_of_a_transaction_follows_the_response(self) -> None:
        self.client.get("/plain/?name=a")
        self.client.get("/plain/?name=b&status=400")

        assert RAN == ["a"]

    def test_task_outside_of_a_request_runs_at_once(self) -> None:
        Order.objects.create(name="a")

        assert RAN == ["a"]

    def test_task_in_a_transaction_is_an_on_commit_callback(self) -> None:
        for path in ("atomic-requests", "block"):
            with self.captureOnCommitCallbacks() as callbacks:
                self.client.get(f"/{path}/?name={path}")
            assert len(callbacks) == 1
        assert RAN == []

        for path in ("atomic-requests", "block"):
            with self.captureOnCommitCallbacks(execute=True):
                self.client.get(f"/{path}/?name={path}")
        assert RAN == ["atomic-requests", "block"]

    def test_rollback_leaves_no_callback(self) -> None:
        self.client.raise_request_exception = False
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            self.client.get("/block/?name=a&fate=raise")
            self.client.get("/block/?name=b&fate=rollback")

        assert (callbacks, RAN) == ([], [])

    def test_captured_tasks_are_those_of_the_callbacks(self) -> None:
        with capture() as tasks, self.captureOnCommitCallbacks(execute=True):
            self.client.get("/block/?name=a")
            tasks.assert_not_pushed()
        tasks.assert_pushed(note, args=["a"], times=1)

    @QUEUED
    def test_queued_tasks_are_on_the_queue_after_the_callbacks(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            self.client.get("/block/?name=a")
            assert gator.len() == 0

        assert (gator.len(), left()) == (1, 0)
        drain(gator)
        assert RAN == ["a"]

    async def test_asynchronous_view_follows_its_transaction(self) -> None:
        await self.async_client.get("/async/?name=a")
        assert RAN == []


class InTransactionTestCase(TransactionTestCase):
    """The transactions of the project are committed."""

    def setUp(self) -> None:
        """Forget the tasks of other tests."""
        RAN.clear()

    def test_commit_decides_and_not_the_response(self) -> None:
        self.client.raise_request_exception = False
        for number, path in enumerate(("atomic-requests", "block"), 1):
            self.client.get(f"/{path}/?name=a&status=500")
            self.client.get(f"/{path}/?name=b&fate=raise")
            self.client.get(f"/{path}/?name=c&fate=rollback")

            assert ["a"] * number == RAN
        assert Order.objects.count() == 2

    def test_savepoints_and_durable_blocks_are_followed(self) -> None:
        with transaction.atomic(durable=True):
            Order.objects.create(name="a")
            try:
                with transaction.atomic():
                    Order.objects.create(name="b")
                    raise ValueError
            except ValueError:
                pass
            assert RAN == []

        assert RAN == ["a"]

    @QUEUED
    def test_queued_tasks_are_on_the_queue_after_the_commit(self) -> None:
        self.client.get("/block/?name=a")
        self.client.get("/plain/?name=b&status=400")

        assert (gator.len(), left()) == (1, 0)

    @QUEUED
    def test_helpers_see_tasks_when_the_database_commits(self) -> None:
        with capture() as tasks:
            self.client.get("/block/?name=a")
        tasks.assert_pushed(note, args=["a"])
        with sync():
            self.client.get("/block/?name=b")

        assert (RAN, gator.len()) == (["b"], 0)

    def test_admin_saves_in_a_transaction(self) -> None:
        users: Any = get_user_model().objects
        self.client.force_login(users.create_superuser("staff"))
        response = self.client.post("/admin/project/order/add/", {"name": "a"})

        assert (response.status_code, RAN) == (302, ["a"])

    async def test_asynchronous_view_follows_its_transaction(self) -> None:
        await self.async_client.get("/async/?name=a&status=500")

        assert RAN == ["a"]


class InLiveServer(LiveServerTestCase):
    """The server runs in another thread."""

    def test_commit_in_the_server_runs_the_task(self) -> None:
        RAN.clear()
        urlopen(f"{self.live_server_url}/block/?name=a").close()

        assert RAN == ["a"]
