"""The event loop of a worker, of the kind that was asked for."""

import asyncio
from contextvars import copy_context

import pytest

from alligator import Gator, Worker
from alligator.exceptions import ConfigurationError, MissingExtra
from alligator.workers.event_loop import IsolatedLoop, loop_maker
from tests.harness.workers import ran
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
