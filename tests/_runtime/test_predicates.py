"""Only True and False count as answers; the protocols are tested in integrations/test_predicates."""

import functools
from collections.abc import Callable

import pytest

from alligator._runtime.predicates import Predicate, describe, is_coroutine_function
from alligator.exceptions import ConfigurationError


async def no(*given: object) -> bool:
    return False


class AsyncCall:
    async def __call__(self, *given: object) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "counts_as"),
    [(True, True), (False, False), (None, None), (1, None), ((False, "why"), None), ("yes", None)],
)
def test_predicate_returns_only_a_bool(answer: object, counts_as: bool | None) -> None:
    assert Predicate("authorize", lambda: answer)() is counts_as


def test_predicate_closes_a_coroutine_that_counts_as_none() -> None:
    made = no()

    assert Predicate("authorize", lambda: made)() is None
    with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
        made.send(None)


def test_predicate_logs_the_first_wrong_answer(caplog: pytest.LogCaptureFixture) -> None:
    predicate = Predicate("authorize", lambda: "yes")

    predicate()
    predicate()

    (record,) = caplog.records
    assert "authorize: " in record.message
    assert "returned 'yes', a str, which counts as no" in record.message


def test_predicate_rejects_what_is_no_function() -> None:
    with pytest.raises(ConfigurationError, match="commit_veto must be a function, not 7"):
        Predicate("commit_veto", 7)  # type: ignore[arg-type]


@pytest.mark.parametrize("func", [no, AsyncCall(), functools.partial(no, 1)])
def test_predicate_rejects_a_coroutine_function(func: Callable[..., object]) -> None:
    assert is_coroutine_function(func)
    with pytest.raises(ConfigurationError, match="must be a plain function here"):
        Predicate("authorize", func)

    assert Predicate("authorize", func, awaits=True).is_async


def test_describe_names_a_function() -> None:
    assert describe(functools.partial(no, 1)) == f"{__name__}.no"
