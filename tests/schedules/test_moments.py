"""The moments of cron expressions and intervals, above all where the clock is set."""

import sys
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alligator.exceptions import ConfigurationError, InvalidOption, MissingExtra
from alligator.schedules.moments import MAX_INTERVAL, NEVER, Cron, Interval, describe_next

DAY = 86_400

ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]

#: Where clocks are set in 2026 and 2027: by an hour, and by half an hour in Lord Howe.
CHANGES = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
    datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    datetime(2027, 1, 1, tzinfo=UTC),
]

near_changes = st.builds(
    lambda change, seconds: int(change.timestamp()) + seconds,
    st.sampled_from(CHANGES),
    st.integers(-3 * DAY, 3 * DAY),
)
minutes = st.sampled_from(["0", "30", "59", "*/15", "*", "15,45", "0-10/5"])
HOURS: dict[str, Collection[int]] = {
    **{str(hour): [hour] for hour in (0, 1, 2, 3, 23)},
    "1-3": [1, 2, 3],
    "*/2": range(0, 24, 2),
    "*": range(24),
}
hours = st.sampled_from([*HOURS])
expressions = st.builds(lambda minute, hour: f"{minute} {hour} * * *", minutes, hours)


def ticks(expression: str, zone: str, start: str, number: int = 3) -> list[str]:
    """Return the local times of the first ticks after *start*, which is local time, too."""
    tz = ZoneInfo(zone)
    moment = int(datetime.fromisoformat(start).replace(tzinfo=tz).timestamp())
    return [
        datetime.fromtimestamp(each, tz).strftime("%d %H:%M%z")
        for each in islice(Cron(expression, zone).after(moment), number)
    ]


@pytest.mark.parametrize(
    ("zone", "start", "expression", "expected"),
    [
        # Forward: 02:00 to 03:00. A fixed time in the gap comes when the gap is over.
        (
            "Europe/Berlin",
            "2026-03-28 12:00",
            "30 2 * * *",
            ["29 03:00+0200", "30 02:30+0200", "31 02:30+0200"],
        ),
        (
            "Europe/Berlin",
            "2026-03-29 01:15",
            "*/30 * * * *",
            ["29 01:30+0100", "29 03:00+0200", "29 03:30+0200"],
        ),
        # Back: 03:00 to 02:00. A fixed time in the repeated hour comes once.
        (
            "Europe/Berlin",
            "2026-10-24 12:00",
            "30 2 * * *",
            ["25 02:30+0200", "26 02:30+0100", "27 02:30+0100"],
        ),
        (
            "Europe/Berlin",
            "2026-10-25 01:45",
            "*/30 * * * *",
            ["25 02:00+0200", "25 02:30+0200", "25 02:00+0100"],
        ),
        (
            "America/New_York",
            "2026-03-07 12:00",
            "30 2 * * *",
            ["08 03:00-0400", "09 02:30-0400", "10 02:30-0400"],
        ),
        (
            "America/New_York",
            "2026-10-31 12:00",
            "30 1 * * *",
            ["01 01:30-0400", "02 01:30-0500", "03 01:30-0500"],
        ),
        # By half an hour: 02:00 to 02:30, and 02:00 to 01:30.
        (
            "Australia/Lord_Howe",
            "2026-10-03 12:00",
            "15 2 * * *",
            ["04 02:30+1100", "05 02:15+1100", "06 02:15+1100"],
        ),
        (
            "Australia/Lord_Howe",
            "2026-04-04 12:00",
            "45 1 * * *",
            ["05 01:45+1100", "06 01:45+1030", "07 01:45+1030"],
        ),
    ],
)
def test_cron_follows_the_rules_of_debian_where_the_clock_is_set(
    zone: str, start: str, expression: str, expected: list[str]
) -> None:
    assert ticks(expression, zone, start) == expected


@given(expression=expressions, zone=st.sampled_from(ZONES), start=near_changes)
@settings(max_examples=150)
def test_moments_increase(expression: str, zone: str, start: int) -> None:
    found = [start, *islice(Cron(expression, zone).after(start), 20)]

    assert all(first < second for first, second in pairwise(found))


@given(expression=expressions, zone=st.sampled_from(ZONES), start=near_changes, data=st.data())
@settings(max_examples=300)
def test_workers_that_start_at_different_times_agree(
    expression: str, zone: str, start: int, data: st.DataObject
) -> None:
    cron = Cron(expression, zone)
    due = cron.next(start)
    later = data.draw(st.integers(start, due - 1))

    assert cron.next(later) == due
    assert [*islice(cron.after(later), 5)] == [*islice(cron.after(start), 5)]


@given(
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    zone=st.sampled_from(ZONES),
    change=st.sampled_from(CHANGES),
)
@settings(max_examples=150)
def test_daily_schedule_comes_once_on_each_day(
    hour: int, minute: int, zone: str, change: datetime
) -> None:
    tz = ZoneInfo(zone)
    first = (change.astimezone(tz) - timedelta(days=3)).date()
    midnight = datetime(first.year, first.month, first.day, tzinfo=tz)

    cron = Cron(f"{minute} {hour} * * *", zone)
    found = [*islice(cron.after(int(midnight.timestamp()) - 1), 6)]

    dates = [datetime.fromtimestamp(each, tz).date() for each in found]
    assert dates == [first + timedelta(days=n) for n in range(6)]


