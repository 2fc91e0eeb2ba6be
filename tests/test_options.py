"""Options are checked where they are given, and each level overrides those before it."""

import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alligator import Gator, Options, Task
from alligator.exceptions import (
    AlligatorException,
    InvalidOption,
    MultipleDelayError,
    UnknownOption,
)
from alligator.options import check_options, merge_options, to_bool, to_timestamp
from tests.harness.sample_tasks import add


def yields(task: Task, error: BaseException) -> Iterator[None]:
    yield


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


def test_only_the_contexts_own_task_uses_its_options(gator: Gator) -> None:
    with gator.options(retries=3) as opts:
        with_options = opts.task(add, 1, 2)
        without = gator.task(add, 1, 2)

    assert (with_options.retries, without.retries) == (3, 0)


def test_context_gives_its_options_to_every_task(gator: Gator) -> None:
    with gator.options(retries=3) as opts:
        first, second = opts.task(add, 1, 2), opts.task(add, 3, b=4)

    assert [first.retries, second.retries] == [3, 3]
    assert first.task_id != second.task_id


def test_options_are_of_use_without_a_block(gator: Gator) -> None:
    opts = gator.options(retries=3)

    assert isinstance(opts, Options)
    assert opts.task(add, 1, 2).retries == 3


def test_exception_in_the_block_passes_through(gator: Gator) -> None:
    with pytest.raises(KeyError), gator.options(retries=3) as opts:
        opts.task(add, 1, 2)
        raise KeyError

    assert gator.len() == 1


def test_unknown_option_is_refused_with_the_nearest_name(gator: Gator) -> None:
    with pytest.raises(UnknownOption, match="did you mean 'retries'"):
        gator.options(retires=3)  # type: ignore[call-arg]


def test_unknown_option_like_no_other_is_refused_with_all_names(gator: Gator) -> None:
    with pytest.raises(UnknownOption, match=r"there are .*delay_by.*retries"):
        gator.options(zzz=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "options",
    [
        {"retries": -1},
        {"retries": 1.5},
        {"retries": "many"},
        {"retries": "3"},
        {"retries": True},
        {"retries": 2**31},
        {"retries": float("inf")},
        {"retries": float("nan")},
        {"delay_by": -1},
        {"delay_by": float("nan")},
        {"delay_by": "soon"},
        {"delay_by": True},
        {"delay_by": 10**400},
        {"delay_by": 1e15},
        {"delay_by": timedelta(days=40_000)},
        {"delay_by": timedelta(seconds=-1)},
        {"delay_until": 1e15},
        {"delay_until": True},
        {"delay_until": date.max},
        {"delay_until": datetime.max},
        {"delay_until": "tomorrow"},
        {"delay_until": float("inf")},
        {"backoff": -1},
        {"backoff": "fast"},
        {"backoff": [1, -1]},
        {"backoff": [1, 1e15]},
        {"backoff": b"ab"},
        {"backoff": bytearray(b"ab")},
        {"backoff": {1, 2}},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": 1e10},
        {"timeout": timedelta(0)},
        {"timeout": "1"},
        {"priority": "urgent"},
        {"priority": "High"},
        {"priority": 1},
        {"priority": ["high"]},
        {"headers": {"a": 1}},
        {"headers": ["a"]},
        {"queue_name": ""},
        {"queue_name": "a\nb"},
        {"queue_name": "x" * 201},
        {"task_id": 3},
        {"task_id": ""},
        {"on_error": "app.tell"},
        {"is_async": "perhaps"},
        {"is_async": None},
        {"immediate": "perhaps"},
    ],
    ids=str,
)
def test_invalid_value_is_refused_at_once_and_named(gator: Gator, options: dict[str, Any]) -> None:
    [name] = options

    with pytest.raises(InvalidOption, match=f"^{name} "):
        gator.options(**options)
    with pytest.raises(InvalidOption, match=f"^{name} "):
        gator.transaction(**options)
    with pytest.raises(InvalidOption, match=f"^{name} "):
        Gator("locmem://", defaults=options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [{"retries": -1}, {"backoff": "fast"}, {"timeout": 0}, {"headers": {"a": 1}}, {"is_async": 2}],
    ids=str,
)
def test_options_of_a_task_object_are_checked_too(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        Task(**options)


def test_pauses_are_no_iterator(gator: Gator) -> None:
    with pytest.raises(InvalidOption, match=r"^backoff "):
        gator.options(backoff=iter([1, 2]))  # type: ignore[arg-type]


def test_hook_cannot_be_a_generator_function(gator: Gator) -> None:
    with pytest.raises(InvalidOption, match=r"^on_error is a generator function"):
        gator.options(on_error=yields)


def test_one_delay_only(gator: Gator) -> None:
    with pytest.raises(MultipleDelayError):
        gator.options(delay_by=1, delay_until=2)
    with pytest.raises(MultipleDelayError):
        Task(delay_by=1, delay_until=2)


def test_none_leaves_an_option_as_it_is_by_default(gator: Gator) -> None:
    opts = gator.options(delay_by=None, timeout=None, on_error=None, headers=None, backoff=None)

    task = opts.task(add, 1, 2)

    assert (task.delay_until, task.timeout, task.on_error, task.headers) == (None, None, None, {})
    assert task.backoff == Task().backoff


def test_old_name_of_an_option_is_accepted(gator: Gator) -> None:
    with gator.options(**{"async": "False"}) as opts:  # type: ignore[arg-type]
        task = opts.task(add, 1, 2)

    assert task.result == 3
    assert gator.len() == 0


def test_subclass_of_task_adds_its_own_options() -> None:
    gator = Gator("locmem://", task_class=Teamed)

    task = gator.options(team="ops", retries=1).task(add, 1, 2)  # type: ignore[call-arg]

    assert isinstance(task, Teamed)
    assert (task.team, task.retries) == ("ops", 1)


def test_option_of_a_subclass_is_unknown_elsewhere(gator: Gator) -> None:
    with pytest.raises(UnknownOption, match="team"):
        gator.options(team="ops")  # type: ignore[call-arg]


class Teamed(Task):
    """A task with one option more."""

    def __init__(self, task_id: str | None = None, *, team: str = "", **options: Any) -> None:
        super().__init__(task_id, **options)
        self.team = team


# Merging.


def test_delay_of_one_kind_replaces_one_of_the_other() -> None:
    assert merge_options({"delay_by": 5}, {"delay_until": 0}) == {"delay_until": 0}
    assert merge_options({"delay_until": 5}, {"delay_by": None}) == {"delay_by": None}


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers())))
def test_last_level_that_sets_an_option_decides(levels: list[dict[str, int]]) -> None:
    merged = merge_options(*levels)

    assert set(merged) == {name for level in levels for name in level}
    for name, value in merged.items():
        assert value == [level[name] for level in levels if name in level][-1]


