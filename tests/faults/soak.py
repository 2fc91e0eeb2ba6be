"""A mix of all that can happen to processes and connections, at random, for as long as one likes."""

import signal
from contextlib import closing, nullcontext
from time import monotonic

from tests.faults import catalogue
from tests.faults.catalogue import fault
from tests.faults.house import LEASE_SECONDS, House
from tests.faults.proxy import Mishap, Proxy


@fault()
def soak(house: House) -> None:
    """Do at random what the other faults do one by one."""
    with Proxy(house.valkey.server) if house.kind != "sqlite" else nullcontext() as proxy:
        if proxy:
            house.dsn = proxy.dsn
            house.lossy = True
        house.web()
        house.worker()
        house.worker()
        actions = [kill_a_worker, stop_a_worker, freeze_a_worker, kill_the_web]
        actions += [hold_the_lock] if proxy is None else [kill_the_store, stall, cut, flush]
        end = monotonic() + catalogue.SOAK_SECONDS
        with house.traffic(task="work"):
            while monotonic() < end:
                house.pause(0.1, 0.5)
                house.random.choice(actions)(house, proxy)
                house.mark()
        house.drain()


def kill_a_worker(house: House, proxy: Proxy | None) -> None:
    house.strike(house.workers.pop(0), signal.SIGKILL)
    house.worker()


def stop_a_worker(house: House, proxy: Proxy | None) -> None:
    house.strike(house.workers.pop(0), signal.SIGTERM)
    house.worker()


def freeze_a_worker(house: House, proxy: Proxy | None) -> None:
    victim = house.random.choice(house.workers)
    house.strike(victim, signal.SIGSTOP)
    house.pause(0, 2 * LEASE_SECONDS)
    house.strike(victim, signal.SIGCONT)


def kill_the_web(house: House, proxy: Proxy | None) -> None:
    house.strikes += 1
    house.web()


def kill_the_store(house: House, proxy: Proxy | None) -> None:
    with house.outage():
        house.valkey.server.kill()
        house.pause(0, 0.5)
        house.valkey.server.start()


def stall(house: House, proxy: Proxy | None) -> None:
    assert proxy is not None
    with house.outage(), proxy.stall():
        house.pause(0, 2.5)


def cut(house: House, proxy: Proxy | None) -> None:
    assert proxy is not None
    with house.outage():
        proxy.mishaps.append(Mishap.somewhere(house.random))
        proxy.cut_all()


def flush(house: House, proxy: Proxy | None) -> None:
    house.strikes += 1
    with closing(house.valkey.connect()) as redis:
        redis.script_flush()


def hold_the_lock(house: House, proxy: Proxy | None) -> None:
    with house.outage(), closing(house.sqlite.connect()) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        house.pause(0, 2.5)
        stranger.execute("ROLLBACK")
