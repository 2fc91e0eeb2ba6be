"""The actions of the dashboard's buttons."""

from math import inf
from typing import Any
from urllib.parse import quote

import pytest

from alligator import Gator
from alligator.backends import locmem_backend
from alligator.backends.base import Announcement, Running, Scheduled, WorkerInfo
from alligator.exceptions import BackendUnavailable
from alligator.web.dashboard.actions import Actions
from alligator.web.endpoint import Endpoint
from tests.harness.dashboard import (
    BEARER,
    OURS,
    TOKEN,
    Forms,
    bury,
    choose,
    header,
    post,
    schedule,
    show,
    text_of,
)
from tests.harness.sample_tasks import add


class Broken(locmem_backend.Client):
    """A store that answers, and fails at every action."""

    def retry_dead(self, queue_name: str, task_id: str) -> bool:
        raise BackendUnavailable("db.internal is full")

    def scheduled(self, queue_name: str, limit: int = 100) -> list[Scheduled]:
        raise ZeroDivisionError("p4ssw0rd")


def test_actions_are_off_by_default(gator: Gator) -> None:
    endpoint = Endpoint(gator, token=TOKEN)
    bury(gator, "a")

    response = post(endpoint, BEARER, do="drop", queue="all", task="a")

    assert "<form" not in show(endpoint)
    assert response.status == 403
    assert b"actions=True" in response.body
    assert gator.stats().dead == 1


@pytest.mark.parametrize(
    ("do", "state", "done"),
    [("retry", "ready", "./?done=retry#dead"), ("drop", "dropped", "./?done=drop#dead")],
)
def test_dead_task_can_be_retried_and_dropped(
    browse: Any, endpoint: Endpoint, gator: Gator, do: str, state: str, done: str
) -> None:
    bury(gator, "a", "b")
    forms, headers = browse()
    (form,) = [form for form in forms if form["do"] == do and form["task"] == "a"]

    response = post(endpoint, headers, **form)

    assert (response.status, header(response, "Location")) == (303, done)
    assert (getattr(gator.stats(), state), gator.stats().dead) == (1, 1)


def test_scheduled_task_can_be_canceled(browse: Any, endpoint: Endpoint, gator: Gator) -> None:
    schedule(gator)
    forms, headers = browse()
    (form,) = [form for form in forms if form["do"] == "cancel"]

    response = post(endpoint, headers, **form)

    assert (response.status, header(response, "Location")) == (303, "./?done=cancel#scheduled")
    assert (gator.stats().canceled, gator.len()) == (1, 0)


@pytest.mark.parametrize(("do", "state"), [("retry-all", "ready"), ("drop-all", "dropped")])
def test_all_dead_tasks_of_a_queue_can_be_retried_and_dropped(
    browse: Any, endpoint: Endpoint, gator: Gator, do: str, state: str
) -> None:
    bury(gator, *"abc")
    forms, headers = browse()
    (form,) = [form for form in forms if form["do"] == do]

    response = post(endpoint, headers, **form)

    assert response.status == 303
    assert (getattr(gator.stats(), state), gator.stats().dead) == (3, 0)


@pytest.mark.parametrize(("do", "state"), [("retry", "ready"), ("drop", "dropped")])
def test_chosen_dead_tasks_may_be_of_any_queue(
    endpoint: Endpoint, gator: Gator, do: str, state: str
) -> None:
    bury(gator, *"abc")
    bury(gator, "d & e", queue="mail & co")
    boxes = Forms(show(endpoint)).boxes
    chosen = [box for box in boxes if not box.endswith("task=b")]

    response = choose(endpoint, do, "", *chosen)

    assert (response.status, header(response, "Location")) == (303, f"./?done={do}-chosen#dead")
    assert [letter.task_id for letter in gator.client.dead_letters("all")] == ["b"]
    assert getattr(gator.client.stats("mail & co"), state) == 1
    assert getattr(gator.stats(), state) == 2


def test_running_task_can_be_canceled(browse: Any, endpoint: Endpoint, gator: Gator) -> None:
    gator.options(task_id="a", queue_name="mail").task(add, 1, 2)
    gator.client.reserve("mail")
    running = [Running("a", "shop.charge", 0.0, "mail"), Running("b", "shop.charge", 0.0)]
    gator.client.beat(WorkerInfo("w", ["mail"], running=running), 60)
    forms, headers = browse()
    (form,) = [form for form in forms if form["do"] == "cancel"]

    response = post(endpoint, headers, **form)
    again = post(endpoint, headers, **form)

    assert header(response, "Location") == "./?done=cancel-running#running"
    assert "Its worker ends it within seconds" in show(endpoint, "done=cancel-running")
    assert (gator.stats("mail").canceled, gator.stats("mail").leased) == (1, 0)
    assert header(again, "Location") == "./?done=gone#scheduled"


