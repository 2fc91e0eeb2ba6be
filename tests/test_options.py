"""Options are checked where they are said, and each level overrides those before it."""

from datetime import UTC, date, datetime, timedelta, timezone
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
from tests.sample_tasks import add


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


def test_only_the_contexts_own_task_uses_its_options(gator: Gator) -> None:
    with gator.options(retries=3) as opts:
        with_options = opts.task(add, 1, 2)
        without = gator.task(add, 1, 2)

    assert (with_options.retries, without.retries) == (3, 0)


def test_a_context_gives_its_options_to_every_task(gator: Gator) -> None:
    with gator.options(retries=3) as opts:
        first, second = opts.task(add, 1, 2), opts.task(add, 3, b=4)

    assert [first.retries, second.retries] == [3, 3]
    assert first.task_id != second.task_id


def test_options_are_of_use_without_a_block(gator: Gator) -> None:
    opts = gator.options(retries=3)

    assert isinstance(opts, Options)
    assert opts.task(add, 1, 2).retries == 3


def test_an_exception_in_the_block_passes_through(gator: Gator) -> None:
    with pytest.raises(KeyError), gator.options(retries=3) as opts:
        opts.task(add, 1, 2)
        raise KeyError

    assert gator.len() == 1


def test_an_unknown_option_is_refused_with_the_name_that_was_meant(gator: Gator) -> None:
    with pytest.raises(UnknownOption, match="did you mean 'retries'"):
        gator.options(retires=3)  # type: ignore[call-arg]


def test_an_unknown_option_like_no_other_is_refused_with_all_there_are(gator: Gator) -> None:
    with pytest.raises(UnknownOption, match=r"there are .*delay_by.*retries"):
        gator.options(zzz=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "options",
    [
        {"retries": -1},
        {"retries": 1.5},
        {"retries": "many"},
        {"retries": float("inf")},
        {"retries": float("nan")},
        {"delay_by": -1},
        {"delay_by": float("nan")},
        {"delay_by": "soon"},
        {"delay_by": True},
        {"delay_by": 10**400},
        {"delay_until": "tomorrow"},
        {"delay_until": float("inf")},
        {"backoff": -1},
        {"backoff": "fast"},
        {"backoff": [1, -1]},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": "1"},
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
def test_a_wrong_value_is_refused_at_once_and_named(gator: Gator, options: dict[str, Any]) -> None:
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
def test_a_task_of_ones_own_making_is_held_to_the_same(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        Task(**options)


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


def test_the_word_of_older_docs_is_taken(gator: Gator) -> None:
    with gator.options(**{"async": "False"}) as opts:  # type: ignore[arg-type]
        task = opts.task(add, 1, 2)

    assert task.result == 3
    assert gator.len() == 0


def test_a_subclass_of_task_adds_options_of_its_own() -> None:
    gator = Gator("locmem://", task_class=Teamed)

    task = gator.options(team="ops", retries=1).task(add, 1, 2)  # type: ignore[call-arg]

    assert isinstance(task, Teamed)
    assert (task.team, task.retries) == ("ops", 1)


def test_an_option_of_a_subclass_is_not_one_of_others(gator: Gator) -> None:
    with pytest.raises(UnknownOption, match="team"):
        gator.options(team="ops")  # type: ignore[call-arg]


class Teamed(Task):
    """A task with one option more."""

    def __init__(self, task_id: str | None = None, *, team: str = "", **options: Any) -> None:
        super().__init__(task_id, **options)
        self.team = team


# Merging.


def test_a_delay_of_one_kind_replaces_one_of_the_other() -> None:
    assert merge_options({"delay_by": 5}, {"delay_until": 0}) == {"delay_until": 0}
    assert merge_options({"delay_until": 5}, {"delay_by": None}) == {"delay_by": None}


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers())))
def test_the_last_level_that_says_anything_decides(levels: list[dict[str, int]]) -> None:
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
def test_what_switches_on(word: object) -> None:
    assert to_bool("is_async", word) is True


@pytest.mark.parametrize("word", ["False", "false", "0", "no", "N", "OFF", "f", " off\n", 0, False])
def test_what_switches_off(word: object) -> None:
    assert to_bool("is_async", word) is False


@pytest.mark.parametrize("word", ["", "maybe", "2", "None", None, 2, 1.5, [], b"1"])
def test_anything_else_is_a_value_error_that_lists_the_words(word: object) -> None:
    with pytest.raises(ValueError, match=r"is_async is one of true, 1, yes.*false, 0, no, off"):
        to_bool("is_async", word)


# Moments.


def test_a_naive_datetime_is_utc() -> None:
    naive = datetime(2030, 1, 2, 3, 4, 5)

    assert to_timestamp("delay_until", naive) == naive.replace(tzinfo=UTC).timestamp()


def test_an_aware_datetime_is_itself() -> None:
    aware = datetime(2030, 1, 2, tzinfo=timezone(timedelta(hours=5)))

    assert to_timestamp("delay_until", aware) == aware.timestamp()


def test_a_date_is_its_first_moment_in_utc() -> None:
    expected = datetime(2030, 1, 2, tzinfo=UTC).timestamp()

    assert to_timestamp("delay_until", date(2030, 1, 2)) == expected


values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.floats())
)


@given(st.dictionaries(st.sampled_from(["retries", "delay_by", "backoff", "timeout"]), values))
def test_whatever_the_check_lets_pass_a_task_takes(options: dict[str, Any]) -> None:
    try:
        checked = check_options(options, Task)
    except AlligatorException:
        return

    Task(**checked).next_pause()
