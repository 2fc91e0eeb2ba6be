"""What is Redis' own: faults of the server and the network, its memory, its access control."""

import asyncio
import os
import random
import select
import signal
import socket
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from weakref import WeakSet

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from alligator.backends.base import Commit, Lease, Message, Outcome, Verdict, WorkerInfo
from alligator.backends.redis_backend import Client
from alligator.backends.redis_pushes import ABORT, PUSH, Pushes
from alligator.constants import MAX_TASKS
from alligator.exceptions import (
    AlligatorException,
    BackendError,
    BackendUnavailable,
    ConfigurationError,
    TooManyTasks,
)
from tests.faults.proxy import Mishap, Proxy
from tests.needs import needed
from tests.programs import SLACK, eventually
from tests.servers import Server, redis_server, valkey_server

ABORTED_BY = "alligator-abort"
"""The thread that undoes what a server was too late for."""


@pytest.fixture(params=[valkey_server, redis_server], ids=["valkey", "redis"])
def run(request: pytest.FixtureRequest) -> Callable[..., Server]:
    """Start a server with the configuration given, until the test is over."""

    def start(**config: str) -> Server:
        with needed():
            running = request.param(**config)
        server: Server = running.__enter__()
        request.addfinalizer(lambda: running.__exit__(None, None, None))
        return server

    return start


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close each client at the end of its test: what an error keeps alive would warn in a later one."""
    made: WeakSet[Client] = WeakSet()
    begin = Client.__init__

    def noted(self: Client, conn_string: str) -> None:
        begin(self, conn_string)
        made.add(self)

    monkeypatch.setattr(Client, "__init__", noted)
    yield
    for client in made:
        client.close()


@pytest.fixture
def server(run: Callable[..., Server]) -> Server:
    return run()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with closing(Client(server)) as client:
        yield client


def messages(*task_ids: str) -> list[Message]:
    return [Message("all", task_id, "{}") for task_id in task_ids]


def ids(leases: object) -> list[str]:
    assert isinstance(leases, list | tuple)
    return [lease.task_id for lease in leases]


earlier: WeakSet[threading.Thread] = WeakSet()
"""Threads of tests before: they go on for as long as a server that is gone may come back."""


@pytest.fixture(autouse=True)
def note_earlier() -> None:
    earlier.update(threading.enumerate())


def undoing() -> bool:
    return any(
        thread.name == ABORTED_BY and thread not in earlier for thread in threading.enumerate()
    )


def keys(client: Client) -> set[str]:
    return {str(key).partition(":")[2] for key in client.conn.scan_iter()}


def is_waiting(redis: "Redis") -> bool:
    return any(info["cmd"] == "blpop" for info in redis.client_list())


class Thread(threading.Thread):
    """A thread that keeps what it raised."""

    def __init__(self, run: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = run
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error


class Cutter:
    """A network between client and server that loses what it is told to lose."""

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self._server = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.dsn = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.lose: deque[str] = deque()
        """What becomes of the next scripts: their "request" is lost, their "reply", or "nothing"; or
        the reply is "garbled"."""
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._carry, args=(ours,), daemon=True).start()

    def _carry(self, ours: socket.socket) -> None:
        lost = "nothing"
        with ours, socket.create_connection(self._server) as theirs, suppress(OSError):
            while True:
                for end in select.select([ours, theirs], [], [])[0]:
                    data = end.recv(1 << 20)
                    if end is ours and b"EVAL" in data:
                        lost = self.lose.popleft() if self.lose else "nothing"
                    if not data or lost == ("request" if end is ours else "reply"):
                        return
                    if end is theirs and lost == "garbled":
                        data = b"?" + data
                    (theirs if end is ours else ours).sendall(data)


@pytest.fixture
def network(server: Server, client: Client) -> Iterator[Cutter]:
    for script in (PUSH, ABORT):
        client.conn.script_load(script.source)  # so that one request is one attempt
    with closing(Cutter(server)) as cutter:
        yield cutter


# The promise: what raised is not queued.


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "not connected"])
def test_a_frozen_server_fails_the_push_in_time_and_does_not_keep_it(
    server: Server, connected: bool
) -> None:
    client = Client(server)
    if connected:
        client.push_many(messages("before"))
    server.freeze()

    began = time.monotonic()
    with pytest.raises(BackendUnavailable, match="did not answer in time"):
        client.push_many(messages("late"), commit_id="frozen")
    took = time.monotonic() - began
    server.thaw()
    eventually(lambda: not undoing())

    assert took < 2 + SLACK
    assert ids(client.reserve("all", limit=9)) == ["before"] * connected
    assert client.stats("all").pushed == connected
    if connected:  # else it had not been sent
        assert client.conn.get("{alligator}:frozen:commit") == "aborted"


def test_a_lost_reply_does_not_duplicate(client: Client, network: Cutter) -> None:
    pusher = Client(network.dsn)
    network.lose.append("reply")

    pusher.push_many(messages("a", "b"))

    assert ids(client.reserve("all", limit=9)) == ["a", "b"]
    assert client.stats("all").pushed == 2


def test_a_reply_lost_after_the_task_was_done_does_not_run_it_again(
    client: Client, network: Cutter
) -> None:
    pusher = Client(network.dsn)
    network.lose.append("reply")
    client.push_many(messages("a"), commit_id="once")
    client.ack(client.reserve("all")[0])

    pusher.push_many(messages("a"), commit_id="once")

    assert client.len("all") == 0


def test_a_lost_request_is_sent_again(client: Client, network: Cutter) -> None:
    network.lose.append("request")

    Client(network.dsn).push_many(messages("a"))

    assert client.len("all") == 1


def test_two_lost_replies_fail_the_push_and_take_it_back(client: Client, network: Cutter) -> None:
    pusher = Client(network.dsn)
    network.lose.extend(["reply", "reply"])

    with pytest.raises(BackendUnavailable):
        pusher.push_many([*messages("a"), Message("other", "b", "{}", 60.0)])

    assert client.len("all") == client.len("other") == 0
    assert client.stats("all").pushed == client.stats("other").pushed == 0
    assert not undoing()


@pytest.mark.parametrize("verdict", ["", "ack", "release"], ids=["taken", "done", "given back"])
def test_a_push_of_which_a_worker_has_had_a_task_is_not_taken_back_and_succeeds(
    client: Client, network: Cutter, monkeypatch: pytest.MonkeyPatch, verdict: Verdict | Literal[""]
) -> None:
    undo = Pushes._undo

    def too_late(self: Pushes, *args: Any) -> bool:
        (lease,) = client.reserve("all")
        client.step((), 0, outcomes=[Outcome(verdict, lease)] if verdict else ())
        return undo(self, *args)

    monkeypatch.setattr(Pushes, "_undo", too_late)
    network.lose.extend(["reply", "reply"])
    both = [*messages("a"), Message("other", "b", "{}", 60.0)]

    Client(network.dsn).push_many(both, commit_id="c")

    assert not network.lose
    assert client.stats("all").pushed == client.len("other") == 1
    client.push_many(both, commit_id="c")  # it is known
    assert client.stats("all").pushed == client.len("other") == 1


def test_a_push_that_nobody_was_told_of_is_taken_back_as_far_as_workers_left_it(
    client: Client, network: Cutter, monkeypatch: pytest.MonkeyPatch
) -> None:
    undo = Pushes._undo

    def too_late(self: Pushes, *args: Any) -> bool:
        client.reserve("all")
        return undo(self, *args)

    monkeypatch.setattr(Pushes, "_undo", too_late)
    network.lose.extend(["reply", "reply", "reply"])

    with pytest.raises(BackendUnavailable):
        Client(network.dsn).push_many(messages("a", "b"))
    eventually(lambda: not undoing())

    assert client.stats("all").pushed == client.stats("all").leased == 1


# Several pushes in one trip.


def commits(*names: str) -> list[Commit]:
    return [Commit(messages(name), f"commit-{name}") for name in names]


def test_several_commits_take_one_trip(client: Client, network: Cutter) -> None:
    pusher = Client(network.dsn)
    pusher.push_many(messages("before"))
    sent = client.conn.info("stats")["total_reads_processed"]

    errors = pusher.push_commits(commits(*"abcdefgh"))

    assert errors == [None] * 8
    assert client.conn.info("stats")["total_reads_processed"] - sent <= 2  # a push, this question
    assert ids(client.reserve("all", limit=99)) == ["before", *"abcdefgh"]


def test_too_large_a_commit_does_not_keep_others_from_the_queue(client: Client) -> None:
    huge = Commit(messages(*map(str, range(MAX_TASKS + 1))))

    too_many, fine = client.push_commits([huge, *commits("a")])

    assert isinstance(too_many, TooManyTasks)
    assert fine is None
    assert ids(client.reserve("all", limit=9)) == ["a"]


def test_several_commits_outlive_a_server_that_has_forgotten_the_script(client: Client) -> None:
    client.push_many(messages("before"))
    client.conn.script_flush()

    errors = client.push_commits(commits(*"abc"))

    assert errors == [None, None, None]
    assert ids(client.reserve("all", limit=9)) == ["before", *"abc"]


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_several_commits_of_which_nothing_is_heard_are_sent_once_more(
    client: Client, network: Cutter, lost: str
) -> None:
    pusher = Client(network.dsn)
    network.lose.append(lost)

    errors = pusher.push_commits(commits(*"abc"))

    assert errors == [None, None, None]
    assert ids(client.reserve("all", limit=9)) == ["a", "b", "c"]
    assert client.stats("all").pushed == 3


def test_what_comes_right_behind_a_large_commit_is_behind_it_in_the_queue(client: Client) -> None:
    many = [f"{number:04}" for number in range(MAX_TASKS)]

    pushed = client.push_commits([Commit(messages(*many), None), Commit(messages("0"), None)])

    assert pushed == [None, None]
    assert ids(client.reserve("all", limit=MAX_TASKS)) == many
    assert ids(client.reserve("all")) == ["0"]


def test_several_commits_of_which_nothing_is_heard_twice_are_undone(
    client: Client, network: Cutter
) -> None:
    pusher = Client(network.dsn)
    network.lose.extend(["reply", "reply"])

    errors = pusher.push_commits([*commits(*"abc"), Commit(messages("d"))])

    assert [type(error) for error in errors] == [BackendUnavailable] * 4
    assert len({id(error) for error in errors}) == 4  # each is raised in a thread of its own
    assert client.len("all") == client.stats("all").pushed == 0


@pytest.fixture(params=["asyncio", "uvloop"])
def either_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `asyncio.run` use each of the event loops that web servers do."""
    new_loop = pytest.importorskip(request.param).new_event_loop

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main)

    monkeypatch.setattr(asyncio, "run", run)


