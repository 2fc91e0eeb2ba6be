"""Checks that a project adds to health."""

import asyncio
import threading
from threading import Event
from time import monotonic

import pytest

from alligator import Gator
from alligator.monitoring.health import Health
from tests.harness.programs import eventually


def test_custom_check_runs_beside_the_stores(gator: Gator) -> None:
    asked = []
    health = Health(gator)
    health.check("db", lambda: asked.append("db"))

    verdict = health.verdict()

    assert verdict.status == "pass"
    assert asked == ["db"]
    assert verdict.checks["db:responseTime"][0]["observedUnit"] == "ms"


@pytest.mark.parametrize("critical", [True, False])
def test_custom_check_that_raises_or_returns_false_fails_if_critical(
    gator: Gator, critical: bool
) -> None:
    def broken() -> None:
        raise RuntimeError("cannot log in as app with p4ssw0rd")

    for call in (broken, lambda: False):
        health = Health(gator)
        health.check("db", call, critical=critical)
        verdict = health.verdict()

        assert verdict.status == ("fail" if critical else "warn")
        assert "p4ssw0rd" not in str(verdict.document())


def test_custom_check_may_be_async_and_has_a_loop_of_its_own(gator: Gator) -> None:
    async def connects() -> bool:
        await asyncio.sleep(0)
        return threading.current_thread().name == "alligator-health"

    health = Health(gator)
    health.check("cache", connects)

    assert health.verdict().status == "pass"


def test_custom_check_that_hangs_fails_in_time_and_runs_once(gator: Gator) -> None:
    thawed = Event()
    asked = []

    def hang() -> None:
        asked.append("once")
        thawed.wait(30)

    health = Health(gator, timeout=0.1, fresh_for=0)
    health.check("db", hang)
    try:
        began = monotonic()
        verdicts = [health.verdict() for _ in range(3)]
    finally:
        thawed.set()

    assert {verdict.status for verdict in verdicts} == {"fail"}
    assert monotonic() - began < 15
    assert asked == ["once"]
    eventually(lambda: health.verdict().status == "pass")
