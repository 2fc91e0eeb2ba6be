"""Inline tasks are retried, interrupted and run beside others as in a worker."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from threading import Event, Lock
from typing import Any

import pytest

from alligator import FAILED, Gator, Task
from alligator._runtime.interrupts import Interrupt
from alligator.testing import sync

gators: list[Gator] = []
ran: Counter[str] = Counter()
lock = Lock()


@pytest.fixture(autouse=True)
def _clean() -> None:
    gators.clear()
    ran.clear()


def note(what: str) -> None:
    with lock:
        ran[what] += 1


def test_inline_tasks_do_not_delay_an_ordinary_commit(tmp_path: Any) -> None:
    gators.append(Gator("locmem://", is_async=False))
    queue = Gator(f"sqlite://{tmp_path}/queue.db?timeout=15")
    go_on = Event()
    gators[0].task_context = lambda: _Until(go_on)

    async def slow() -> None:
        async with gators[0].transaction():
            gators[0].task(note, "slow")

    async def main() -> None:
        tasks = [asyncio.create_task(slow()) for _ in range(100)]
        await asyncio.sleep(0)
        async with queue.transaction():
            queue.task(note, "queued")
        assert queue.len() == 1
        assert not any(task.done() for task in tasks)
        go_on.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())

    assert ran["slow"] == 100
    queue.client.close()


class _Until:
    """A context that is entered when an event is set."""

    def __init__(self, event: Event) -> None:
        self.event = event

    def __enter__(self) -> None:
        assert self.event.wait(60)

    def __exit__(self, *exc_info: object) -> None:
        pass


class Interruption(BaseException):
    """A time-out, or the end of a greenlet, of some library."""


def interrupted(name: str) -> None:
    note("attempt")
    if name in ("greenlet", "timeout"):
        gevent = pytest.importorskip("gevent")
        raise {"greenlet": gevent.GreenletExit, "timeout": gevent.Timeout}[name]
    raise {
        "interruption": Interruption,
        "keyboard": KeyboardInterrupt,
        "cancelled": asyncio.CancelledError,
        "overtime": Interrupt,
    }[name]


NAMES = ["interruption", "greenlet", "timeout", "keyboard", "cancelled", "overtime"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["call", "transaction", "logged"])
def test_inline_task_that_is_ended_from_outside_is_not_retried(name: str, where: str) -> None:
    gator = Gator("locmem://", is_async=False)
    tasks: list[Task] = []

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - of any kind, see below
        if where == "logged":
            with sync(propagate=False), gator.options(retries=3) as opts:
                opts.task(interrupted, name)
        else:
            with gator.transaction(retries=3), gator.options() as opts:
                if where == "call":
                    with gator.options(is_async=False) as opts:
                        opts.task(interrupted, name)
                tasks.append(opts.task(interrupted, name))

    assert not isinstance(caught.value, Exception)
    assert ran["attempt"] == 1


def fail_now() -> None:
    note("attempt")
    raise ValueError("it fails")


def exit_now() -> None:
    note("attempt")
    sys.exit("it fails")


@pytest.mark.parametrize("func", [fail_now, exit_now])
def test_inline_task_is_retried_after_a_failure_or_an_exit(func: Callable[[], None]) -> None:
    gator = Gator("locmem://", is_async=False)
    tasks: list[Task] = []

    with (
        pytest.raises((ValueError, SystemExit), match="it fails"),
        gator.transaction(retries=3),
    ):
        tasks.append(gator.task(func))

    assert ran["attempt"] == 4
    assert tasks[0].status == FAILED