def beside(pusher: Client, *trips: list[Commit]) -> list[list[AlligatorException | None]]:
    """Push several trips beside an event loop, one after the other."""

    async def push() -> list[list[AlligatorException | None]]:
        return [await pusher.apush_commits(trip) for trip in trips]

    return asyncio.run(push())


@pytest.mark.usefixtures("either_loop")
def test_a_connection_for_an_event_loop_that_hangs_leaves_time_for_another(client: Client) -> None:
    with Proxy(client.conn_string) as network:
        network.mishaps.append(Mishap(upwards=True, after=0, what="stall"))

        errors = beside(Client(f"{network.dsn}?timeout=0.2"), commits("a", "b"))

    assert errors == [[None, None]]


@pytest.mark.usefixtures("either_loop")
def test_commits_beside_an_event_loop_share_one_connection(client: Client, network: Cutter) -> None:
    pusher = Client(network.dsn)

    errors = beside(pusher, commits("a"), commits("b", "c"), commits("d"))

    assert errors == [[None], [None, None], [None]]
    assert ids(client.reserve("all", limit=9)) == ["a", "b", "c", "d"]
    assert network.connections == 1


@pytest.mark.usefixtures("either_loop")
def test_a_commit_beside_an_event_loop_may_be_larger_than_the_socket_takes(
    client: Client,
) -> None:
    big = [Commit([Message("all", str(n), "x" * 100_000)], str(n)) for n in range(64)]

    assert beside(client, big) == [[None] * 64]
    assert client.stats("all").ready == 64


