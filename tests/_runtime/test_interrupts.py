"""A task is interrupted only in its own code; the behaviour is tested with `call`, in test_timeouts."""

import logging
from collections.abc import Iterator
from threading import get_ident

import pytest

from alligator._runtime import interrupts
from alligator._runtime.interrupts import OUR_PACKAGES, Interrupt, checkpoint
from tests.harness.programs import ROOT


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    interrupts.due.discard(get_ident())
    interrupts.interrupted.pop(get_ident(), None)


def run_task() -> None:
    """Call Alligator from what `boundaries` says is the code of a task."""
    checkpoint()


def call_task() -> None:
    run_task()


def test_packages_that_are_not_interrupted_are_all_that_are_shipped() -> None:
    shipped = {path.name for path in (ROOT / "integrations").iterdir() if path.is_dir()}

    assert shipped | {"alligator"} == OUR_PACKAGES


def test_checkpoint_raises_in_a_task_that_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "boundaries", {call_task.__code__})
    interrupts.due.add(get_ident())

    with pytest.raises(Interrupt):
        call_task()

    assert get_ident() not in interrupts.due
    assert get_ident() in interrupts.interrupted


def test_checkpoint_does_nothing_outside_of_a_task() -> None:
    interrupts.due.add(get_ident())

    call_task()

    assert get_ident() in interrupts.due


def test_check_log_records_restores_the_record_factory() -> None:
    before = logging.getLogRecordFactory()

    end = interrupts.check_log_records()
    during = logging.getLogRecordFactory()
    end()

    assert during is not before
    assert logging.getLogRecordFactory() is before