def test_merging_and_checking_leave_what_they_are_given_alone() -> None:
    given_options = {"async": "0", "retries": 1}

    check_options(given_options, Task)
    merge_options(given_options, {"retries": 2})

    assert given_options == {"async": "0", "retries": 1}


# Switches.


@pytest.mark.parametrize("word", ["True", "true", "TRUE", " 1 ", "yes", "Y", "on", "t", 1, True])
def test_words_that_switch_on(word: object) -> None:
    assert to_bool("is_async", word) is True


@pytest.mark.parametrize("word", ["False", "false", "0", "no", "N", "OFF", "f", " off\n", 0, False])
def test_words_that_switch_off(word: object) -> None:
    assert to_bool("is_async", word) is False


@pytest.mark.parametrize("word", ["", "maybe", "2", "None", None, 2, 1.5, [], b"1"])
def test_invalid_word_is_a_value_error_that_lists_the_words(word: object) -> None:
    with pytest.raises(ValueError, match=r"is_async is one of true, 1, yes.*false, 0, no, off"):
        to_bool("is_async", word)


# Moments.


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[timezone]:
    """Set the time zone of this process to nine hours ahead of UTC."""
    with monkeypatch.context() as context:
        context.setenv("TZ", "JST-9")
        time.tzset()
        yield timezone(timedelta(hours=9))
    time.tzset()


def test_naive_datetime_is_local_time(tokyo: timezone) -> None:
    naive = datetime(2030, 1, 2, 3, 4, 5)

    assert to_timestamp("delay_until", naive) == naive.replace(tzinfo=tokyo).timestamp()


def test_aware_datetime_keeps_its_moment() -> None:
    aware = datetime(2030, 1, 2, tzinfo=timezone(timedelta(hours=5)))

    assert to_timestamp("delay_until", aware) == aware.timestamp()


def test_date_is_its_first_moment_in_local_time(tokyo: timezone) -> None:
    expected = datetime(2030, 1, 2, tzinfo=tokyo).timestamp()

    assert to_timestamp("delay_until", date(2030, 1, 2)) == expected


@pytest.mark.parametrize("moment", [date.min, datetime.min, date(1960, 1, 1), 0])
def test_moment_long_ago_is_now(moment: Any) -> None:
    assert to_timestamp("delay_until", moment) == 0


@pytest.mark.parametrize("name", ["delay_by", "backoff", "timeout"])
def test_timedelta_is_a_number_of_seconds(gator: Gator, name: str) -> None:
    option: Any = {name: timedelta(minutes=2)}
    task = gator.options(**option).task(add, 1, 2)

    assert Task.deserialize(task.serialize()).serialize() == task.serialize()
    if name == "delay_by":
        [scheduled] = gator.client.scheduled("all")
        assert 110 < scheduled.due_in <= 120
    else:
        assert getattr(task, name) == 120


def test_pauses_may_be_timedeltas() -> None:
    assert Task(backoff=[timedelta(seconds=1), 2]).backoff == [1, 2]


values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.floats())
)


@given(st.dictionaries(st.sampled_from(["retries", "delay_by", "backoff", "timeout"]), values))
def test_options_that_pass_the_check_are_accepted_by_a_task(options: dict[str, Any]) -> None:
    try:
        checked = check_options(options, Task)
    except AlligatorException:
        return

    Task(**checked).next_pause()