@pytest.mark.usefixtures("either_loop")
@pytest.mark.parametrize("lost", ["request", "reply"])
def test_commits_beside_an_event_loop_are_sent_once_more_when_nothing_is_heard(
    client: Client, network: Cutter, lost: str
) -> None:
    pusher = Client(network.dsn)
    network.lose.extend(["nothing", lost])

    errors = beside(pusher, commits("a"), commits("b", "c"), commits("d"))

    assert errors == [[None], [None, None], [None]]
    assert ids(client.reserve("all", limit=9)) == ["a", "b", "c", "d"]
    assert client.stats("all").pushed == 4


@pytest.mark.usefixtures("either_loop")
def test_a_reply_beside_an_event_loop_that_makes_no_sense_is_as_good_as_lost(
    client: Client, network: Cutter
) -> None:
    network.lose.extend(["nothing", "garbled"])

    errors = beside(Client(network.dsn), commits("a"), commits("b"), commits("c"))

    assert errors == [[None]] * 3
    assert not network.lose
    assert ids(client.reserve("all", limit=9)) == ["a", "b", "c"]


@pytest.mark.usefixtures("either_loop")
def test_commits_beside_an_event_loop_that_fail_are_undone(client: Client, network: Cutter) -> None:
    pusher = Client(network.dsn)
    network.lose.extend(["reply", "reply", "reply"])

    [errors, _] = beside(pusher, commits("a", "b"), commits("c"))

    assert [type(error) for error in errors] == [BackendUnavailable] * 2
    assert ids(client.reserve("all", limit=9)) == ["c"]


@pytest.mark.usefixtures("either_loop")
def test_a_refusal_beside_an_event_loop_is_for_him_alone(client: Client) -> None:
    client.abort("commit-b", messages("b"))

    [[first, second, third]] = beside(client, commits("a", "b", "c"))

    assert first is third is None
    assert isinstance(second, BackendError)
    assert ids(client.reserve("all", limit=9)) == ["a", "c"]


@pytest.mark.usefixtures("either_loop")
def test_a_forgotten_script_is_taught_again_beside_an_event_loop(client: Client) -> None:
    beside(client, commits("a"))
    client.conn.script_flush()

    assert beside(client, commits("b", "c"), commits("d")) == [[None, None], [None]]
    assert ids(client.reserve("all", limit=9)) == ["a", "b", "c", "d"]


@pytest.mark.usefixtures("either_loop")
def test_a_frozen_server_does_not_stop_an_event_loop(server: Server) -> None:
    client = Client(server)
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def main() -> list[AlligatorException | None]:
        await client.apush_commits(commits("before"))
        server.freeze()
        ticking = asyncio.create_task(tick())
        errors = await client.apush_commits(commits("a", "b"))
        ticking.cancel()
        return errors

    began = time.monotonic()
    errors = asyncio.run(main())
    took = time.monotonic() - began
    server.thaw()
    eventually(lambda: not undoing())

    assert [type(error) for error in errors] == [BackendUnavailable] * 2
    assert took < 2 + SLACK
    assert len(ticks) > 20
    assert ids(client.reserve("all", limit=9)) == ["before"]


