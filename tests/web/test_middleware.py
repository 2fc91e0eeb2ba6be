"""The middleware without a protocol; tests/integrations has it under each of them."""

from collections.abc import Sequence

import pytest

from alligator import Gator
from alligator.backends import locmem_backend
from alligator.backends.base import Message
from alligator.exceptions import BackendUnavailable, ConfigurationError
from alligator.web.http import Response
from alligator.web.middleware import Middleware
from tests.harness.sample_tasks import add


class Unreachable(locmem_backend.Client):
    """A store that accepts no tasks."""

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        raise BackendUnavailable("cannot reach the store")


def end_request(middleware: Middleware[None], gator: Gator, status: int) -> object:
    """Make a request that starts a task and ends with *status*; return the replacement."""
    transactions = middleware.begin({})
    gator.task(add, 1, 2)
    middleware.leave(transactions)
    return middleware.end(transactions, status, [])


@pytest.mark.parametrize(("status", "queued"), [(200, 1), (302, 1), (404, 0), (500, 0)])
def test_tasks_are_queued_if_the_response_is_a_success(
    gator: Gator, status: int, queued: int
) -> None:
    assert end_request(Middleware(None, gator), gator, status) is None
    assert gator.len() == queued


def test_response_is_replaced_if_the_tasks_cannot_be_queued() -> None:
    gator = Gator("locmem://", backend_class=Unreachable)

    response = end_request(Middleware(None, gator), gator, 200)

    assert isinstance(response, Response)
    assert response.status == 503
    assert "Retry-After" in dict(response.headers)


def test_tasks_after_leave_do_not_join_the_request(gator: Gator) -> None:
    middleware = Middleware(None, gator)

    transactions = middleware.begin({})
    middleware.leave(transactions)
    gator.task(add, 1, 2)

    assert gator.len() == 1
    assert not middleware.has_work(transactions)


def test_gators_of_an_outer_middleware_get_no_second_transaction(gator: Gator) -> None:
    (outer,) = Middleware(None, gator).begin({})

    assert Middleware(None, gator).begin({}, outer) == []

    outer.leave()
    outer.rollback()


def test_settings_that_are_invalid_are_errors(gator: Gator) -> None:
    async def options(request: object) -> dict[str, object]:
        return {}

    with pytest.raises(ConfigurationError, match="commit_at must be"):
        Middleware(None, gator, commit_at="late")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="options must be"):
        Middleware(None, gator, options=options)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="gator must be"):
        Middleware(None, "locmem://")  # type: ignore[arg-type]
