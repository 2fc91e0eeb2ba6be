"""gator.cron and gator.every: what they check at the call, and the tasks that they make."""

from datetime import date, timedelta
from typing import Any

import pytest

from alligator import Gator, Task
from alligator.constants import WAITING
from alligator.exceptions import (
    ConfigurationError,
    InvalidOption,
    NotImportable,
    NotSerializable,
    TaskTooLarge,
    UnknownOption,
    WrongArguments,
)
from tests.harness.sample_tasks import add, fail

NOON = 1_800_000_000


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


def tell(task: Task, error: BaseException) -> None:
    """Do nothing: a hook."""


def note_day(day: date, *, lang: str = "en") -> None:
    """Do nothing with a date."""


def tick(gator: Gator, name: str) -> Task:
    """Return the task of a tick, as a worker reads it."""
    assert gator.client.push_tick(name, NOON, gator.schedules[name].message(NOON))
    message = gator.schedules[name].message(NOON)
    (lease,) = gator.client.reserve(message.queue_name)
    return gator.read(lease)


def test_schedules_are_named_after_their_functions(gator: Gator) -> None:
    first = gator.cron("0 3 * * *", fail)
    second = gator.every(30, add, 1, 2)

    assert gator.schedules == {"fail": first, "add": second}
    assert repr(second) == "<Schedule add: every 30 s tests.harness.sample_tasks.add>"


def test_name_that_is_taken_is_an_error(gator: Gator) -> None:
    gator.every(30, add, 1, 2)

    with pytest.raises(ConfigurationError, match="name="):
        gator.every(60, add, 3, 4)
    gator.every(60, add, 3, 4, name="more")

    assert [*gator.schedules] == ["add", "more"]
    assert gator.schedules["add"].moments.definition == "every 30 s"


def test_tick_is_a_task_with_options(gator: Gator) -> None:
    gator.every(
        30,
        note_day,
        date(2026, 1, 1),
        kwargs={"lang": "de"},
        name="days",
        retries=3,
        backoff=[1, 2],
        timeout=timedelta(minutes=1),
        retry_on=(OSError, "shop.errors.Busy"),
        give_up_on=PermissionError,
        queue_name="mail",
        headers={"tenant": "7"},
        on_error=tell,
    )

    task = tick(gator, "days")

    assert task.func is note_day
    assert (task.func_args, task.func_kwargs) == ((date(2026, 1, 1),), {"lang": "de"})
    assert (task.retries, task.backoff, task.timeout) == (3, [1, 2], 60)
    assert task.retry_on == ["builtins.OSError", "shop.errors.Busy"]
    assert task.give_up_on == ["builtins.PermissionError"]
    assert (task.queue_name, task.headers, task.on_error) == ("mail", {"tenant": "7"}, tell)
    assert task.task_id == "days@2027-01-15T08:00:00Z"


def test_tick_has_the_defaults_of_the_gator() -> None:
    gator = Gator("locmem://", "mail", defaults={"retries": 5, "timeout": 9, "delay_by": 60})
    gator.every(30, add, 1, 2, timeout=8)

    task = tick(gator, "add")

    assert (task.queue_name, task.retries, task.timeout) == ("mail", 5, 8)
    assert task.delay_until is None