@pytest.mark.usefixtures("either_loop")
def test_an_event_loop_that_ends_in_the_middle_of_a_push_has_it_undone(server: Server) -> None:
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
def test_an_event_loop_that_ends_in_the_middle_of_a_push_hears_what_became_of_it(
    server: Server,
) -> None:
    client = Client(server)
    trips: list[asyncio.Task[list[AlligatorException | None]]] = []

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
def test_to_close_a_client_does_not_take_a_socket_from_under_its_event_loop(
    server: Server,
) -> None:
    client = Client(server)

    async def main() -> tuple[bytes, list[AlligatorException | None]]:
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
def test_commits_side_by_side_in_one_event_loop_do_not_take_each_others_replies(
    client: Client,
) -> None:
    names = [f"{number:02}" for number in range(20)]
    for name in names[::2]:
        client.abort(f"commit-{name}", messages(name))

    async def main() -> list[list[AlligatorException | None]]:
        client.push_many(messages("known"))  # the script is, from now on
        await client.apush_commits(commits("before"))
        return await asyncio.gather(*(client.apush_commits(commits(name)) for name in names))

    errors = [error for [error] in asyncio.run(main())]

    assert all(type(error) is BackendError for error in errors[::2])
    assert errors[1::2] == [None] * 10
    assert sorted(ids(client.reserve("all", limit=99))) == [*names[1::2], "before", "known"]


@pytest.mark.usefixtures("either_loop")
def test_a_child_opens_a_connection_of_its_own_for_its_event_loop(client: Client) -> None:
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
    monkeypatch.setattr("alligator.backends.redis_connection.CLOCK_SECONDS", 0.0)
    monkeypatch.setattr("alligator.backends.redis_wire.CLOCK_SECONDS", 0.0)


@pytest.mark.usefixtures("either_loop", "forgetful_clocks")
def test_an_event_loop_goes_on_when_the_server_has_closed_its_idle_connection(
    client: Client,
) -> None:
    async def main() -> list[AlligatorException | None]:
        client.push_many(messages("known"))  # the script is, from now on
        errors = await client.apush_commits(commits("before"))
        client.conn.client_kill_filter(_type="normal", skipme=True)
        for name in "abc":
            errors += await client.apush_commits(commits(name))
        return errors

    assert asyncio.run(main()) == [None] * 4
    assert ids(client.reserve("all", limit=9)) == ["known", "before", "a", "b", "c"]


@pytest.mark.usefixtures("either_loop", "forgetful_clocks")
def test_a_connection_that_was_refused_the_time_is_not_shared_with_an_event_loop(
    server: Server,
) -> None:
    client = Client(server)
    waiter = threading.Thread(target=client.wait, args=(["other"], 20))

    async def main() -> list[AlligatorException | None]:
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
def test_an_event_loop_lets_go_of_a_connection_that_the_server_has_closed(client: Client) -> None:
    async def main() -> list[AlligatorException | None]:
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


def open_sockets() -> set[str]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return {name for name in found if name.startswith("socket:")}


