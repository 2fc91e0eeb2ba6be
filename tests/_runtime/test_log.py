"""What a program has set up for logging does no harm where Alligator writes a log line."""

import logging
from collections.abc import Iterator

import pytest

from alligator._runtime.interrupts import Interrupt
from alligator._runtime.log import log
from tests._runtime.test_failures import BROKEN, raised


class Raising(logging.Handler):
    """A handler, filter and record factory that raises *error* each time."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def emit(self, record: logging.LogRecord) -> None:
        raise self.error

    def make(self, *args: object, **kwargs: object) -> logging.LogRecord:
        raise self.error


@pytest.fixture
def handler() -> Iterator[Raising]:
    handler = Raising(SystemExit(3))
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


@pytest.mark.parametrize("error", BROKEN, ids=lambda error: type(error).__name__)
def test_broken_exception_is_logged_once_by_its_type_and_frames(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    log.error("failed: %s", 7, exc_info=raised(error))

    (record,) = caplog.records
    assert record.getMessage() == "failed: 7"
    assert "where_it_happened" in caplog.text
    assert type(error).__name__ in caplog.text
    assert record.funcName == "test_broken_exception_is_logged_once_by_its_type_and_frames"


def test_intact_exception_is_logged_unchanged(caplog: pytest.LogCaptureFixture) -> None:
    error = raised(ValueError("no such order"))

    log.error("failed", exc_info=error)

    (record,) = caplog.records
    assert record.exc_info == (ValueError, error, error.__traceback__)
    assert record.funcName == "test_intact_exception_is_logged_unchanged"


def test_handler_that_raises_is_ignored(handler: Raising) -> None:
    log.error("failed")


def test_filter_that_raises_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "filters", [Raising(LookupError()).emit])

    log.error("failed")


def test_record_factory_that_raises_is_ignored() -> None:
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Raising(LookupError()).make)
    try:
        log.error("failed")
    finally:
        logging.setLogRecordFactory(before)


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupt])
def test_interruption_of_the_program_or_its_task_is_raised(
    handler: Raising, error: type[BaseException]
) -> None:
    handler.error = error()

    with pytest.raises(error):
        log.error("failed")
