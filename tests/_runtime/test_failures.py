"""Exceptions that cannot be formatted do no further harm."""

import pytest

from alligator._runtime.failures import describe, traceback_of
from tests.harness.sample_tasks import NoAttributes, NoMessage


class BadNotes(Exception):
    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise KeyboardInterrupt


BROKEN: list[BaseException] = [
    NoMessage("x"),
    NoAttributes("x"),
    BadNotes("x"),
    SyntaxError("bad", ("f", 1, 2, 123)),  # type: ignore[arg-type]
]


def raised(error: BaseException) -> BaseException:
    def where_it_happened() -> None:
        raise error

    try:
        where_it_happened()
    except BaseException as caught:
        return caught
    raise AssertionError


@pytest.mark.parametrize("error", BROKEN, ids=lambda error: type(error).__name__)
def test_broken_exception_is_described_by_its_type_and_frames(error: BaseException) -> None:
    caught = raised(error)

    assert describe(caught).startswith(type(error).__name__)
    assert "where_it_happened" in traceback_of(caught)
    assert type(error).__name__ in traceback_of(caught)


def test_intact_exception_is_described_in_full() -> None:
    error = raised(ValueError("no such order: \udcff"))

    assert describe(error) == "ValueError: no such order: \\udcff"
    assert traceback_of(error).startswith("Traceback")
    assert traceback_of(error).endswith("ValueError: no such order: \\udcff\n")