def test_chosen_scheduled_tasks_are_canceled(endpoint: Endpoint, gator: Gator) -> None:
    for task_id in ("a", "b", "c"):
        schedule(gator, task_id)

    response = choose(endpoint, "cancel", *Forms(show(endpoint)).boxes[:2])

    assert header(response, "Location") == "./?done=cancel-chosen#scheduled"
    assert (gator.stats().canceled, gator.len()) == (2, 1)


def test_choosing_no_task_is_answered_on_the_page(endpoint: Endpoint, gator: Gator) -> None:
    bury(gator, "a")

    response = choose(endpoint, "drop", "")

    assert header(response, "Location") == "./?done=none#dead"
    assert "no task was chosen" in show(endpoint, "done=none")
    assert gator.stats().dead == 1


def test_chosen_tasks_that_no_longer_exist_are_reported(endpoint: Endpoint, gator: Gator) -> None:
    bury(gator, "a", "b")
    chosen = ["queue=all&task=a", "queue=all&task=a", "queue=all&task=b"]
    gator.drop_dead("b")

    some, none = choose(endpoint, "retry", *chosen), choose(endpoint, "retry", *chosen)

    assert header(some, "Location") == "./?done=partly#dead"
    assert header(none, "Location") == "./?done=gone#dead"
    assert "Only some of the tasks were changed" in show(endpoint, "done=partly")
    assert gator.stats().ready == 1


@pytest.mark.parametrize(
    "places",
    [
        ["queue=all"],
        ["task=b"],
        ["b"],
        ["queue=all&task=b&store=1"],
        ["queue=all&task=b&store=-1"],
        [f"queue=all&task={number}" for number in range(201)],
    ],
)
def test_chosen_task_that_is_invalid_prevents_the_whole_action(
    endpoint: Endpoint, gator: Gator, places: list[str]
) -> None:
    bury(gator, "a")

    assert choose(endpoint, "drop", "queue=all&task=a", *places).status == 422
    assert gator.stats().dead == 1


@pytest.mark.parametrize(
    "form", [{"do": "drop-all"}, {"do": "drop", "queue": "all"}, {"do": "drop", "task": "a"}]
)
def test_form_is_for_one_task_or_for_chosen_ones_or_for_all(
    endpoint: Endpoint, gator: Gator, form: dict[str, str]
) -> None:
    bury(gator, "a")

    assert post(endpoint, BEARER, **form, chosen="queue%3Dall%26task%3Da").status == 422
    assert gator.stats().dead == 1


def test_form_for_chosen_tasks_must_be_of_the_page(endpoint: Endpoint, gator: Gator) -> None:
    bury(gator, "a")
    chosen = {"do": "drop", "chosen": "queue%3Dall%26task%3Da"}

    assert post(endpoint, {}, **chosen).status == 403
    assert post(Endpoint(gator, token=TOKEN), BEARER, **chosen).status == 403
    assert gator.stats().dead == 1
    assert post(endpoint, OURS, **chosen).status == 303
    assert gator.stats().dead == 0


def test_checkboxes_exist_only_with_actions(gator: Gator) -> None:
    bury(gator, "a")

    html = show(Endpoint(gator, token=TOKEN), "live=1")

    assert "<input" not in html
    assert "chosen" not in html


def test_action_on_a_task_that_no_longer_exists_says_so(
    browse: Any, endpoint: Endpoint, gator: Gator
) -> None:
    bury(gator, "a")
    forms, headers = browse()
    gator.drop_dead("a")

    response = post(endpoint, headers, **forms[-1])

    assert header(response, "Location") == "./?done=gone#dead"
    assert "the task no longer exists" in show(endpoint, "done=gone")


def test_action_reaches_the_queue_of_another_store(gator: Gator) -> None:
    other = Gator("locmem://", "mail")
    bury(other, "a", queue="mail")
    endpoint = Endpoint([gator, other], token=TOKEN, actions=True)

    post(endpoint, BEARER, do="retry", store="1", queue="mail", task="a")

    assert other.stats().ready == 1


def test_program_with_the_token_needs_no_form(endpoint: Endpoint, gator: Gator) -> None:
    bury(gator, "a")

    assert post(endpoint, BEARER, do="retry", queue="all", task="a").status == 303
    assert gator.stats().ready == 1


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"do": "retry"},
        {"do": "retry", "queue": "all"},
        {"do": "retry-all", "queue": "all", "task": "a"},
        {"do": "perform", "queue": "all", "task": "a"},
        {"do": "pause"},
        {"do": "pause", "queue": "all", "task": "a"},
        {"do": "resume", "queue": "all", "chosen": "queue=all&task=a"},
        {"do": "retry", "queue": "all", "task": "a", "store": "1"},
        {"do": "retry", "queue": "all", "task": "a", "store": "-1"},
        {"do": "retry", "queue": "all", "task": "a", "store": "9" * 5000},
        {"do": "retry", "queue": "all", "task": "a", "store": "%00"},
    ],
)
def test_form_with_invalid_fields_does_nothing(
    endpoint: Endpoint, gator: Gator, form: dict[str, str]
) -> None:
    bury(gator, "a")

    assert post(endpoint, BEARER, **form).status == 422
    assert gator.stats().dead == 1


