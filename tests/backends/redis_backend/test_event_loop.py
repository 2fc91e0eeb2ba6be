"""Pushes to Redis on an event loop: one connection for each loop, and what a failure leaves."""

import asyncio
import gc
import os
import socket
import threading
import time
import weakref
from contextlib import closing, suppress
from typing import Any

import pytest

from alligator.backends.base import (
    Commit,
    Message,
    Pushed,
)
from alligator.backends.redis_backend import Client
from alligator.backends.redis_backend import commits as redis_commits
from alligator.backends.redis_backend.event_loop import LoopConnection
from alligator.exceptions import (
    BackendError,
    BackendUnavailable,
)
from tests.faults.proxy import Mishap, Proxy
from tests.harness.programs import eventually
from tests.harness.redis_network import (
    LossyNetwork,
    beside,
    commits,
    ids,
    messages,
    undoing,
)
from tests.harness.store_servers import Server

pytestmark = pytest.mark.usefixtures("closed", "note_earlier")


@pytest.mark.usefixtures("either_loop")
def test_loop_connection_that_hangs_leaves_time_for_another(client: Client) -> None:
    with Proxy(client.conn_string) as network:
        network.mishaps.append(Mishap(upwards=True, after=0, what="stall"))

        errors = beside(Client(f"{network.dsn}?timeout=0.2"), commits("a", "b"))

    assert errors == [[None, None]]


@pytest.mark.usefixtures("either_loop")
def test_loop_commits_share_one_connection(client: Client, network: LossyNetwork) -> None:
    pusher = Client(network.dsn)

    errors = beside(pusher, commits("a"), commits("b", "c"), commits("d"))

    assert errors == [[None], [None, None], [None]]
    assert ids(client.reserve("all", limit=9)) == ["a", "b", "c", "d"]
    assert network.connections == 1


@pytest.mark.usefixtures("either_loop")
def test_loop_commit_can_exceed_the_socket_buffer(
    client: Client,
) -> None:
    big = [Commit([Message("all", str(n), "x" * 100_000)], str(n)) for n in range(64)]

    assert beside(client, big) == [[None] * 64]
    assert client.stats("all").ready == 64


@pytest.mark.usefixtures("either_loop")
@pytest.mark.parametrize("lost", ["request", "reply"])
def test_loop_commits_without_a_reply_are_sent_again(
    client: Client, network: LossyNetwork, lost: str
) -> None:
    pusher = Client(network.dsn)
    network.lose.extend(["nothing", lost])

    errors = beside(pusher, commits("a"), commits("b", "c"), commits("d"))

    assert errors == [[None], [None, None], [None]]
    assert ids(client.reserve("all", limit=9)) == ["a", "b", "c", "d"]
    assert client.stats("all").pushed == 4


@pytest.mark.usefixtures("either_loop")
def test_loop_reply_that_is_garbled_counts_as_lost(client: Client, network: LossyNetwork) -> None:
    network.lose.extend(["nothing", "garbled"])

    errors = beside(Client(network.dsn), commits("a"), commits("b"), commits("c"))

    assert errors == [[None]] * 3
    assert not network.lose
    assert ids(client.reserve("all", limit=9)) == ["a", "b", "c"]


@pytest.mark.usefixtures("either_loop")
def test_loop_commits_that_fail_are_undone(client: Client, network: LossyNetwork) -> None:
    pusher = Client(network.dsn)
    network.lose.extend(["reply", "reply", "reply"])

    [errors, _] = beside(pusher, commits("a", "b"), commits("c"))

    assert [type(error) for error in errors] == [BackendUnavailable] * 2
    assert ids(client.reserve("all", limit=9)) == ["c"]


@pytest.mark.usefixtures("either_loop")
def test_loop_refusal_concerns_only_its_own_commit(client: Client) -> None:
    client.abort("commit-b", messages("b"))

    [[first, second, third]] = beside(client, commits("a", "b", "c"))

    assert first is third is None
    assert isinstance(second, BackendError)
    assert ids(client.reserve("all", limit=9)) == ["a", "c"]


@pytest.mark.usefixtures("either_loop")
def test_frozen_server_does_not_block_the_loop(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_commits, "COMMIT_SECONDS", 20.0)
    client = Client(f"{server}?timeout=20")

    async def thaw() -> None:
        for _ in range(10):
            await asyncio.sleep(0.01)
        server.thaw()

    async def main() -> list[Pushed]:
        await client.apush_commits(commits("before"))
        server.freeze()
        thawing = asyncio.create_task(thaw())
        errors = await client.apush_commits(commits("a", "b"))
        await thawing
        return errors

    # Only a loop that runs meanwhile ends what the push waits for.
    assert asyncio.run(main()) == [None, None]


