"""The event loop of a worker, of the kind that was asked for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import copy_context
from threading import Event, Thread

import pytest

from alligator import Gator, Worker
from alligator.exceptions import ConfigurationError, MissingExtra
from alligator.workers.event_loop import IsolatedLoop, loop_maker
from tests.harness.programs import eventually
from tests.harness.workers import gates, note, ran
from tests.workers.test_coroutines import clients, use_lock


def test_worker_rejects_an_unknown_kind_of_loop(gator: Gator) -> None:
    with pytest.raises(ConfigurationError, match="'asyncio' or 'uvloop', not 'trio'"):
        Worker(gator, loop="trio")


def test_worker_without_uvloop_says_what_to_install(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alligator.workers.loop.find_spec", lambda name: None)

    with pytest.raises(MissingExtra, match="pip install uvloop"):
        Worker(gator, loop="uvloop")


def test_loops_are_of_their_kind() -> None:
    uvloop = pytest.importorskip("uvloop")
    for kind, expected in (("asyncio", asyncio.AbstractEventLoop), ("uvloop", uvloop.Loop)):
        loop = loop_maker(kind)()
        assert isinstance(loop, expected)
        loop.close()


def test_isolated_loop_enters_and_leaves_the_lifespan() -> None:
    gator = Gator("locmem://", lifespan=clients)

    def use() -> None:
        loop = IsolatedLoop(gator, "asyncio")
        loop.enter()
        assert loop.run(asyncio.sleep(0, "ran")) == "ran"
        loop.leave()

    copy_context().run(use)

    assert ran == ["opened", "closed"]


def test_gator_rejects_a_lifespan_that_cannot_be_called() -> None:
    with pytest.raises(ConfigurationError, match="lifespan must be a function"):
        Gator("locmem://", lifespan=clients())  # type: ignore[arg-type]


def test_use_lock_is_for_workers_with_a_lifespan(gator: Gator) -> None:
    gator.task(use_lock)

    Worker(gator, burst=True).run_forever()

    assert gator.stats().dead == 1


@asynccontextmanager
async def listens() -> AsyncIterator[None]:
    """Have a task in the background, as applications do in their lifespan."""
    async with asyncio.TaskGroup() as group:
        group.create_task(listen())
        yield


async def listen() -> None:
    while not gates["broken"].is_set():
        await asyncio.sleep(0.01)
    raise OSError("the connection was closed")


@pytest.mark.parametrize("concurrency", [None, 3])
def test_worker_ends_when_its_lifespan_has_ended(
    caplog: pytest.LogCaptureFixture, concurrency: int | None
) -> None:
    gates["broken"] = Event()
    gator = Gator("locmem://", lifespan=listens)
    gator.task(note, "ran")
    worker, status = Worker(gator, concurrency=concurrency), list[int]()
    thread = Thread(target=lambda: status.append(worker.run_forever()))

    thread.start()
    eventually(lambda: ran == ["ran"])
    gates["broken"].set()
    thread.join(30)

    assert status == [1]
    assert "OSError: the connection was closed" in caplog.text
    assert caplog.text.count("the lifespan of this worker") == 1
