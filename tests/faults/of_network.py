"""What can happen between a client and its Redis: cuts at every byte, stalls, delays."""

import os
from contextlib import suppress
from threading import enumerate as all_threads
from time import monotonic

from alligator import Gator
from alligator.backends.base import Client, Message
from alligator.backends.redis_backend import Client as RedisClient
from alligator.exceptions import BackendError
from alligator.lanes import Lane
from tests.faults import tasks
from tests.faults.books import Answer
from tests.faults.catalogue import fault
from tests.faults.house import LEASE_SECONDS, Broken, House, eventually
from tests.faults.of_redis import is_well
from tests.faults.proxy import Cut, Proxy

REDIS = ("redis",)

MESSAGES = 3
"""How many tasks a push has here."""


def payload(gator: Gator, name: str) -> str:
    """Write a task as the store keeps it."""
    task = gator.task_class(name)
    task.to_call(tasks.record)
    return gator.write(task, gator.queue_name)


def measure(proxy: Proxy, client: Client, call: object) -> dict[bool, int]:
    """Make a call on a connection of its own, and tell how many bytes it takes, up and back."""
    assert callable(call)
    client.close()
    call()
    client.close()
    return dict(proxy.carried)


def cuts_of(house: House, size: dict[bool, int]) -> list[Cut]:
    """List the places in an exchange of that size where it can be cut: all, or some of them."""
    up = [Cut(True, after) for after in range(size[True] + 1)]
    back = [Cut(False, after) for after in range(size[False])]
    house.notes.append(f"an exchange is {size[True]} bytes and {size[False]} back")
    if house.thorough:
        return up + back
    # All of the way back, for there the server knows what the client does not.
    return house.random.sample(up, 60) + back[-40:]


def push_through(house: House, proxy: Proxy, client: Client, cuts: list[Cut | None]) -> bool:
    """Push three tasks over connections that are cut like that; return whether it succeeded."""
    name = f"c{len(house.books.answers)}"
    ids = tuple(f"{name}-{number}" for number in range(MESSAGES))
    messages = [Message("all", each, payload(house.gator, each)) for each in ids]
    client.close()  # so that each attempt has a connection of its own
    proxy.cuts.clear()
    proxy.cuts.extend(cuts)
    try:
        client.push_many(messages, commit_id=f"commit-{name}")
    except BackendError:
        house.books.answers.append(Answer(ids, 503))
        return False
    house.books.answers.append(Answer(ids, 201))
    return True


def undone() -> bool:
    """Whether no thread has anything left to take back."""
    return not any(thread.name == "alligator-abort" for thread in all_threads())


@fault(*REDIS, quick=True)
def push_cut_at_every_byte(house: House) -> None:
    """Cut a push, and its reply, after each byte: once, with its second attempt, with its undoing."""
    with Proxy(house.valkey.server) as proxy:
        client = RedisClient(proxy.dsn)
        house.books.answers.append(Answer(tuple(f"c0-{n}" for n in range(MESSAGES)), 201))
        first = [
            Message("all", f"c0-{n}", payload(house.gator, f"c0-{n}")) for n in range(MESSAGES)
        ]
        client.push_many(first, commit_id="commit-c0")  # teaches the server the script
        client.abort("commit-none", first)
        size = measure(proxy, client, lambda: client.push_many(first, commit_id="commit-c0"))
        for cut in cuts_of(house, size):
            for times in (1, 2, 3):
                house.strikes += 1
                push_through(house, proxy, client, [cut] * times)
        eventually(undone, "what failed is taken back", seconds=20)
        proxy.cuts.clear()
        client.close()
    stored = house.store.census().keys()
    if stored != house.books.accepted():
        raise Broken(
            f"I1, I2: {len(stored ^ house.books.accepted())} tasks are not as was answered"
        )
    house.mark()
    house.worker()


@fault(*REDIS, quick=True)
def step_cut_at_every_byte(house: House) -> None:
    """Cut a worker's step after each of its bytes, and its reply: nothing is lost, acks are repeated."""
    with Proxy(house.valkey.server) as proxy:
        os.environ["LEDGER"] = str(house.books.ledger)
        gator = Gator(proxy.dsn)
        client = gator.client
        lane = Lane(gator, ["all"], LEASE_SECONDS, 5)
        feed(house, 4)
        run_all(lane)
        feed(house, 2)
        take(lane)  # so that the next step has both acks to report and tasks to reserve
        size = measure(proxy, client, lambda: take(lane))
        run_all(lane)
        for cut in cuts_of(house, size):
            house.strikes += 1
            feed(house, 2)
            client.close()
            proxy.cuts.clear()
            proxy.cuts.append(cut)
            for _ in range(3):
                step(lane)
        house.mark()
        end = monotonic() + 10
        run_all(lane)
        while house.store.census() and monotonic() < end:
            lane.wait(1)
            run_all(lane)
        client.close()


def feed(house: House, count: int) -> None:
    """Push tasks past the proxy."""
    name = f"s{len(house.books.answers)}"
    ids = tuple(f"{name}-{number}" for number in range(count))
    house.gator.client.push_many([Message("all", e, payload(house.gator, e)) for e in ids])
    house.books.answers.append(Answer(ids, 201))


def take(lane: Lane) -> bool:
    """Run the next task, if there is one."""
    lease = lane.next(1)
    if lease is not None:
        lane.run(lease)
    return lease is not None


def step(lane: Lane) -> None:
    """Run the next task, if the store can be reached."""
    with suppress(BackendError):
        take(lane)


def run_all(lane: Lane) -> None:
    """Run what there is."""
    while take(lane):
        pass


@fault(*REDIS)
def network_cuts(house: House) -> None:
    """Cut all connections of web server and workers at random moments, while clients ask."""
    with Proxy(house.valkey.server) as proxy:
        house.dsn = proxy.dsn
        house.lossy = True
        house.web()
        house.worker()
        house.worker()
        with house.traffic(task="work"):
            for _ in range(40):
                house.pause(0.01, 0.1)
                house.strikes += 1
                house.outages += 1
                for _ in range(2):
                    upwards = house.random.random() < 0.5
                    proxy.cuts.append(Cut(upwards, house.random.randrange(1500)))
                proxy.cut_all()
                house.mark()
            proxy.cuts.clear()
        house.drain()


@fault(*REDIS)
def network_delays(house: House) -> None:
    """Delay each piece that travels, by up to a tenth of a second."""
    with Proxy(house.valkey.server, house.random) as proxy:
        house.dsn = proxy.dsn
        proxy.delay = 0.1
        house.web()
        house.worker()
        house.worker()
        with house.traffic():
            house.strikes += 1
            house.pause(2, 3)
        house.mark()
        house.drain()
    statuses = {each.status for each in house.books.answers}
    if not statuses <= {201, 500}:
        raise Broken(f"clients were answered {statuses}")


@fault(*REDIS)
def network_stalls(house: House) -> None:
    """Hold back all that travels for longer than a commit may take, and deliver it then."""
    with Proxy(house.valkey.server) as proxy:
        house.dsn = proxy.dsn
        house.web()
        house.worker()
        with house.traffic():
            for _ in range(2):
                house.pause(0.2, 0.4)
                house.strikes += 1
                house.outages += 1
                proxy.stalled.set()
                house.pause(2.5, 3)
                proxy.stalled.clear()
                house.mark()
                is_well(house)
        house.drain()