@pytest.mark.usefixtures("either_loop")
def test_frozen_server_fails_a_push_of_a_loop_in_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_commits, "COMMIT_SECONDS", 20.0)
    client = Client(f"{server}?timeout=20")

    async def main() -> list[Pushed]:
        await client.apush_commits(commits("before"))
        server.freeze()
        monkeypatch.setattr(redis_commits, "COMMIT_SECONDS", 0.5)
        monkeypatch.setattr(client._connections, "timeout", 0.25)
        return await client.apush_commits(commits("a", "b"))

    began = time.monotonic()
    errors = asyncio.run(main())
    took = time.monotonic() - began
    server.thaw()
    eventually(lambda: not undoing())

    assert [type(error) for error in errors] == [BackendUnavailable] * 2
    assert took < 15  # of the twenty of the connection
    assert ids(client.reserve("all", limit=9)) == ["before"]


@pytest.mark.usefixtures("either_loop")
def test_reply_that_came_while_the_loop_stood_still_is_read(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_commits, "COMMIT_SECONDS", 20.0)
    client, other = (Client(f"{server}?timeout=20") for _ in range(2))

    def fall_back(call: object) -> None:
        raise AssertionError("it fell back to a thread")

    async def main() -> list[Pushed]:
        client.push_many(messages("known"))  # the script is, from now on
        errors = await client.apush_commits(commits("before"))
        monkeypatch.setattr(redis_commits, "run_to_end", fall_back)
        monkeypatch.setattr(redis_commits, "COMMIT_SECONDS", 0.3)
        pushing = asyncio.create_task(client.apush_commits(commits("a")))
        await asyncio.sleep(0)
        eventually(lambda: other.len("all") == 3)
        time.sleep(0.3)  # as if the process were frozen, for longer than a commit may take
        return errors + await pushing

    assert asyncio.run(main()) == [None, None]


@pytest.mark.usefixtures("either_loop")
def test_loop_that_ends_during_a_push_undoes_it(server: Server) -> None:
    client = Client(server)

    async def main() -> None:
        await client.apush_commits(commits("before"))
        server.freeze()
        asyncio.create_task(client.apush_commits(commits("a", "b")))  # noqa: RUF006
        await asyncio.sleep(0.05)

    asyncio.run(main())
    server.thaw()
    eventually(lambda: not undoing())

    assert ids(client.reserve("all", limit=9)) == ["before"]


@pytest.mark.usefixtures("either_loop")
def test_loop_that_ends_during_a_push_learns_its_outcome(
    server: Server,
) -> None:
    client = Client(server)
    trips: list[asyncio.Task[list[Pushed]]] = []

    async def main() -> None:
        client.push_many(messages("known"))  # the script is, from now on
        await client.apush_commits(commits("before"))
        server.freeze()
        trips.append(asyncio.create_task(client.apush_commits(commits("a", "b"))))
        await asyncio.sleep(0.05)
        threading.Timer(0.1, server.thaw).start()

    asyncio.run(main())

    assert trips[0].result() == [None, None]
    assert ids(client.reserve("all", limit=9)) == ["known", "before", "a", "b"]


@pytest.mark.usefixtures("either_loop")
def test_closing_a_client_keeps_the_socket_of_a_running_loop(
    server: Server,
) -> None:
    client = Client(server)

    async def main() -> tuple[bytes, list[Pushed]]:
        loop = asyncio.get_running_loop()
        client.push_many(messages("known"))  # the script is, from now on
        await client.apush_commits(commits("before"))
        server.freeze()
        trip = asyncio.create_task(client.apush_commits(commits("a")))
        await asyncio.sleep(0.05)
        client.close()
        here, there = socket.socketpair()  # with the lowest number of a file that is free
        with here, there:
            here.setblocking(False)
            reading = asyncio.create_task(loop.sock_recv(here, 1))
            await asyncio.sleep(0)
            there.send(b"x")
            read = await asyncio.wait_for(reading, 5)
        server.thaw()
        return read, await trip

    read, errors = asyncio.run(main())

    assert read == b"x"
    assert errors == [None]
    assert ids(client.reserve("all", limit=9)) == ["known", "before", "a"]


