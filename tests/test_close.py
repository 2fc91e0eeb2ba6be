"""A gator that is closed, or that nothing refers to, leaves no thread, connection or file open."""

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from weakref import ref

import pytest

from alligator import Gator
from alligator.exceptions import BackendUnavailable
from tests.faults.proxy import Proxy
from tests.harness.programs import eventually
from tests.harness.requirements import needed
from tests.harness.sample_tasks import add
from tests.harness.store_servers import valkey_server

GATORS = 10


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def ours() -> set[threading.Thread]:
    """The threads that end with their gator: the one that reports counts is the process's."""
    names = ("alligator-relay", "alligator-abort", "alligator-commits")
    return {thread for thread in threading.enumerate() if thread.name in names}


@pytest.fixture(params=["sqlite", "valkey"])
def network(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path / 'queue.db'}"
        return
    with needed():
        running = valkey_server()
    with running as server:
        yield server


def use(gator: Gator) -> None:
    """Use it from several threads at once."""
    threads = [threading.Thread(target=gator.task, args=(add, 1, 2)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gator.pop()


def test_closed_gator_leaves_nothing_open(network: str) -> None:
    with Gator(network) as first:  # what the process opens once
        use(first)
    before, threads = descriptors(), ours()

    for _ in range(GATORS):
        with Gator(network) as gator:
            use(gator)

    eventually(lambda: ours() <= threads)
    gc.collect()
    eventually(lambda: descriptors() <= before)


def test_gator_closed_while_its_store_is_away_leaves_nothing_open(tmp_path: Path) -> None:
    with needed():
        running = valkey_server()
    with running as server, Proxy(server) as proxy:
        before, threads = descriptors(), ours()
        with proxy.stall():
            for number in range(3):
                path = tmp_path / f"spool-{number}.db"
                with Gator(f"{proxy.dsn}?timeout=0.1", spool=str(path)) as gator:
                    gator.task(add, 1, 2)
                    assert gator.spool is not None
                    assert gator.spool.content().tasks == 1
            eventually(lambda: ours() <= threads)
        proxy.cut_all()

        eventually(lambda: descriptors() <= before)
        assert gator.spool is not None
        assert gator.spool.content().tasks == 1, "it is kept for the next process"


def test_closed_gator_can_be_used_again(network: str) -> None:
    gator = Gator(network)
    gator.task(add, 1, 2)
    gator.close()

    gator.task(add, 3, 4)

    assert gator.len() == 2
    gator.close()


def test_gator_without_references_is_collected(network: str) -> None:
    gator = Gator(network)
    use(gator)
    seen = ref(gator), ref(gator.client)

    del gator

    def is_collected() -> bool:
        gc.collect()
        return all(each() is None for each in seen)

    eventually(is_collected)


def test_unused_gator_can_be_closed() -> None:
    Gator("redis://nowhere.invalid").close()

    with pytest.raises(BackendUnavailable):
        Gator("redis://nowhere.invalid").task(add, 1, 2)
