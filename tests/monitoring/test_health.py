"""The verdict of health, and its limits."""

from datetime import timedelta
from time import monotonic
from typing import Any

import pytest

from alligator import Gator
from alligator.exceptions import (
    BackendError,
    BackendUnavailable,
    ConfigurationError,
    InvalidOption,
)
from alligator.monitoring.health import Health
from tests.harness.health import Durable, Frozen, gator_on, outputs, work_on
from tests.harness.programs import SLACK
from tests.harness.sample_tasks import add


class Away(Durable):
    """A store that cannot be reached."""

    def ping(self) -> None:
        raise BackendUnavailable("redis://app:***@db cannot be reached")


def test_store_that_no_gator_uses_is_not_checked() -> None:
    gator = Gator("locmem://", backend_class=Away, is_async=False)

    verdict = Health(gator).verdict()

    assert verdict.status == "pass"
    assert verdict.checks == {}
    assert "in this process" in verdict.notes[0]


def test_verdict_is_that_of_the_worst_store(gator: Gator) -> None:
    verdict = Health([gator, gator_on(Away)]).verdict()

    assert verdict.status == "fail"
    found = [entry["status"] for entry in verdict.checks["backend:responseTime"]]
    assert found == ["pass", "fail"]


def test_stores_that_hang_are_waited_for_together(frozen: Frozen) -> None:
    gators = [gator_on(Frozen) for _ in range(10)]
    health = Health(gators)

    began = monotonic()
    verdict = health.verdict()

    assert monotonic() - began < 0.5 + SLACK  # one after the other it would be five seconds
    assert verdict.status == "fail"
    for gator in gators:
        gator.backend.thawed.set()


# Checks of a project.


def test_name_has_one_check(gator: Gator) -> None:
    health = Health(gator)
    health.check("db", print)

    for name in ("db", ""):
        with pytest.raises(ConfigurationError):
            health.check(name, print)


def test_limit_for_an_unknown_queue_is_a_warning(gator: Gator) -> None:
    verdict = Health(gator, backlog_after={"vidoe": 60}, backlog_depth={"mail": 9}).verdict()

    (output,) = outputs(verdict)
    assert output.startswith("vidoe has a limit here, but no store has such a queue")


def test_limit_for_a_queue_that_only_a_worker_knows_is_fine(gator: Gator) -> None:
    work_on(gator, "video")

    assert Health(gator, backlog_after={"video": 60}).verdict().status == "pass"


def test_limit_may_be_for_a_queue_of_any_store(gator: Gator) -> None:
    other = Gator("locmem://", "video", backend_class=Durable)
    work_on(other, "video")

    assert Health([gator, other], backlog_after={"video": 60}).verdict().status == "pass"


def test_limit_is_not_judged_while_a_store_does_not_answer(gator: Gator) -> None:
    class Away(Durable):
        def ping(self) -> None:
            raise BackendError("away")

    away = Gator("locmem://", "video", backend_class=Away)

    assert "limit" not in str(Health([gator, away], backlog_after={"film": 60}).verdict())


def test_limit_is_not_judged_when_no_store_is_needed() -> None:
    gator = Gator("locmem://", is_async=False)

    assert Health(gator, backlog_after={"video": 60}).verdict().status == "pass"


@pytest.mark.parametrize(
    "limits",
    [
        {"backlog_after": "60"},
        {"backlog_after": None},
        {"backlog_after": {"mail": "60"}},
        {"backlog_after": {7: 60}},
        {"backlog_after": float("nan")},
        {"backlog_depth": {"mail": True}},
    ],
)
def test_limit_that_is_no_number_is_an_error_at_the_call(
    gator: Gator, limits: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="backlog_"):
        Health(gator, **limits)


@pytest.mark.parametrize("name", ["timeout", "fresh_for"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, -1, True, "1", None])
def test_seconds_that_are_no_number_are_an_error_at_the_call(
    gator: Gator, name: str, value: Any
) -> None:
    with pytest.raises(InvalidOption, match=f"^{name} is a number of seconds"):
        Health(gator, **{name: value})


def test_seconds_may_be_timedeltas(gator: Gator) -> None:
    gator.task(add, 1, 2)
    later, now = timedelta(minutes=1), timedelta(seconds=-1)

    health = Health(gator, timeout=later, fresh_for=now * 0, backlog_after=later)
    late = Health(gator, backlog_after={"mail": now})

    assert health.timeout == 60
    assert health.verdict().status == "pass"
    assert late.verdict().checks["queue/mail:oldestAge"][0]["status"] == "warn"