@pytest.mark.usefixtures("either_loop")
def test_loop_commits_at_the_same_time_get_their_own_replies(
    client: Client,
) -> None:
    names = [f"{number:02}" for number in range(20)]
    for name in names[::2]:
        client.abort(f"commit-{name}", messages(name))

    async def main() -> list[list[Pushed]]:
        client.push_many(messages("known"))  # the script is, from now on
        await client.apush_commits(commits("before"))
        return await asyncio.gather(*(client.apush_commits(commits(name)) for name in names))

    errors = [error for [error] in asyncio.run(main())]

    assert all(type(error) is BackendError for error in errors[::2])
    assert errors[1::2] == [None] * 10
    assert sorted(ids(client.reserve("all", limit=99))) == [*names[1::2], "before", "known"]


@pytest.mark.usefixtures("either_loop")
def test_forked_child_opens_its_own_loop_connection(client: Client) -> None:
    async def main() -> int:
        await client.apush_commits(commits("parent"))
        child = os.fork()
        if not child:
            with suppress(BaseException):
                asyncio.events._set_running_loop(None)
                os._exit(beside(client, commits("child")) != [[None]])
            os._exit(9)
        _, status = os.waitpid(child, 0)
        await client.apush_commits(commits("after"))
        return os.waitstatus_to_exitcode(status)

    assert asyncio.run(main()) == 0
    assert ids(client.reserve("all", limit=9)) == ["parent", "child", "after"]