def test_beside_an_event_loop_that_watches_no_sockets_commits_take_a_thread(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:  # as the usual loop of Windows does
        raise NotImplementedError

    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_reader", refuse)

    assert beside(client, commits("a", "b")) == [[None, None]]
    assert ids(client.reserve("all", limit=9)) == ["a", "b"]


@pytest.mark.usefixtures("either_loop")
def test_without_hiredis_commits_beside_an_event_loop_take_a_thread(
    client: Client, network: Cutter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("redis_connection", "redis_wire"):
        monkeypatch.setattr(f"alligator.backends.{module}.hiredis", None)
    pusher = Client(network.dsn)

    assert beside(pusher, commits("a", "b")) == [[None, None]]
    assert ids(client.reserve("all", limit=9)) == ["a", "b"]


def test_what_cannot_be_undone_at_once_is_undone_later(client: Client, network: Cutter) -> None:
    pusher = Client(network.dsn)
    network.lose.extend(["reply", "reply", "request", "request", "reply"])

    with pytest.raises(BackendUnavailable):
        pusher.push_many(messages("a"))
    eventually(lambda: not undoing())

    assert not network.lose
    assert client.len("all") == client.stats("all").pushed == 0


def test_in_a_bad_network_each_accepted_task_is_there_once(client: Client, network: Cutter) -> None:
    chance = random.Random(7)
    fates = ["nothing", "reply", "reply", "request"]
    network.lose.extend(chance.choice(fates) for _ in range(2000))
    pusher = Client(network.dsn)
    accepted: list[str] = []

    def push(name: str) -> None:
        for n in range(50):
            pair = [f"{name}.{n}.a", f"{name}.{n}.b"]
            with suppress(BackendUnavailable):
                pusher.push_many(messages(*pair), commit_id=f"{name}.{n}" if n % 2 else None)
                accepted.extend(pair)

    threads = [Thread(lambda name=name: push(name)) for name in "xyz"]  # type: ignore[misc]
    for thread in threads:
        thread.join()
        assert thread.error is None
    network.lose.clear()
    eventually(lambda: not undoing())

    assert 0 < len(accepted) < 300
    assert sorted(ids(client.reserve("all", limit=1000))) == sorted(accepted)
    assert client.stats("all").pushed == len(accepted)


def test_an_abort_leaves_what_others_pushed_and_what_workers_took(client: Client) -> None:
    client.push_many(messages("theirs"))
    client.push_many(messages("taken", "theirs", "ours"), commit_id="c")
    first, taken = client.reserve("all", limit=2)
    client.nack(taken)
    client.release(first)

    client.abort("c", messages("taken", "theirs", "ours"))

    assert sorted(ids(client.reserve("all", limit=9))) == ["taken", "theirs"]
    assert client.stats("all").pushed == 2


def test_a_refused_connection_fails_at_once(server: Server) -> None:
    client = Client(server)
    server.stop()

    began = time.monotonic()
    with pytest.raises(BackendUnavailable, match="cannot be reached"):
        client.push_many(messages("a"))

    assert time.monotonic() - began < SLACK  # and it was not tried until the two seconds were over
    assert not undoing()


def test_an_aborted_commit_says_so(client: Client) -> None:
    client.abort("c", messages("a"))

    with pytest.raises(BackendError, match="aborted"):
        client.push_many(messages("a"), commit_id="c")

    assert client.len("all") == 0


# The order of things.


def test_a_large_push_does_not_overtake_an_earlier_one(client: Client) -> None:
    for n in range(5):
        client.push_many(messages(f"first {n}"))
        client.push_many(messages(*(f"many {n}.{i:03d}" for i in range(400))))

    order = [task_id for _ in range(3) for task_id in ids(client.reserve("all", limit=1000))]

    assert order == [
        task_id
        for n in range(5)
        for task_id in (f"first {n}", *(f"many {n}.{i:03d}" for i in range(400)))
    ]


def test_no_two_leases_of_a_task_have_the_same_token(client: Client) -> None:
    client.push_many(messages("a"))
    tokens = []

    def lease(lease_for: float = 60.0) -> Lease:
        (found,) = client.step(["all"], 1, lease_for=lease_for, max_lost=2).leases
        tokens.append(found.token)
        return found

    client.nack(lease())
    client.release(lease())
    lease(0.0)
    assert lease(0.0).lost == 1
    client.step(["all"], 1, max_lost=2)
    (letter,) = client.dead_letters("all")
    assert letter.reason.startswith("lost 2 times")
    client.retry_dead("all", "a")
    assert lease().lost == 0

    assert len(set(tokens)) == len(tokens) == 5


# The server goes and comes.


def test_a_restart_of_the_server_goes_unnoticed(run: Callable[..., Server]) -> None:
    server = run(appendonly="yes", appendfsync="always")
    client = Client(server)
    client.push_many(messages("a"))

    server.kill()
    server.start()

    assert ids(client.reserve("all")) == ["a"]
    client.push_many(messages("b"))
    assert client.stats("all").pushed == 2


def test_a_flushed_script_cache_goes_unnoticed(client: Client) -> None:
    client.push_many(messages("a"))

    client.conn.script_flush()
    client.push_many(messages("b"))
    client.conn.script_flush()

    assert ids(client.step(["all"], 2).leases) == ["a", "b"]


def test_a_killed_wait_says_so_and_the_next_one_works(client: Client) -> None:
    waiting = Thread(lambda: client.wait(["all"], 60))
    eventually(lambda: is_waiting(client.conn))

    for info in client.conn.client_list():
        if info["cmd"] == "blpop":
            client.conn.client_kill_filter(_id=info["id"])
    waiting.join(5)
    again = Thread(lambda: client.wait(["all"], 60))
    eventually(lambda: is_waiting(client.conn))
    client.push_many(messages("a"))
    again.join(5)

    assert isinstance(waiting.error, BackendUnavailable)
    assert again.error is None
    assert not again.is_alive()


def test_a_replica_takes_no_writes(server: Server, client: Client) -> None:
    client.ping()
    client.conn.replicaof("127.0.0.1", "1")

    with pytest.raises(BackendUnavailable, match="replica"):
        client.push_many(messages("a"))
    client.conn.replicaof("NO", "ONE")

    client.push_many(messages("a"))
    assert client.len("all") == 1
    assert not undoing()


# Waiting.


def test_one_push_wakes_one_worker_and_it_wakes_the_next(client: Client) -> None:
    workers = [Thread(lambda: client.wait(["low", "all"], 60)) for _ in range(3)]
    eventually(lambda: sum(info["cmd"] == "blpop" for info in client.conn.client_list()) == 3)

    client.push_many(messages("a", "b"))
    eventually(lambda: sum(worker.is_alive() for worker in workers) == 2)
    client.step(["low", "all"], 1)
    eventually(lambda: sum(worker.is_alive() for worker in workers) == 1)
    client.step(["low", "all"], 1)

    client.interrupt()
    for worker in workers:
        worker.join(5)
        assert worker.error is None


def test_a_signal_handler_ends_a_wait(client: Client) -> None:
    onlooker = Client(client.conn_string)

    def send() -> None:
        eventually(lambda: is_waiting(onlooker.conn))
        os.kill(os.getpid(), signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, lambda *_: client.interrupt())
    try:
        sending = Thread(send)
        began = time.monotonic()
        client.wait(["all"], 60)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    sending.join()

    assert time.monotonic() - began < 4
    assert sending.error is None


def test_an_interrupt_ends_the_next_wait_and_no_more(client: Client) -> None:
    client.interrupt()

    began = time.monotonic()
    client.wait(["all"], 60)
    assert time.monotonic() - began < 4
    client.wait(["all"], 0.1)
    assert time.monotonic() - began >= 0.1


def test_an_interrupt_loses_no_task_that_was_just_reserved(client: Client) -> None:
    names = [f"{number:03}" for number in range(200)]
    took: list[str] = []
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            took.extend(ids(client.wait_then_step(["all"], 60, 1).leases))

    def push() -> None:
        for name in names:
            client.push_many(messages(name))

    working, pushing = Thread(work), Thread(push)
    while pushing.is_alive():
        client.interrupt()
    ended.set()
    client.interrupt()
    for thread in (working, pushing):
        thread.join(5)
        assert thread.error is None

    left = ids(client.reserve("all", limit=200))

    assert sorted([*took, *left]) == names


def test_a_wait_may_end_while_it_is_interrupted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = client._connections.take(time.monotonic() + 5)
    client._connections._waiting[connection] = []

    def end_it() -> float:
        connection.disconnect()
        return time.monotonic()

    monkeypatch.setattr("alligator.backends.redis_connection.monotonic", end_it)

    client.interrupt()

    assert connection._sock is None


def test_an_interrupted_wait_leaves_no_broken_connection(client: Client) -> None:
    waiting = Thread(lambda: client.wait_then_step(["all"], 60, 1))
    eventually(lambda: is_waiting(client.conn))

    client.interrupt()
    waiting.join(5)
    client.push_many(messages("a"))

    assert waiting.error is None
    assert ids(client.reserve("all")) == ["a"]


def test_a_server_that_hangs_does_not_keep_a_wait_from_being_interrupted(
    server: Server, client: Client
) -> None:
    waiting = Thread(lambda: client.wait_then_step(["all"], 60, 1))
    eventually(lambda: is_waiting(client.conn))
    server.freeze()
    began = time.monotonic()

    try:
        while waiting.is_alive():
            client.interrupt()
            waiting.join(0.05)
    finally:
        server.thaw()

    assert time.monotonic() - began < 4
    assert waiting.error is None


def test_a_server_that_has_forgotten_the_script_is_taught_it_after_a_wait(client: Client) -> None:
    client.step(["all"], 1)
    client.push_many(messages("a"))

    client.conn.script_flush()
    step = client.wait_then_step(["all"], 60, 1)

    assert ids(step.leases) == ["a"]


def test_a_task_is_kept_though_the_wait_for_it_was_refused(server: Server, client: Client) -> None:
    client.conn.acl_setuser(
        "worker", enabled=True, passwords=["+x"], keys=["*"], commands=["+@all", "-blpop"]
    )
    worker = Client(client.conn_string.replace("redis://", "redis://worker:x@"))

    worker.push_many(messages("a"))
    worker.step((), 0)
    worker.reserve("other")
    step = worker.wait_then_step(["all"], 60, 1)

    assert ids(step.leases) == ["a"]
    with pytest.raises(BackendError, match="forbids"):
        worker.wait_then_step(["all"], 60, 1)
    worker.close()


def test_waiting_workers_do_not_keep_others_from_the_server(client: Client) -> None:
    workers = [Thread(lambda: client.wait(["all"], 60)) for _ in range(20)]
    eventually(lambda: sum(info["cmd"] == "blpop" for info in client.conn.client_list()) == 20)

    client.push_many(messages("a"))

    client.interrupt()
    for worker in workers:
        worker.join(5)
        assert worker.error is None


# Processes.


def test_a_forked_child_has_connections_of_its_own(client: Client) -> None:
    client.push_many(messages("a"))
    waiting = Thread(lambda: client.wait(["other"], 60))
    eventually(lambda: is_waiting(client.conn))
    client.ping()
    before = {info["id"] for info in client.conn.client_list()}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork and threads, on purpose
        child = os.fork()
    if not child:
        with suppress(BaseException):
            client.interrupt()
            client.push_many(messages("b"))
            client.push_many(messages("c"))
            client.close()
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert waiting.is_alive()
    assert ids(client.reserve("all", limit=9)) == ["a", "b", "c"]
    assert {info["id"] for info in client.conn.client_list()} == before
    client.interrupt()
    waiting.join(5)


# Memory.


def test_a_server_out_of_memory_takes_nothing_and_lets_workers_go_on(client: Client) -> None:
    client.push_many(messages(*"abcdefg"), commit_id="before")
    client.step(["all"], 1, lease_for=0.0)
    client.conn.config_set("maxmemory", 1)
    before = keys(client)

    with pytest.raises(BackendError, match="out of memory") as raised:
        client.push_many(messages("h"), commit_id="after")
    assert not isinstance(raised.value, BackendUnavailable)
    assert keys(client) == before
    assert not undoing()

    b, c, d, e, f = client.step(["all"], 5).leases
    client.ack(b)
    client.nack(c, delay=60, data="{longer}")
    client.dead_letter(d, reason="no")
    client.release(e)
    assert client.extend([f]) == []
    client.retry_dead("all", "d")
    assert client.lease("all", "a")
    client.beat(WorkerInfo(name="w"), 60)
    client.abort("after", messages("h"))
    client.abort("before", messages("g"))
    assert client.cancel("all", "d") == "{}"
    client.drop_all("all")
    stats = client.stats("all")
    assert (stats.pushed, stats.succeeded, stats.leased) == (6, 1, 2)


def test_nothing_of_a_finished_task_stays(client: Client) -> None:
    for n in range(20):
        client.push_many(messages(f"{n}.ok", f"{n}.retried", f"{n}.dead", f"{n}.lost"))
        ok, retried, dead, _ = client.step(["all"], 4, lease_for=0.0).leases
        lost = client.step(["all"], 1).leases
        client.step(
            ["all"],
            0,
            outcomes=[
                Outcome("ack", ok),
                Outcome("retry", retried),
                Outcome("dead", dead, reason="no"),
            ],
        )
        client.drop_dead("all", dead.task_id)
        leases = [*lost, *client.step(["all"], 9).leases]
        client.step(["all"], 9, outcomes=[Outcome("ack", lease) for lease in leases])

    left = {key for key in keys(client) if not key.endswith(":commit")}
    assert left <= {"queues", "all:cnt"}
    assert len(keys(client) - left) == 1  # the next push takes it away
    stats = client.stats("all")
    assert stats.pushed == stats.succeeded + stats.dropped == 80


def test_no_command_grows_with_the_backlog(client: Client) -> None:
    client.conn.config_resetstat()
    client.push_many(messages(*(str(n) for n in range(500))))
    leases = client.step(["all", "other"], 10, lease_for=0.0).leases
    client.step(["all"], 10, outcomes=[Outcome("ack", leases[0]), Outcome("retry", leases[1])])
    client.extend(leases)
    client.cancel("all", "400")
    client.stats("all")
    client.note({"all": {"run:1": 1}}, ["all"])
    client.figures("all")
    client.history("all")
    client.len("all")
    client.workers()

    used = {name.removeprefix("cmdstat_") for name in client.conn.info("commandstats")}

    assert {name for name in used if not name.startswith(("config", "client"))} <= {
        *("eval", "evalsha", "time", "set", "get", "del", "exists", "rpush"),
        *("hset", "hsetnx", "hget", "hmget", "hdel", "hexists", "hincrby", "sadd"),
        *("zadd", "zrem", "zcard", "zcount"),
        # with a limit
        *("zrange", "zrangebyscore", "zrevrangebyscore", "zremrangebyrank"),
        # of a hash that has its size, whatever the backlog's
        *("hgetall", "hvals"),
    }


# What others did to our keys.


def test_a_task_whose_payload_is_gone_does_not_stop_the_queue(client: Client) -> None:
    client.push_many(messages("a", "b", "c"))
    client.conn.hdel("{alligator}:all:job", "a", "b")

    step = client.step(["all"], 2)

    assert not step.leases
    assert step.pause == 0
    assert ids(client.step(["all"], 2).leases) == ["c"]
    stats = client.stats("all")
    assert stats.pushed == stats.dropped + stats.leased == 3


def test_a_task_whose_payload_is_gone_is_left_out_of_those_around_it(client: Client) -> None:
    client.push_many([*messages("a", "b", "c"), Message("other", "d", "{}")])
    client.release(client.reserve("all")[0])
    client.conn.hdel("{alligator}:all:job", "b")

    step = client.step(["all", "other"], 9)

    found = [(lease.queue_name, lease.task_id, lease.data, lease.token) for lease in step.leases]
    assert found == [("all", "a", "{}", 1), ("all", "c", "{}", 0), ("other", "d", "{}", 0)]
    client.step((), 0, outcomes=[Outcome("ack", lease) for lease in step.leases])
    stats = client.stats("all")
    assert (stats.succeeded, stats.dropped, stats.leased, stats.ready) == (2, 1, 0, 0)


def test_a_payload_that_is_no_text_can_be_buried(client: Client) -> None:
    client.push_many(messages("a"))
    with Redis.from_url(client.conn_string) as raw:
        raw.hset("{alligator}:all:job", "a", b"\xff\xfe")
        raw.hset("{alligator}:all:job", b"\xffb", "{}")
        raw.zadd("{alligator}:all:due", {b"\xffb": 1})

    for lease in client.reserve("all", limit=2):
        client.dead_letter(lease, reason="no text")

    assert client.stats("all").dead == 2
    assert client.drop_dead("all", "a")


def test_keys_of_another_kind_are_reported(client: Client) -> None:
    client.conn.set("{alligator}:all:due", "mine")

    with pytest.raises(BackendError, match=r"\?ns="):
        client.reserve("all")


# The DSN.


def test_two_namespaces_do_not_meet(server: Server, client: Client) -> None:
    other = Client(f"{server}?ns=other")

    other.push_many(messages("a"), commit_id="c")
    other.beat(WorkerInfo(name="w"), 60)

    assert client.len("all") == 0
    assert client.queue_names() == []
    assert client.workers() == []
    client.push_many(messages("a"), commit_id="c")
    assert client.len("all") == other.len("all") == 1
    assert {str(key).partition(":")[0] for key in client.conn.scan_iter()} == {
        "{alligator}",
        "{other}",
    }


def test_a_unix_socket_will_do(server: Server, client: Client) -> None:
    Client(f"{server.unix_dsn}?db=0").push_many(messages("a"))

    assert client.len("all") == 1


def test_the_number_of_the_database_counts(server: Server, client: Client) -> None:
    Client(server.replace("/0", "/1")).push_many(messages("a"))

    assert client.len("all") == 0


def test_a_wrong_password_is_refused_and_not_shown(run: Callable[..., Server]) -> None:
    server = run(requirepass="right")
    Client(server).push_many(messages("a"))

    for wrong in ("redis://:s3cret-wrong@", "redis://app:s3cret-wrong@", "redis://"):
        client = Client(server.replace("redis://:right@", wrong))
        with pytest.raises(BackendError, match="password") as raised:
            client.push_many(messages("b"))
        shown = "".join(traceback.format_exception(raised.value)) + repr(client)
        assert not isinstance(raised.value, BackendUnavailable)
        assert "s3cret" not in shown
    assert not undoing()


@pytest.mark.parametrize(
    ("dsn", "says"),
    [
        ("redis://localhost?colour=red", "none of: ns, timeout"),
        ("redis://localhost?ns=", "ns is empty"),
        ("redis://localhost?ns=%7Ba", "braces"),
        ("redis://localhost?timeout=soon", "timeout is not a number"),
        ("redis://localhost?timeout=-1", "timeout is not a time"),
        ("redis://localhost?db=one", "db is not a number"),
        ("redis://localhost/one", "a database is a number"),
        ("redis://:s3cret/x@localhost", "%2F"),
        ("redis://:s3cret#x@localhost", "%23"),
        ("redis://:s3cret?x@localhost", "none of"),
        ("unix://", "names no socket"),
        ("redis+tower://localhost", "is not redis://"),
        ("redis+sentinel://localhost", "is not redis\\+sentinel://"),
        ("redis+sentinel://:s3cret/x@localhost/main", "%2F"),
        ("redis+sentinel://h1:one,h2/main", "is not redis\\+sentinel://"),
        ("unix+sentinel://h1,h2/main", "is not redis\\+sentinel://"),
        ("redis+sentinel://h1,h2/main/one", "a database is a number"),
        ("redis+cluster://h1,h2/1", "database 0 only"),
        ("redis+cluster://h1,h2?db=1", "database 0 only"),
        ("redis+cluster://h1,,h2", "is not redis\\+cluster://"),
        ("redis://h?sentinel_password=s3cret", "no Sentinels"),
        ("http://localhost", "is not redis://"),
    ],
)
def test_a_dsn_that_cannot_work_says_why(dsn: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as raised:
        Client(dsn)

    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


def test_making_a_client_connects_to_nothing() -> None:
    for dsn in ("redis://", "redis://nowhere.invalid", "rediss://nowhere.invalid?timeout=3"):
        Client(dsn)


# What the operator should know.


def test_a_server_that_forgets_is_warned_of(client: Client) -> None:
    client.conn.config_set("maxmemory", 10**9)
    client.conn.config_set("maxmemory-policy", "allkeys-lru")

    forgets, evicts = client.warnings()

    assert "appendonly yes" in forgets
    assert "noeviction" in evicts


def test_a_server_that_keeps_its_data_is_not(run: Callable[..., Server]) -> None:
    assert Client(run(appendonly="yes")).warnings() == []


def test_a_server_that_leaves_it_to_the_system_when_to_write_is_warned_of(
    run: Callable[..., Server],
) -> None:
    (warning,) = Client(run(appendonly="yes", appendfsync="no")).warnings()

    assert "appendfsync everysec" in warning


LEAST_RIGHTS = (
    "+eval +evalsha +blpop +ping +info +select +time +set +get +del +exists +rpush +sadd +smembers "
    "+hset +hsetnx +hget +hmget +hdel +hexists +hincrby +zadd +zrem +zscore +zcard +zcount "
    "+zrange +zrevrange +zrangebyscore +zrevrangebyscore +zremrangebyrank"
)
CLUSTER_RIGHTS = "+cluster|slots"


def with_rights(server: Server, admin: Client, rights: str) -> Client:
    """Make a client of a user who may do nothing but that."""
    admin.conn.acl_setuser(
        "gator",
        enabled=True,
        passwords=["+pw"],
        keys=["{alligator}:*"],
        categories=["-@all"],
        commands=rights.split(),
    )
    return Client(server.replace("redis://", "redis://gator:pw@"))


def test_a_user_with_few_rights_can_do_it_all(server: Server, client: Client) -> None:
    gator = with_rights(server, client, LEAST_RIGHTS)

    gator.push_many(messages("a", "b", "c"), commit_id="c")
    gator.abort("c", messages("c"))
    a, b = gator.reserve("all", limit=2)
    gator.ack(a)
    gator.dead_letter(b, reason="no")
    gator.beat(WorkerInfo(name="w"), 60)

    assert gator.dead_letters("all")
    assert gator.retry_dead("all", "b")
    assert gator.workers()
    assert gator.queue_names() == ["all"]
    gator.wait(["all"], 1)
    gator.warnings()


def test_a_user_with_few_rights_cannot_touch_other_keys(server: Server, client: Client) -> None:
    gator = with_rights(server, client, LEAST_RIGHTS)
    client.conn.set("theirs", "secret")
    neighbour = Client(f"{gator.conn_string}?ns=neighbour")

    with pytest.raises(BackendError, match="ACL"):
        neighbour.push_many(messages("a"))
    with pytest.raises(BackendError, match="ACL"):
        neighbour.reserve("all")
    for read in ("return redis.call('get', 'theirs')", "return redis.call('flushall')"):
        with pytest.raises(ResponseError):
            gator.conn.eval(read, 0)
    with pytest.raises(NoPermissionError):
        gator.conn.get("theirs")

    assert client.conn.get("theirs") == "secret"
    assert {str(key) for key in client.conn.scan_iter()} == {"theirs"}


@pytest.mark.parametrize("rights", [LEAST_RIGHTS, CLUSTER_RIGHTS])
def test_the_rights_that_suffice_are_written_down(rights: str) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "tune-redis.md"

    assert rights in " ".join(page.read_text("utf-8").replace("\\\n", " ").split())


def test_a_missing_right_is_named(server: Server, client: Client) -> None:
    gator = with_rights(server, client, "+ping +evalsha +eval")

    with pytest.raises(BackendError, match="ACL"):
        gator.push_many(messages("a"))
    assert "INFO" in gator.warnings()[0]
