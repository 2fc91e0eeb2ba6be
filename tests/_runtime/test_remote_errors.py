"""Exceptions that go from one process to another."""

import json
import traceback

from alligator._runtime.remote_errors import MAX_CHAIN, MAX_FRAMES, pack, unpack
from alligator.exceptions import TaskFailed


class OwnError(Exception):
    """An exception of a project."""


def deeper(number: int) -> None:
    raise ZeroDivisionError(f"no {number}")


def chained() -> None:
    try:
        deeper(7)
    except ZeroDivisionError as error:
        raise OwnError("it failed", 7) from error


def caught(func: object) -> BaseException:
    try:
        func()  # type: ignore[operator]
    except BaseException as error:
        return error
    raise AssertionError("it raises")


def sent(error: BaseException) -> Exception:
    return unpack(json.loads(json.dumps(pack(error))), TaskFailed)


def test_remote_error_is_printed_like_the_original() -> None:
    error = caught(chained)
    error.add_note("by the way")

    arrived = sent(error)

    assert traceback.format_exception(arrived) == traceback.format_exception(error)
    assert isinstance(arrived, TaskFailed)


def test_remote_error_has_the_type_and_frames_that_trackers_group_by() -> None:
    arrived = sent(caught(chained))

    assert (type(arrived).__module__, type(arrived).__name__) == (__name__, "OwnError")
    assert arrived.__traceback__ is not None
    names = [
        (frame.f_code.co_name, frame.f_globals["__name__"], line)
        for frame, line in traceback.walk_tb(arrived.__traceback__)
    ]
    expected = caught(chained).__traceback__
    lines = [line for _, line in traceback.walk_tb(expected)]
    assert names == [(name, __name__, lines[i]) for i, name in enumerate(["caught", "chained"])]


def test_context_of_a_remote_error_is_what_was_raised_meanwhile() -> None:
    def careless() -> None:
        try:
            deeper(1)
        except ZeroDivisionError:
            raise OwnError("meanwhile")  # noqa: B904

    error = caught(careless)

    assert traceback.format_exception(sent(error)) == traceback.format_exception(error)


def test_deep_recursions_and_long_chains_are_cut() -> None:
    def recurse() -> None:
        recurse()

    deep = caught(recurse)
    arrived = sent(deep)
    assert len(list(traceback.walk_tb(arrived.__traceback__))) == MAX_FRAMES

    error: BaseException = OwnError("first")
    for number in range(50):
        following = OwnError(str(number))
        following.__cause__ = error
        error = following
    chain, before = 0, sent(error).__cause__
    while before is not None:
        chain, before = chain + 1, before.__cause__
    assert chain == MAX_CHAIN - 1