@pytest.fixture
def forgetful_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the server for the time at each push, as after a long pause."""
    monkeypatch.setattr("alligator.backends.redis_backend.connection.CLOCK_SECONDS", 0.0)
    monkeypatch.setattr("alligator.backends.redis_backend.event_loop.CLOCK_SECONDS", 0.0)


@pytest.mark.usefixtures("either_loop", "forgetful_clocks")
def test_loop_continues_after_the_server_closed_its_connection(
    client: Client,
) -> None:
    async def main() -> list[Pushed]:
        client.push_many(messages("known"))  # the script is, from now on
        errors = await client.apush_commits(commits("before"))
        client.conn.client_kill_filter(_type="normal", skipme=True)
        for name in "abc":
            errors += await client.apush_commits(commits(name))
        return errors

    assert asyncio.run(main()) == [None] * 4
    assert ids(client.reserve("all", limit=9)) == ["known", "before", "a", "b", "c"]


@pytest.mark.usefixtures("either_loop", "forgetful_clocks")
def test_loop_connection_without_the_time_is_not_shared(
    server: Server,
) -> None:
    client = Client(server)
    waiter = threading.Thread(target=client.wait, args=(["other"], 20))

    async def main() -> list[Pushed]:
        client.push_many(messages("known"))  # the script is, from now on
        [before] = await client.apush_commits(commits("before"))
        client.conn.acl_setuser("default", enabled=True, commands=["-time"])
        [refused] = await client.apush_commits(commits("refused"))
        client.conn.acl_setuser("default", enabled=True, commands=["+time"])
        waiter.start()
        eventually(lambda: client.conn.info("clients")["blocked_clients"] == 1)
        [after] = await client.apush_commits(commits("after"))
        return [before, refused, after]

    before, refused, after = asyncio.run(main())
    still_waits = client.conn.info("clients")["blocked_clients"] == 1
    client.interrupt()
    waiter.join(20)

    assert isinstance(refused, BackendError)
    assert before is after is None
    assert still_waits
    assert ids(client.reserve("all", limit=9)) == ["known", "before", "after"]


@pytest.mark.usefixtures("either_loop")
def test_loop_connection_that_the_server_closed_is_released(client: Client) -> None:
    async def main() -> list[Pushed]:
        client.push_many(messages("known"))  # the script is, from now on
        errors = await client.apush_commits(commits("before"))
        sockets = open_sockets()
        client.conn.client_kill_filter(_type="normal", skipme=True)
        async with asyncio.timeout(20):
            while sockets <= open_sockets():
                await asyncio.sleep(0.001)
        return errors + await client.apush_commits(commits("after"))

    assert asyncio.run(main()) == [None, None]
    assert ids(client.reserve("all", limit=9)) == ["known", "before", "after"]


@pytest.mark.usefixtures("either_loop")
def test_loop_connection_that_ends_just_before_a_push_is_replaced(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = LoopConnection.exchange

    async def lose_and_exchange(link: LoopConnection, *args: Any) -> list[Any]:
        link.close()
        return await exchange(link, *args)

    async def main() -> list[Pushed]:
        errors = await client.apush_commits(commits("before"))
        monkeypatch.setattr(LoopConnection, "exchange", lose_and_exchange)
        return errors + await client.apush_commits(commits("after"))

    assert asyncio.run(main()) == [None, None]
    assert ids(client.reserve("all", limit=9)) == ["before", "after"]


@pytest.mark.usefixtures("either_loop")
def test_loop_does_not_keep_the_connection_of_a_deleted_client(
    server: Server,
) -> None:
    async def main() -> None:
        client = Client(server)
        client.push_many(messages("known"))  # the script is, from now on
        await client.apush_commits(commits("a"))
        sockets = open_sockets()
        client._connections.close()
        waiting = sockets & open_sockets()
        del client
        async with asyncio.timeout(20):
            while waiting <= open_sockets():
                gc.collect()
                await asyncio.sleep(0.001)

    asyncio.run(main())


@pytest.mark.usefixtures("either_loop")
def test_child_that_closes_its_client_keeps_its_parents_connection(
    client: Client, network: LossyNetwork
) -> None:
    pusher = Client(network.dsn)

    async def main() -> int:
        await pusher.apush_commits(commits("before"))
        child = os.fork()
        if not child:
            with suppress(BaseException):
                pusher.close()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        await pusher.apush_commits(commits("after"))
        return os.waitstatus_to_exitcode(status)

    assert asyncio.run(main()) == 0
    assert network.connections == 1
    assert ids(client.reserve("all", limit=9)) == ["before", "after"]


def open_sockets() -> set[str]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return {name for name in found if name.startswith("socket:")}


@pytest.mark.usefixtures("no_thread", "script_known")
def test_loop_that_cannot_watch_sockets_makes_the_trip(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:  # as the usual loop of Windows does
        raise NotImplementedError

    for name in ("add_reader", "add_writer", "remove_reader", "remove_writer"):
        monkeypatch.setattr(asyncio.SelectorEventLoop, name, refuse)

    assert beside(client, commits("a", "b")) == [[None, None]]
    assert ids(client.reserve("all", limit=9)) == ["a", "b"]


@pytest.mark.usefixtures("either_loop", "no_thread", "script_known")
def test_loop_without_hiredis_makes_the_trip(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alligator.backends.redis_backend.protocol.hiredis", None)

    assert beside(client, commits("a", "b")) == [[None, None]]
    assert ids(client.reserve("all", limit=9)) == ["a", "b"]


@pytest.mark.usefixtures("either_loop", "no_thread", "script_known")
def test_loop_makes_the_trip_over_a_unix_socket(server: Server) -> None:
    with closing(Client(f"{server.unix_dsn}?db=0")) as client:
        assert beside(client, commits("a", "b"), commits("c")) == [[None, None], [None]]
        assert ids(client.reserve("all", limit=9)) == ["a", "b", "c"]


@pytest.mark.usefixtures("either_loop", "no_thread", "script_known")
def test_loop_logs_in_with_name_password_and_database(client: Client) -> None:
    client.conn.acl_setuser("app", enabled=True, passwords=["+p w"], keys=["*"], commands=["+@all"])
    dsn = client.conn_string.replace("redis://", "redis://app:p%20w@").replace("/0", "/3")
    with closing(Client(dsn)) as user:
        assert beside(user, commits("a")) == [[None]]
        assert ids(user.reserve("all")) == ["a"]
    assert client.len("all") == 0


@pytest.mark.usefixtures("either_loop", "no_thread", "script_known")
def test_loop_commit_reports_duplicates_without_a_second_trip(client: Client) -> None:
    first, again = commits("a"), [Commit(messages("a", "b"), "other")]

    assert beside(client, first, again) == [[None], [[0]]]
    assert ids(client.reserve("all", limit=9)) == ["a", "b"]


@pytest.mark.usefixtures("either_loop", "script_known")
def test_idle_loop_connection_asks_for_the_time_without_a_thread(
    client: Client, network: LossyNetwork, no_thread: None, forgetful_clocks: None
) -> None:
    assert beside(Client(network.dsn), *map(commits, "abc")) == [[None]] * 3
    assert network.connections == 1


def test_loop_is_not_kept_by_its_connection(client: Client) -> None:
    async def push() -> weakref.ref[asyncio.AbstractEventLoop]:
        await client.apush_commits(commits(os.urandom(4).hex()))
        return weakref.ref(asyncio.get_running_loop())

    loops = [asyncio.run(push()) for _ in range(3)]
    gc.collect()

    assert [loop() for loop in loops] == [None] * 3


@pytest.mark.usefixtures("either_loop")
def test_loop_sends_a_forgotten_script_again(client: Client) -> None:
    beside(client, commits("a"))
    client.conn.script_flush()

    assert beside(client, commits("b", "c"), commits("d")) == [[None, None], [None]]
    assert ids(client.reserve("all", limit=9)) == ["a", "b", "c", "d"]
