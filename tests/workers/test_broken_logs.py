"""Log handlers that raise and errors that cannot be formatted never end a worker."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alligator import Gator, Worker
from tests.harness.sample_tasks import NoAttributes, NoMessage, record


class Broken(logging.Handler):
    """A handler that exits at each record."""

    records = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.records += 1
        raise SystemExit(3)


@pytest.fixture
def handler() -> Iterator[Broken]:
    handler = Broken()
    log = logging.getLogger("alligator")
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


def raise_no_message() -> None:
    raise NoMessage


async def raise_no_attributes_later() -> None:
    raise NoAttributes("x")


def raise_bad_syntax() -> None:
    raise SyntaxError("bad", ("f", 1, 2, 123))  # type: ignore[arg-type]


FAILING: list[Callable[[], Any]] = [raise_no_message, raise_no_attributes_later, raise_bad_syntax]
MODES = [{}, {"concurrency": 3}, {"isolate": True}]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("settings", MODES, ids=str)
@pytest.mark.parametrize("is_broken", [True, False], ids=["broken handler", "sound handler"])
def test_worker_continues_after_errors_of_its_logging(
    tmp_path: Path, settings: dict[str, Any], is_broken: bool, request: pytest.FixtureRequest
) -> None:
    gator, out = Gator(f"sqlite://{tmp_path}/queue.db"), tmp_path / "out"
    for func in FAILING:
        gator.options(retries=1, backoff=0).task(func)
    gator.client.push(
        "all",
        "unknown",
        '{"task_id": "unknown", "module": "no_such_module", '
        '"callable": "f", "retries": 0, "is_async": true}',
    )
    gator.task(record, str(out), "ran")
    handler: Broken | None = request.getfixturevalue("handler") if is_broken else None

    worker = Worker(gator, burst=True, log_level=logging.DEBUG, **settings)
    assert worker.run_forever() == 0

    stats = gator.stats()
    assert (stats.dead, stats.failed, stats.retried, stats.lost) == (3, 6, 3, 0)
    assert (stats.succeeded, stats.ready + stats.scheduled) == (1, 1)
    assert out.read_text() == "ran\n"
    if handler is not None:
        assert handler.records > 8
    reasons = {letter.reason.partition(":")[0] for letter in gator.dead_letters()}
    assert reasons == {"NoMessage", "NoAttributes", "SyntaxError"}
