"""The soak: a random mix of faults, for any length of time."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from threading import Event
from time import monotonic

from tests.faults import catalogue
from tests.faults.catalogue import fault
from tests.faults.harness import LEASE_SECONDS, Harness, eventually
from tests.faults.proxy import Mishap, Proxy
from tests.harness.sqs_proxy import Hold, Lose, Refuse, Rule, SqsProxy, storm

Action = Callable[[Harness], None]


# What happens to processes.


def kill_worker(harness: Harness) -> None:
    harness.signal_worker(harness.workers.pop(0), signal.SIGKILL)
    harness.worker()


def stop_worker(harness: Harness) -> None:
    harness.signal_worker(harness.workers.pop(0), signal.SIGTERM)
    harness.worker()


def freeze_worker(harness: Harness) -> None:
    victim = harness.random.choice(harness.workers)
    harness.signal_worker(victim, signal.SIGSTOP)
    harness.pause(0, 2 * LEASE_SECONDS)
    harness.signal_worker(victim, signal.SIGCONT)


def kill_web(harness: Harness) -> None:
    harness.injections += 1
    harness.web()


# What happens to stores, and on the way to them.


@contextmanager
def of_a_file(harness: Harness) -> Iterator[list[Action]]:
    yield [hold_the_lock]


@contextmanager
def of_one_server(harness: Harness) -> Iterator[list[Action]]:
    """Put a proxy in front of the server."""
    with Proxy(harness.valkey.server) as proxy:
        harness.dsn = proxy.dsn
        harness.lossy = True
        yield [kill_store, partial(stall, proxy=proxy), partial(cut, proxy=proxy), flush]


@contextmanager
def of_a_cluster(harness: Harness) -> Iterator[list[Action]]:
    """Use no proxy: clients connect to the addresses that the nodes report."""
    harness.lossy = True
    yield [kill_store, freeze_store, kill_clients, flush, move_slot]


@contextmanager
def of_replicas(harness: Harness) -> Iterator[list[Action]]:
    """Do not freeze or kill the master briefly: a replica could be promoted unnoticed."""
    harness.lossy = True
    yield [kill_master, freeze_master, kill_clients, flush]


@contextmanager
def of_a_cluster_with_replicas(harness: Harness) -> Iterator[list[Action]]:
    with of_replicas(harness) as actions:
        yield [*actions, move_slot]


@contextmanager
def of_postgres(harness: Harness) -> Iterator[list[Action]]:
    """Put a proxy in front of the server."""
    with Proxy(harness.store.dsn) as proxy:
        harness.dsn = proxy.leading_to(harness.store.dsn)
        harness.lossy = harness.forgets_reports = True
        yield [
            crash_postgres,
            freeze_postgres,
            partial(stall, proxy=proxy),
            partial(cut, proxy=proxy),
        ]


@contextmanager
def of_sqs(harness: Harness) -> Iterator[list[Action]]:
    """Put an HTTP proxy in front of moto; moto itself is not killed, because it would lose all tasks."""
    with SqsProxy(harness.sqs.server) as proxy:
        harness.dsn = f"{proxy.dsn}?poll=0"
        harness.lossy = True  # what was sent and not answered cannot be undone
        yield [
            partial(follow, proxy=proxy, make=make) for make in (disturb, throttle, lose, hold_back)
        ]


MISHAPS: dict[str, Callable[[Harness], AbstractContextManager[list[Action]]]] = {
    "sqlite": of_a_file,
    "redis-always": of_one_server,
    "redis-6": of_one_server,
    "redis-sentinel": of_replicas,
    "redis-cluster": of_a_cluster,
    "redis-replicas": of_a_cluster_with_replicas,
    "postgres": of_postgres,
    "sqs": of_sqs,
}


def hold_the_lock(harness: Harness) -> None:
    with harness.outage(), closing(harness.sqlite.connect()) as other:
        other.execute("BEGIN IMMEDIATE")
        harness.pause(0, 2.5)
        other.execute("ROLLBACK")


def crash_postgres(harness: Harness) -> None:
    with harness.outage():
        harness.postgres.server.crash()
        harness.pause(0, 0.5)
        harness.postgres.server.start()


def freeze_postgres(harness: Harness) -> None:
    with harness.outage():
        harness.postgres.server.freeze()
        harness.pause(0, 2.5)
        harness.postgres.server.thaw()


def kill_store(harness: Harness) -> None:
    with harness.outage():
        server = harness.valkey.master
        server.kill()
        harness.pause(0, 0.5)
        server.start()
    wait_until_whole(harness)


def freeze_store(harness: Harness) -> None:
    with harness.outage():
        server = harness.valkey.master
        server.freeze()
        harness.pause(0, 2.5)
        server.thaw()
    wait_until_whole(harness)


def kill_master(harness: Harness) -> None:
    old = harness.valkey.master
    with harness.failover():
        old.kill()
    old.start()
    wait_until_whole(harness)


def freeze_master(harness: Harness) -> None:
    old = harness.valkey.master
    with harness.failover():
        old.freeze()
    old.thaw()
    wait_until_whole(harness)


def wait_until_whole(harness: Harness) -> None:
    eventually(harness.valkey.is_whole, "all servers know each other", 60)


BREAK: dict[str, Action] = {
    "sqlite": hold_the_lock,
    "redis-always": kill_store,
    "postgres": crash_postgres,
}
"""What happens to a store that loses nothing."""


def stall(harness: Harness, proxy: Proxy) -> None:
    with harness.outage(), proxy.stall():
        harness.pause(0, 2.5)


def cut(harness: Harness, proxy: Proxy) -> None:
    with harness.outage():
        proxy.mishaps.append(Mishap.somewhere(harness.random))
        proxy.cut_all()


def kill_clients(harness: Harness) -> None:
    with harness.outage(), closing(harness.valkey.connect()) as redis:
        redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def flush(harness: Harness) -> None:
    harness.injections += 1
    with closing(harness.valkey.connect()) as redis:
        redis.script_flush()


def move_slot(harness: Harness) -> None:
    harness.injections += 1
    cluster = harness.cluster
    if harness.random.random() < 0.5:
        cluster.nodes.move_in_one_piece(cluster.slot)
    else:
        cluster.nodes.move(cluster.slot, harness.random.uniform(0, 0.02))
    harness.expect_master()
    wait_until_whole(harness)


def follow(
    harness: Harness, proxy: SqsProxy, make: Callable[[Harness], tuple[Rule, float]]
) -> None:
    rule, seconds = make(harness)
    with harness.outage(), proxy.rule(rule):
        harness.pause(0, seconds)


def disturb(harness: Harness) -> tuple[Rule, float]:
    return storm(harness.random), 5.0


def throttle(harness: Harness) -> tuple[Rule, float]:
    return lambda request: Refuse(), 2.5


def lose(harness: Harness) -> tuple[Rule, float]:
    return lambda request: Lose(before=harness.random.random() < 0.5), 1.0


def hold_back(harness: Harness) -> tuple[Rule, float]:
    seconds = harness.random.uniform(0, 2.5)
    return lambda request: Hold(Event(), seconds), 2.5


# All of it.


@fault(*MISHAPS)
def soak(harness: Harness) -> None:
    """Combine the other faults at random."""
    with MISHAPS[harness.kind](harness) as mishaps:
        harness.web()
        harness.worker()
        harness.worker()
        harness.wait_until_well()
        actions = [kill_worker, stop_worker, freeze_worker, kill_web, *mishaps]
        end = monotonic() + catalogue.SOAK_SECONDS
        with harness.traffic(task="work"):
            while monotonic() < end:
                harness.pause(0.1, 0.5)
                harness.random.choice(actions)(harness)
                harness.look_for_failovers()
                harness.mark()
        harness.drain()