def test_tick_expires_so_long_after_it_was_queued(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    gator.every(30, add, 1, 2, expires=timedelta(minutes=1))
    monkeypatch.setattr("alligator.options.time", lambda: NOON + 600.0)

    assert tick(gator, "add").expires == NOON + 660


def test_tick_is_signed_and_of_the_task_class() -> None:
    class Mine(Task):
        pass

    gator = Gator("locmem://", task_class=Mine, secret="s" * 32)
    gator.every(30, add, 1, 2)

    assert isinstance(tick(gator, "add"), Mine)


def test_schedule_whose_function_cannot_be_imported_is_an_error(gator: Gator) -> None:
    with pytest.raises(NotImportable):
        gator.every(30, lambda: None)


def test_schedule_whose_call_cannot_work_is_an_error(gator: Gator) -> None:
    untyped: Any = add
    with pytest.raises(WrongArguments):
        gator.every(30, untyped, 1)
    with pytest.raises(WrongArguments):
        gator.every(30, add, 1, 2, kwargs={"c": 3})
    with pytest.raises(NotSerializable):
        gator.cron("0 3 * * *", untyped, object(), 2)
    with pytest.raises(TaskTooLarge):
        gator.cron("0 3 * * *", fail, "x" * 300_000)
    assert gator.schedules == {}


@pytest.mark.parametrize(
    "options",
    [
        {"task_id": "a"},
        {"delay_by": 1},
        {"delay_until": 1},
        {"is_async": True},
        {"async": False},
        {"immediate": True},
        {"always": True},
        {"name": ""},
        {"name": "a\nb"},
        {"name": "x" * 151},
        {"catch_up": -1},
        {"catch_up": "1"},
        {"retries": -1},
        {"kwargs": [1]},
        {"timeout": 0},
        {"expires": 0},
        {"expires": date(2100, 1, 1)},
        {"retry_on": 7},
        {"give_up_on": "Busy"},
    ],
)
def test_options_that_a_schedule_cannot_have_are_errors(
    gator: Gator, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidOption, match=next(iter(options))):
        gator.every(30, add, 1, 2, **options)
    assert gator.schedules == {}


def test_misspelled_option_is_an_error(gator: Gator) -> None:
    misspelled: Any = {"retires": 3}
    with pytest.raises(UnknownOption, match="did you mean 'retries'"):
        gator.every(30, add, 1, 2, **misspelled)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(1, 60), (30, 60), (600, 600), (3600, 3600), (86_400, 3600)]
)
def test_interval_is_caught_up_for_its_length(gator: Gator, seconds: int, expected: int) -> None:
    assert gator.every(seconds, add, 1, 2).catch_up == expected


def test_catch_up_is_an_hour_for_cron_unless_given(gator: Gator) -> None:
    assert gator.cron("0 3 * * *", fail).catch_up == 3600
    assert gator.cron("0 3 * * *", fail, name="b", catch_up=timedelta(days=2)).catch_up == 172_800


def test_store_keeps_a_schedule_for_longer_than_its_ticks_are_caught_up(gator: Gator) -> None:
    assert gator.cron("0 3 * * *", fail).announcement().ttl == 86_400
    week = gator.cron("0 3 * * *", fail, name="b", catch_up=timedelta(days=7))
    assert week.announcement().ttl > 7 * 86_400


def test_schedule_can_be_run_out_of_turn(gator: Gator) -> None:
    gator.every(30, add, 1, 2, queue_name="mail", retries=2)

    task = gator.run_schedule("add")

    (lease,) = gator.client.reserve("mail")
    assert (lease.task_id, task.status) == (task.task_id, WAITING)
    assert gator.read(lease).retries == 2
    assert gator.client.schedules() == []  # the ticks are not concerned


def test_run_out_of_turn_waits_for_no_transaction(gator: Gator) -> None:
    gator.every(30, add, 1, 2)

    with pytest.raises(ZeroDivisionError), gator.transaction():
        gator.run_schedule("add")
        raise ZeroDivisionError

    assert gator.len() == 1


def test_unknown_schedule_cannot_be_run(gator: Gator) -> None:
    with pytest.raises(ConfigurationError, match="no schedule 'nightly'"):
        gator.run_schedule("nightly")


def test_defining_a_schedule_opens_no_connection(gator: Gator) -> None:
    other = Gator("redis://127.0.0.1:1/0")
    other.every(30, add, 1, 2)
    other.cron("0 3 * * *", fail)

    assert len(other.schedules) == 2


def test_gators_have_schedules_of_their_own(gator: Gator) -> None:
    gator.every(30, add, 1, 2)

    assert Gator("locmem://").schedules == {}
