"""Pushes on an event loop: one connection for each loop, and what a failure leaves."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from random import Random
from typing import Any

import pytest

from alligator.backends.base import Commit, Message, Pushed
from alligator.backends.postgres_backend import Client, commits
from alligator.exceptions import BackendError, BackendUnavailable
from tests.backends.postgres_backend.conftest import Open, Query
from tests.faults.proxy import Mishap, Proxy
from tests.harness.postgres_servers import PostgresServer
from tests.harness.programs import eventually


@pytest.fixture(params=["asyncio", "uvloop"])
def either_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `asyncio.run` use each of the event loops that web servers use."""
    new_loop = pytest.importorskip(request.param).new_event_loop

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main)

    monkeypatch.setattr(asyncio, "run", run)


@pytest.fixture
def on_the_loop_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a push that falls back to a thread."""

    def fall_back(call: object) -> None:
        raise AssertionError("it fell back to a thread")

    monkeypatch.setattr(commits, "run_to_end", fall_back)


def mail(task_id: str, size: int = 2) -> Commit:
    return Commit([Message("mail", task_id, "x" * size)], f"commit of {task_id}")


async def push(client: Client, *trips: list[Commit]) -> list[Pushed]:
    found: list[Pushed] = []
    for trip in trips:
        found += await client.apush_commits(trip)
    return found


@pytest.mark.usefixtures("either_loop", "on_the_loop_only")
def test_pushes_use_one_connection_and_no_thread(client: Client) -> None:
    client.ping()

    async def main() -> int:
        assert await push(client, *([mail(f"{n}")] for n in range(20))) == [None] * 20
        return len(client._pusher._loop_sessions._by_loop)

    assert asyncio.run(main()) == 1
    assert client.len("mail") == 20


@pytest.mark.usefixtures("either_loop", "on_the_loop_only")
def test_large_push_passes(client: Client) -> None:
    client.ping()

    assert asyncio.run(push(client, [mail(f"{n}", 200_000) for n in range(20)])) == [None] * 20
    assert client.len("mail") == 20


@pytest.mark.usefixtures("either_loop")
def test_pushes_at_the_same_time_are_all_queued(client: Client) -> None:
    async def main() -> None:
        await asyncio.gather(*(push(client, [mail(f"{n}")]) for n in range(10)))

    asyncio.run(main())

    assert client.len("mail") == 10


@pytest.mark.usefixtures("either_loop")
def test_push_whose_reply_is_lost_is_queued_once(
    open_client: Open, client: Client, network: Proxy, through: str
) -> None:
    client.ping()
    random = Random(11)
    for number in range(15):
        pushing = open_client(through, timeout="20")
        network.mishaps.append(Mishap(random.random() < 0.5, 300 + random.randrange(1500)))

        assert asyncio.run(push(pushing, [mail(f"{number} {n}") for n in range(3)])) == [None] * 3

        pushing.close()
    assert client.len("mail") == 45


@pytest.mark.usefixtures("either_loop")
def test_refusal_is_given_for_its_commit_only(client: Client) -> None:
    client.abort("commit of b", [])

    first, second = asyncio.run(push(client, [mail("a"), mail("b")]))

    assert first is None
    assert isinstance(second, BackendError)


@pytest.mark.usefixtures("either_loop")
def test_frozen_server_does_not_block_the_loop(client: Client, server: PostgresServer) -> None:
    async def thaw() -> None:
        for _ in range(10):
            await asyncio.sleep(0.01)
        server.thaw()

    async def main() -> list[Pushed]:
        await push(client, [mail("first")])
        server.freeze()
        thawing = asyncio.create_task(thaw())
        try:
            return await push(client, [mail("a")])
        finally:
            server.thaw()
            await thawing

    # Only a loop that runs meanwhile ends what the push waits for.
    assert asyncio.run(main()) == [None]


@pytest.mark.usefixtures("either_loop")
def test_frozen_server_fails_a_push_of_a_loop(client: Client, server: PostgresServer) -> None:
    async def main() -> list[Pushed]:
        await push(client, [mail("first")])
        server.freeze()
        client.commit_seconds = 0.5
        try:
            return await push(client, [mail("a")])
        finally:
            server.thaw()

    [error] = asyncio.run(main())

    assert isinstance(error, BackendUnavailable)
    eventually(lambda: not client._pusher.pending)
    assert client.len("mail") == 1


@pytest.mark.usefixtures("either_loop")
def test_cancelled_push_has_its_outcome(client: Client) -> None:
    async def main() -> None:
        await push(client, [mail("first")])
        for number in range(20):
            task = asyncio.create_task(push(client, [mail(f"{number}")]))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())

    client.push_many([Message("mail", "last", "{}")])
    assert client.stats("mail").pushed == client.len("mail")


def test_restarted_server_is_used_again(client: Client, server: PostgresServer) -> None:
    async def main() -> list[Pushed]:
        await push(client, [mail("a")])
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        return await push(client, [mail("b")])

    assert asyncio.run(main()) == [None]
    assert client.len("mail") == 2


def test_loop_that_ended_leaves_no_connection(client: Client, query: Query) -> None:
    client.ping()
    for number in range(5):
        asyncio.run(push(client, [mail(f"{number}")]))
    client.close()

    eventually(
        lambda: (
            query(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%{s}%%push_and_wake%%'"
                " AND pid <> pg_backend_pid()"
            )
            == [(0,)]
        )
    )


def test_loops_of_two_threads_have_a_connection_each(client: Client) -> None:
    barrier = threading.Barrier(2)

    async def main(name: str) -> None:
        await push(client, [mail(name)])
        await asyncio.to_thread(barrier.wait, 30)
        assert len(client._pusher._loop_sessions._by_loop) == 2
        await asyncio.to_thread(barrier.wait, 30)

    threads = [threading.Thread(target=asyncio.run, args=(main(name),)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert client.len("mail") == 2


@pytest.mark.usefixtures("either_loop", "on_the_loop_only")
def test_reply_that_came_while_the_loop_stood_still_is_read(open_client: Open) -> None:
    client, other = open_client(timeout="20"), open_client(timeout="20")
    client.ping()

    async def main() -> list[Pushed]:
        errors = await push(client, [mail("before")])
        client.commit_seconds = 0.3
        pushing = asyncio.create_task(push(client, [mail("a")]))
        await asyncio.sleep(0)
        eventually(lambda: other.len("mail") == 2)
        time.sleep(0.3)  # as if the process were frozen, for longer than a commit may take
        return errors + await pushing

    assert asyncio.run(main()) == [None, None]
