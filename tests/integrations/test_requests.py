"""What every web integration does: one table for all of them."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from alligator import CANCELED, DEFERRED, WAITING, Gator, Task, Transaction
from alligator.backends import locmem_backend
from alligator.backends.base import Message
from alligator.exceptions import BackendUnavailable, ConfigurationError, UnknownOption
from tests.harness.sample_tasks import add, miss_a_store
from tests.harness.web_sites import Reply, Site, View

calls: list[object] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


def note(what: object) -> None:
    calls.append(what)


def fail(reason: str) -> None:
    raise ValueError(reason)


class Away(locmem_backend.Client):
    """A store that cannot be reached for a push."""

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        raise BackendUnavailable("the store at 10.0.0.1 did not answer")


class Counted(locmem_backend.Client):
    """A store that counts round trips."""

    pushes = 0

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        type(self).pushes += 1
        super().push_many(messages, commit_id=commit_id)


def pushing(gator: Gator, status: int = 200, kept: list[Task] | None = None) -> View:
    """Make a view that starts one task and answers *status*."""

    def view(transaction: Transaction) -> Reply:
        task = gator.task(add, 1, 2)
        if kept is not None:
            kept.append(task)
        return Reply(status)

    return view


def raising(gator: Gator) -> View:
    def view(transaction: Transaction) -> Reply:
        gator.task(add, 1, 2)
        raise RuntimeError("the view fails")

    return view


# When tasks are queued.


@pytest.mark.parametrize("status", [200, 201, 204, 303, 307])
def test_success_queues_the_tasks(site: Site, gator: Gator, status: int) -> None:
    kept: list[Task] = []
    get = site(pushing(gator, status, kept), {"gator": gator})

    answer = get()

    assert answer.status == status
    assert gator.len() == 1
    assert kept[0].status == WAITING


@pytest.mark.parametrize("status", [400, 404, 422, 500, 503])
def test_error_discards_the_tasks(site: Site, gator: Gator, status: int) -> None:
    kept: list[Task] = []
    get = site(pushing(gator, status, kept), {"gator": gator})

    answer = get()

    assert answer.status == status
    assert gator.len() == 0
    assert kept[0].status == CANCELED


def test_exception_discards_the_tasks(site: Site, gator: Gator) -> None:
    get = site(raising(gator), {"gator": gator})

    answer = get()

    assert answer.status == 500
    assert gator.len() == 0


def test_doomed_transaction_discards_the_tasks(site: Site, gator: Gator) -> None:
    def view(transaction: Transaction) -> Reply:
        gator.task(add, 1, 2)
        transaction.doom()
        return Reply(200)

    answer = site(view, {"gator": gator})()

    assert answer.status == 200
    assert gator.len() == 0


def test_tasks_are_held_while_the_view_works(site: Site, gator: Gator) -> None:
    seen: list[int] = []

    def view(transaction: Transaction) -> Reply:
        task = gator.task(add, 1, 2)
        seen.extend([gator.len(), task.status, len(transaction.tasks)])
        return Reply(200)

    site(view, {"gator": gator})()

    assert seen == [0, DEFERRED, 1]


def test_all_tasks_of_a_request_go_in_one_round_trip(site: Site) -> None:
    gator = Gator("locmem://", backend_class=Counted)
    Counted.pushes = 0

    def view(transaction: Transaction) -> Reply:
        for number in range(10):
            gator.task(add, number, number)
        return Reply(200)

    site(view, {"gator": gator})()

    assert (gator.len(), Counted.pushes) == (10, 1)


def test_requests_do_not_see_each_others_tasks(site: Site, gator: Gator) -> None:
    statuses = iter([500, 200, 404, 200])

    def view(transaction: Transaction) -> Reply:
        assert transaction.tasks == ()
        return pushing(gator, next(statuses))(transaction)

    get = site(view, {"gator": gator})

    depths = [(get() and gator.len()) for _ in range(4)]

    assert depths == [0, 1, 1, 2]


def test_transaction_exists_only_inside_requests(site: Site, gator: Gator) -> None:
    get = site(raising(gator), {"gator": gator})
    get()

    gator.task(add, 1, 2)

    assert gator.current is None
    assert gator.len() == 1


# The veto.


def test_veto_discards_the_tasks_of_a_success(site: Site, gator: Gator) -> None:
    asked: list[tuple[int, str | None]] = []

    def veto(status: int, headers: Sequence[tuple[str, str]]) -> bool:
        asked.append((status, dict(headers).get("x-verdict")))
        return True

    def view(transaction: Transaction) -> Reply:
        gator.task(add, 1, 2)
        return Reply(200, headers={"X-Verdict": "No"})

    site(view, {"gator": gator, "commit_veto": veto})()

    assert asked == [(200, "No")]
    assert gator.len() == 0


@pytest.mark.parametrize("veto", [lambda status, headers: False, None], ids=["false", "none"])
def test_tasks_of_an_error_are_queued_without_a_veto(
    site: Site, gator: Gator, veto: Callable[..., bool] | None
) -> None:
    answer = site(pushing(gator, 500), {"gator": gator, "commit_veto": veto})()

    assert answer.status == 500
    assert gator.len() == 1


def test_exception_without_a_veto_discards_the_tasks(site: Site, gator: Gator) -> None:
    if site.__name__ == "flask_site":  # type: ignore[attr-defined]  # a function
        pytest.skip("Flask makes an answer of every exception before it comes to the middleware")

    site(raising(gator), {"gator": gator, "commit_veto": None})()

    assert gator.len() == 0


def test_veto_is_not_called_without_tasks(site: Site, gator: Gator) -> None:
    asked: list[int] = []

    def veto(status: int, headers: Sequence[tuple[str, str]]) -> bool:
        asked.append(status)
        return False

    answer = site(lambda transaction: Reply(200), {"gator": gator, "commit_veto": veto})()

    assert answer.status == 200
    assert asked == []


def test_veto_that_fails_fails_the_request(site: Site, gator: Gator) -> None:
    def veto(status: int, headers: Sequence[tuple[str, str]]) -> bool:
        raise ValueError("the veto fails")

    answer = site(pushing(gator), {"gator": gator, "commit_veto": veto})()

    assert answer.status == 500
    assert gator.len() == 0


# Options.


def test_options_are_given_to_the_tasks_of_every_request(site: Site, gator: Gator) -> None:
    kept: list[Task] = []

    site(pushing(gator, kept=kept), {"gator": gator, "options": {"retries": 3}})()

    assert kept[0].retries == 3


def test_options_may_be_a_function_of_the_request(site: Site, gator: Gator) -> None:
    kept: list[Task] = []

    def options(request: Any) -> dict[str, Any]:
        scope = getattr(request, "scope", None) or getattr(request, "environ", request)
        return {"headers": {"path": scope.get("path") or scope["PATH_INFO"]}}

    get = site(pushing(gator, kept=kept), {"gator": gator, "options": options})
    get("/here")
    get("/there")

    assert [task.headers["path"] for task in kept] == ["/here", "/there"]


def test_function_of_options_can_return_none(site: Site, gator: Gator) -> None:
    get = site(pushing(gator), {"gator": gator, "options": lambda request: None})

    assert get().status == 200
    assert gator.len() == 1


def test_view_can_add_to_the_options(site: Site, gator: Gator) -> None:
    tasks: list[Task] = []

    def view(transaction: Transaction) -> Reply:
        tasks.append(gator.task(add, 1, 2))
        transaction.update(retries=5)
        tasks.append(gator.task(add, 1, 2))
        return Reply(200)

    site(view, {"gator": gator, "options": {"retries": 1, "timeout": 9.0}})()

    assert [(task.retries, task.timeout) for task in tasks] == [(1, 9.0), (5, 9.0)]


def test_options_of_the_call_override_those_of_the_request(site: Site, gator: Gator) -> None:
    tasks: list[Task] = []

    def view(transaction: Transaction) -> Reply:
        with gator.options(retries=7) as opts:
            tasks.append(opts.task(add, 1, 2))
        return Reply(200)

    site(view, {"gator": gator, "options": {"retries": 1, "timeout": 9.0}})()

    assert [(task.retries, task.timeout) for task in tasks] == [(7, 9.0)]


def test_wrong_options_of_a_function_fail_the_request(site: Site, gator: Gator) -> None:
    get = site(pushing(gator), {"gator": gator, "options": lambda request: {"retires": 1}})

    assert get().status == 500
    assert gator.len() == 0
    assert gator.current is None


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"commit_at": "begin"}, ConfigurationError),
        ({"options": {"retires": 3}}, UnknownOption),
        ({"gator": ()}, ConfigurationError),
        ({"gator": "locmem://"}, ConfigurationError),
        ({"gator": object()}, ConfigurationError),
    ],
    ids=["commit_at", "options", "none", "string", "object"],
)
def test_wrong_settings_are_refused_when_they_are_given(
    settings: dict[str, Any], error: type[Exception], gator: Gator
) -> None:
    from asgi_alligator import AlligatorMiddleware

    with pytest.raises(error):
        AlligatorMiddleware(lambda scope, receive, send: None, **{"gator": gator, **settings})  # type: ignore[arg-type, return-value]  # never called


# Tasks that do not follow the rule.


@pytest.mark.parametrize(
    "make",
    [lambda gator: pushing_always(gator, 404), lambda gator: pushing_always(gator, None)],
    ids=["status", "exception"],
)
def test_always_task_survives_a_failure(
    site: Site, gator: Gator, make: Callable[[Gator], View]
) -> None:
    get = site(make(gator), {"gator": gator})

    answer = get()

    assert answer.status >= 400
    assert gator.len() == 1


def pushing_always(gator: Gator, status: int | None) -> View:
    def view(transaction: Transaction) -> Reply:
        gator.task(add, 1, 2)
        with gator.options(always=True) as opts:
            opts.task(add, 3, 4)
        assert gator.len() == 0
        if status is None:
            raise RuntimeError("the view fails")
        return Reply(status)

    return view


def test_immediate_task_does_not_wait(site: Site, gator: Gator) -> None:
    seen: list[int] = []

    def view(transaction: Transaction) -> Reply:
        with gator.options(immediate=True) as opts:
            opts.task(add, 1, 2)
        seen.append(gator.len())
        return Reply(500)

    site(view, {"gator": gator})()

    assert seen == [1]
    assert gator.len() == 1


def test_callback_is_called_when_the_request_succeeds(site: Site, gator: Gator) -> None:
    statuses = iter([200, 404])

    def view(transaction: Transaction) -> Reply:
        transaction.on_commit(lambda: calls.append("committed"))
        return Reply(next(statuses))

    get = site(view, {"gator": gator})
    get()
    get()

    assert calls == ["committed"]


# Streams.


def test_stream_is_delivered_and_its_late_tasks_are_queued_at_once(
    site: Site, gator: Gator
) -> None:
    seen: list[int] = []

    def chunks() -> Iterator[bytes]:
        yield b"one "
        seen.append(gator.len())
        gator.task(add, 3, 4)
        seen.append(gator.len())
        yield b"two "
        yield b"three"

    def view(transaction: Transaction) -> Reply:
        gator.task(add, 1, 2)
        return Reply(200, chunks())

    answer = site(view, {"gator": gator})()

    assert answer.body == b"one two three"
    assert seen == [1, 2]


def test_stream_that_breaks_off_leaves_its_tasks_queued(site: Site, gator: Gator) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"one "
        raise RuntimeError("the stream breaks off")

    def view(transaction: Transaction) -> Reply:
        gator.task(add, 1, 2)
        return Reply(200, chunks())

    site(view, {"gator": gator})()

    assert gator.len() == 1


# At the end.


def test_commit_at_the_end_waits_for_a_stream(site: Site, gator: Gator) -> None:
    seen: list[int] = []

    def chunks() -> Iterator[bytes]:
        yield b"one "
        gator.task(add, 3, 4)
        yield b"two"
        seen.append(gator.len())

    def view(transaction: Transaction) -> Reply:
        gator.task(add, 1, 2)
        return Reply(200, chunks())

    answer = site(view, {"gator": gator, "commit_at": "end"})()

    assert answer.body == b"one two"
    assert seen == [0]
    assert gator.len() == 2


def test_commit_at_the_end_discards_after_a_broken_stream(site: Site, gator: Gator) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"one "
        raise RuntimeError("the stream breaks off")

    def view(transaction: Transaction) -> Reply:
        gator.task(add, 1, 2)
        return Reply(200, chunks())

    site(view, {"gator": gator, "commit_at": "end"})()

    assert gator.len() == 0


@pytest.mark.parametrize(("status", "depth"), [(200, 1), (302, 1), (404, 0), (500, 0)])
def test_commit_at_the_end_depends_on_the_status(
    site: Site, gator: Gator, status: int, depth: int
) -> None:
    answer = site(pushing(gator, status), {"gator": gator, "commit_at": "end"})()

    assert answer.status == status
    assert gator.len() == depth


def test_commit_at_the_end_discards_after_an_exception(site: Site, gator: Gator) -> None:
    answer = site(raising(gator), {"gator": gator, "commit_at": "end"})()

    assert answer.status == 500
    assert gator.len() == 0


def test_failed_commit_at_the_end_is_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    gator = Gator("locmem://", backend_class=Away)
    kept: list[Task] = []

    answer = site(pushing(gator, 201, kept), {"gator": gator, "commit_at": "end"})()

    assert answer.status == 201
    assert kept[0].task_id in caplog.text
    assert kept[0].status == CANCELED


# When the queue cannot be reached.


def test_tasks_that_cannot_be_queued_make_it_a_503(site: Site) -> None:
    gator = Gator("locmem://", backend_class=Away)

    def view(transaction: Transaction) -> Reply:
        gator.task(add, 1, 2)
        return Reply(201, b"created", {"X-Made": "up", "Location": "/orders/1"})

    answer = site(view, {"gator": gator})()

    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert "location" not in answer.headers
    assert b"10.0.0.1" not in answer.body
    assert b"created" not in answer.body


def test_stream_whose_tasks_cannot_be_queued_becomes_a_503(site: Site) -> None:
    gator = Gator("locmem://", backend_class=Away)

    def view(transaction: Transaction) -> Reply:
        gator.task(add, 1, 2)
        return Reply(200, iter([b"one ", b"two"]))

    answer = site(view, {"gator": gator})()

    assert answer.status == 503
    assert b"two" not in answer.body


def test_tasks_that_could_not_be_queued_are_logged_by_id(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    gator = Gator("locmem://", backend_class=Away)
    kept: list[Task] = []

    def view(transaction: Transaction) -> Reply:
        kept.extend(gator.task(add, 3735928559, number) for number in range(30))
        return Reply(200)

    with caplog.at_level(logging.ERROR, "alligator"):
        site(view, {"gator": gator})()

    assert "30 tasks" in caplog.text
    assert kept[0].task_id in caplog.text
    assert "3735928559" not in caplog.text
    assert all(task.status == CANCELED for task in kept)


def test_request_without_tasks_does_not_need_the_queue(site: Site) -> None:
    gator = Gator("redis://127.0.0.1:1/0")

    answer = site(lambda transaction: Reply(200, b"fine"), {"gator": gator})()

    assert (answer.status, answer.body) == (200, b"fine")


def test_unreachable_redis_makes_the_response_a_503(site: Site) -> None:
    gator = Gator("redis://user:s3cret@127.0.0.1:1/0")

    answer = site(pushing(gator), {"gator": gator})()

    assert answer.status == 503
    assert b"s3cret" not in answer.body
    assert b"127.0.0.1" not in answer.body


def test_always_task_that_cannot_be_queued_makes_the_response_a_503(site: Site) -> None:
    gator = Gator("locmem://", backend_class=Away)

    answer = site(pushing_always_to(gator), {"gator": gator})()

    assert answer.status == 503


def pushing_always_to(gator: Gator) -> View:
    def view(transaction: Transaction) -> Reply:
        with gator.options(always=True) as opts:
            opts.task(add, 3, 4)
        return Reply(404)

    return view


# Several gators.


def test_several_gators_commit_together(site: Site, gator: Gator) -> None:
    other = Gator("locmem://")

    def view(transaction: Transaction) -> Reply:
        gator.task(add, 1, 2)
        other.task(add, 1, 2)
        assert transaction.gator is gator
        return Reply(200)

    site(view, {"gator": [gator, other]})()

    assert (gator.len(), other.len()) == (1, 1)


def test_several_gators_discard_together(site: Site, gator: Gator) -> None:
    other = Gator("locmem://")

    def view(transaction: Transaction) -> Reply:
        gator.task(add, 1, 2)
        other.task(add, 1, 2)
        return Reply(404)

    site(view, {"gator": [gator, other]})()

    assert (gator.len(), other.len()) == (0, 0)


@pytest.mark.parametrize("first", [True, False], ids=["away-first", "away-last"])
def test_several_gators_commit_all_or_none(site: Site, gator: Gator, first: bool) -> None:
    away = Gator("locmem://", backend_class=Away)
    third = Gator("locmem://")
    tasks: list[Task] = []

    def view(transaction: Transaction) -> Reply:
        tasks.extend(each.task(add, 1, 2) for each in (gator, away, third))
        return Reply(200)

    gators = [away, gator, third] if first else [gator, third, away]
    answer = site(view, {"gator": gators})()

    assert answer.status == 503
    assert (gator.len(), third.len()) == (0, 0)
    assert [task.status for task in tasks] == [CANCELED] * 3


# Tasks that run in the process.


def test_sync_mode_runs_tasks_after_the_view_and_before_the_response(
    site: Site, gator: Gator
) -> None:
    def view(transaction: Transaction) -> Reply:
        gator.task(note, (1, 2))
        gator.task(note, "second")
        calls.append("view")
        return Reply(200)

    answer = site(view, {"gator": gator, "is_async": False})()
    calls.append("answer")

    assert answer.status == 200
    assert calls == ["view", [1, 2], "second", "answer"]
    assert gator.len() == 0


@pytest.mark.parametrize("status", [404, 500])
def test_sync_mode_runs_nothing_after_a_failed_request(
    site: Site, gator: Gator, status: int
) -> None:
    def view(transaction: Transaction) -> Reply:
        gator.task(note, "task")
        return Reply(status)

    answer = site(view, {"gator": gator, "is_async": "no"})()

    assert answer.status == status
    assert calls == []


def test_sync_mode_needs_no_store(site: Site) -> None:
    gator = Gator("redis://127.0.0.1:1/0", is_async=False)

    def view(transaction: Transaction) -> Reply:
        gator.task(note, "task")
        return Reply(200)

    answer = site(view, {"gator": gator})()

    assert answer.status == 200
    assert calls == ["task"]


def test_sync_mode_fails_the_request_whose_task_fails(site: Site, gator: Gator) -> None:
    def view(transaction: Transaction) -> Reply:
        gator.task(fail, "the task fails")
        return Reply(200)

    answer = site(view, {"gator": gator, "is_async": False})()

    assert answer.status == 500


def test_task_that_cannot_reach_its_own_store_causes_no_503(site: Site, gator: Gator) -> None:
    def view(transaction: Transaction) -> Reply:
        gator.task(miss_a_store)
        return Reply(200)

    answer = site(view, {"gator": gator, "is_async": False})()

    assert answer.status == 500


# One inside of another.


def test_inner_of_two_middlewares_does_nothing(site: Site) -> None:
    gator = Gator("locmem://", backend_class=Counted)
    Counted.pushes = 0
    asked: list[str] = []

    def veto(name: str) -> Callable[..., bool]:
        def asked_for(status: int, headers: Sequence[tuple[str, str]]) -> bool:
            asked.append(name)
            return False

        return asked_for

    get = site(
        pushing(gator),
        {"gator": gator, "commit_veto": veto("inner")},
        {"gator": gator, "commit_veto": veto("outer")},
    )
    get()
    get()

    assert (gator.len(), Counted.pushes) == (2, 2)
    assert asked == ["outer", "outer"]


def test_inner_of_two_middlewares_serves_its_own_gators(site: Site, gator: Gator) -> None:
    other = Gator("locmem://")

    def view(transaction: Transaction) -> Reply:
        gator.task(add, 1, 2)
        other.task(add, 1, 2)
        assert (gator.len(), other.len()) == (0, 0)
        return Reply(200)

    site(view, {"gator": [other, gator], "commit_at": "end"}, {"gator": gator})()

    assert (gator.len(), other.len()) == (1, 1)