@given(
    minute=st.sampled_from(["*/15", "*", "*/30", "*/7"]),
    hour=hours,
    zone=st.sampled_from(ZONES),
    start=near_changes,
)
@settings(max_examples=100)
def test_wildcard_comes_whenever_the_local_time_matches(
    minute: str, hour: str, zone: str, start: int
) -> None:
    tz, step, end = ZoneInfo(zone), int(minute.partition("/")[2] or 1), start + 2 * DAY

    found = Cron(f"{minute} {hour} * * *", zone).after(start)

    expected = [
        moment
        for moment in range(start - start % 60 + 60, end, 60)
        if (local := datetime.fromtimestamp(moment, tz)).minute % step == 0
        and local.hour in HOURS[hour]
    ]
    assert [*takewhile(lambda moment: moment < end, found)] == expected


@given(zone=st.sampled_from(ZONES), start=near_changes)
@settings(max_examples=100)
def test_wildcard_follows_the_time_that_passes(zone: str, start: int) -> None:
    found = [*islice(Cron("*/15 * * * *", zone).after(start), 20)]

    assert [each % 900 for each in found] == [0] * 20
    assert {second - first for first, second in pairwise(found)} == {900}


def test_cron_knows_days_months_and_names() -> None:
    assert ticks("0 3 1 * *", "UTC", "2026-01-15") == ["01 03:00+0000"] * 3
    assert ticks("0 9 * * MON-FRI", "UTC", "2026-01-02 10:00") == [
        "05 09:00+0000",
        "06 09:00+0000",
        "07 09:00+0000",
    ]
    assert ticks("0 0 29 2 *", "UTC", "2026-01-01", 1) == ["29 00:00+0000"]


@pytest.mark.parametrize(
    "expression",
    ["", "x", "0 3 * *", "0 0 3 * * *", "61 * * * *", "* 24 * * *", "*/0 * * * *", "@daily"],
)
def test_bad_expression_is_an_error(expression: str) -> None:
    with pytest.raises(ConfigurationError, match="cron expression"):
        Cron(expression)


@pytest.mark.parametrize("expression", [None, 3, b"* * * * *"])
def test_expression_of_another_type_is_an_error(expression: Any) -> None:
    with pytest.raises(ConfigurationError, match="five fields"):
        Cron(expression)


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 4,6 *"])
def test_expression_that_never_occurs_is_an_error(expression: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Cron(expression)


@pytest.mark.parametrize("zone", ["Europe/Berln", "", "../etc", "a\0b", "Europe", None, 5])
def test_unknown_time_zone_is_an_error(zone: Any) -> None:
    with pytest.raises(ConfigurationError, match="timezone"):
        Cron("* * * * *", zone)


def test_error_of_a_time_zone_names_a_similar_one() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'Europe/Berlin'"):
        Cron("* * * * *", "Europe/Berln")


def test_time_zone_may_be_an_object() -> None:
    assert Cron("0 3 * * *", ZoneInfo("Europe/Berlin")).zone == "Europe/Berlin"


def test_system_without_time_zones_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zoneinfo.available_timezones", lambda: set[str]())

    with pytest.raises(ConfigurationError, match="pip install tzdata"):
        Cron("* * * * *", "Nowhere/Else")


def test_cron_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)

    with pytest.raises(MissingExtra, match=r"pip install 'alligator\[schedules\]'"):
        Cron("0 3 * * *")
    assert Interval(30).next(0) == 30


@given(seconds=st.integers(1, MAX_INTERVAL), start=st.integers(0, 2**33))
def test_interval_divides_the_time_since_1970(seconds: int, start: int) -> None:
    first, second = islice(Interval(seconds).after(start), 2)

    assert start < first <= start + seconds
    assert first % seconds == 0
    assert second - first == seconds


def test_interval_may_be_a_timedelta() -> None:
    assert Interval(timedelta(minutes=5)).definition == "every 300 s"
    assert Interval(30.0).seconds == 30


@pytest.mark.parametrize(
    "seconds",
    [0, -1, 0.5, 1.5, MAX_INTERVAL + 1, 10**400, True, "30", None, float("nan"), float("inf")],
)
def test_interval_out_of_range_is_an_error(seconds: Any) -> None:
    with pytest.raises(InvalidOption, match="whole number of seconds from 1"):
        Interval(seconds)


def test_next_moment_is_found_for_a_definition_of_another_process() -> None:
    assert describe_next("every 30 s", None, 31) == 60
    assert describe_next("0 3 * * *", "Europe/Berlin", 0) == 2 * 3600
    assert describe_next("0 3 * * *", None, 0) == 3 * 3600


@pytest.mark.parametrize(
    ("definition", "zone"),
    [
        *[(text, None) for text in ("", "every x", "every 0 s", "every ", "0 3 * *", "\ud800")],
        ("0 3 * * *", "Mars/Olympus"),
    ],
)
def test_definition_that_cannot_be_read_has_no_next_moment(
    definition: str, zone: str | None
) -> None:
    assert describe_next(definition, zone, 0) is None


def test_schedule_that_has_ended_has_no_next_moment() -> None:
    assert Cron("0 0 29 2 *").next(2**55 // 2**20) != NEVER
    assert describe_next("* * * * *", None, 10**15) is None