def test_queue_can_be_paused_and_resumed(browse: Any, endpoint: Endpoint, gator: Gator) -> None:
    gator.task(add, 1, 2)
    (form,), headers = browse()
    assert form["do"] == "pause"

    response = post(endpoint, headers, **form)

    assert (response.status, header(response, "Location")) == (303, "./?done=pause#queues")
    assert gator.stats().paused == inf
    page = text_of(show(endpoint, "done=pause", **headers))
    assert "The queue is paused: no worker begins its tasks." in page
    assert "all paused" in page
    (form,), headers = browse()
    assert form["do"] == "resume"
    post(endpoint, headers, **form)
    assert gator.stats().paused == 0


def test_page_shows_when_a_pause_ends(endpoint: Endpoint, gator: Gator) -> None:
    gator.pause(until=7200)

    assert "all paused for " in text_of(show(endpoint, **BEARER))


def test_page_shows_a_limit_and_how_many_tasks_wait_for_it(
    endpoint: Endpoint, gator: Gator
) -> None:
    gator.limit(at_once=1, per_minute=100)
    assert "all at most 1 at once, 100 per minute " in text_of(show(endpoint, **BEARER))
    for _ in range(3):
        gator.task(add, 1, 2)

    gator.client.reserve("all", lease_for=3600)

    assert "at most 1 at once, 100 per minute; 2 wait" in text_of(show(endpoint, **BEARER))


def test_queue_that_cannot_be_paused_has_no_button(gator: Gator) -> None:
    gator.client.known_stats = ("ready",)  # type: ignore[misc]
    gator.task(add, 1, 2)
    endpoint = Endpoint(gator, token=TOKEN, actions=True)

    assert 'value="pause"' not in show(endpoint, **BEARER)


def test_store_that_fails_is_a_503_without_a_reason() -> None:
    endpoint = Endpoint(Gator("locmem://", backend_class=Broken), token=TOKEN, actions=True)

    response = post(endpoint, BEARER, do="retry", queue="all", task="a")

    assert response.status == 503
    assert b"db.internal" not in response.body


def test_action_on_all_tasks_ends_in_time(gator: Gator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alligator.web.dashboard.actions.BULK_SECONDS", -1)
    bury(gator, *"abc")

    done = Actions([gator]).perform([("do", "drop-all"), ("queue", "all")])

    assert done == "partly"
    assert gator.stats().dead == 2


# Schedules.


def test_schedule_of_the_application_can_be_run_now(
    browse: Any, endpoint: Endpoint, gator: Gator
) -> None:
    gator.cron("0 3 * * *", add, 1, 2, name="night & day", timezone="Europe/Berlin")
    forms, headers = browse()
    (form,) = [each for each in forms if each["do"] == "run"]

    response = post(endpoint, headers, **{name: quote(value) for name, value in form.items()})

    assert form == {"do": "run", "store": "0", "schedule": "night & day"}
    assert (response.status, header(response, "Location")) == (303, "./?done=run#schedules")
    assert gator.len() == 1
    assert "A task of the schedule is on its queue." in show(endpoint, "done=run")


def test_schedule_of_another_program_has_no_button(endpoint: Endpoint, gator: Gator) -> None:
    gator.client.announce_schedules([Announcement("nightly", "{}", 60)], 0)

    response = post(endpoint, BEARER, do="run", schedule="nightly")

    assert "nightly" in show(endpoint)
    assert "run" not in [form["do"] for form in Forms(show(endpoint)).found]
    assert header(response, "Location") == "./?done=unknown#schedules"
    assert gator.len() == 0


def test_schedule_is_not_run_by_the_form_of_another_site(endpoint: Endpoint, gator: Gator) -> None:
    gator.every(60, add, 1, 2)

    for headers in ({"sec-fetch-site": "cross-site"}, {}, {"origin": "https://evil.example"}):
        response = post(endpoint, headers, do="run", schedule="add")
        assert response.status == 403

    assert gator.len() == 0


@pytest.mark.parametrize("form", [{}, {"schedule": ""}, {"schedule": "add", "store": "7"}])
def test_unclear_run_of_a_schedule_does_nothing(
    endpoint: Endpoint, gator: Gator, form: dict[str, str]
) -> None:
    gator.every(60, add, 1, 2)

    assert post(endpoint, BEARER, do="run", **form).status == 422
    assert gator.len() == 0
