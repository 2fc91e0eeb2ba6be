"""What can happen to a Redis server: killed, frozen, paused, out of memory, turned into a replica."""

from contextlib import closing
from threading import Thread

from tests.faults.books import REFUSED
from tests.faults.catalogue import fault
from tests.faults.house import Broken, House, eventually

REDIS = ("redis",)


def ask_all_statuses(house: House, *allowed: int) -> None:
    """Ask once, and see to it that the answer is one of these."""
    answer = house.ask(2)
    if answer.status not in allowed:
        raise Broken(f"answered {answer.status}, which is none of {allowed}")


@fault("redis", "redis-always", "redis-none", quick=True)
def store_killed(house: House) -> None:
    """Kill the server with SIGKILL while clients ask, and start it again with what is on its disk."""
    house.web()
    house.worker()
    house.worker()
    with house.traffic(task="work"):
        for _ in range(2):
            house.pause(0.3, 0.7)
            with house.outage():
                house.valkey.server.kill()
                house.pause(0.1, 0.5)
                house.valkey.server.start()
        house.is_well()
        house.pause(0.2, 0.4)


@fault(*REDIS)
def store_killed_with_a_spool(house: House) -> None:
    """Kill the server while a spool takes its place, kill the web server too, and start both again."""
    house.environ["ALLIGATOR_SPOOL"] = str(house.folder / "spool.db")
    house.web()
    house.worker()
    with house.traffic():
        house.pause(0.3, 0.5)
        with house.outage():
            house.valkey.server.kill()
            house.is_well()  # though the server is away
            house.pause(0.5, 1)
            house.web()
            house.pause(0.5, 1)
            house.valkey.server.start()
        house.pause(0.5, 1)
    house.is_well()
    eventually(
        lambda: house.books.accepted() <= house.books.ended(), "all that was spooled has run"
    )


@fault("redis", "redis-always")
def store_restarted(house: House) -> None:
    """Stop the server as a package upgrade does, and start it again, while clients ask."""
    house.web()
    house.worker()
    with house.traffic(task="work"):
        house.pause(0.3, 0.7)
        with house.outage():
            house.valkey.server.stop()
            house.pause(0.5, 1)
            house.valkey.server.start()
        house.is_well()


@fault(*REDIS, quick=True)
def store_frozen_without_workers(house: House) -> None:
    """Let the server hang for longer than a commit may take; what it takes in late is taken back."""
    house.web()
    with house.traffic():
        house.pause(0.2, 0.4)
        house.strikes += 1
        house.valkey.server.freeze()
        house.pause(3.5, 4)
        house.valkey.server.thaw()
        house.mark()
        house.is_well()
    # The web server goes on telling the store what it gave up, a second apart at most.
    refused = house.books.refused()
    eventually(lambda: not refused & house.store.census().keys(), "all is taken back", seconds=10)


@fault(*REDIS)
def store_frozen(house: House) -> None:
    """Let the server hang for longer than a commit may take, while workers wait for its tasks."""
    house.web()
    house.worker()
    house.worker()
    with house.traffic():
        house.pause(0.2, 0.4)
        with house.outage():
            house.valkey.server.freeze()
            house.pause(3.5, 4)
            house.valkey.server.thaw()
        house.is_well()


@fault(*REDIS)
def store_paused(house: House) -> None:
    """Have an administrator pause all clients, or those that write, for longer than a commit takes."""
    house.web()
    house.worker()
    with house.traffic(), closing(house.valkey.connect()) as redis:
        for mode in ("ALL", "WRITE"):
            house.pause(0.2, 0.4)
            with house.outage():
                redis.execute_command("CLIENT", "PAUSE", 2500, mode)
                house.pause(2.5, 2.6)
            house.is_well()


@fault(*REDIS)
def clients_killed(house: House) -> None:
    """Have an administrator close all connections, again and again."""
    house.web()
    house.worker()
    house.worker()
    with house.traffic(task="work"), closing(house.valkey.connect()) as redis:
        for _ in range(15):
            house.pause(0.02, 0.2)
            with house.outage():
                redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@fault(*REDIS)
def scripts_flushed(house: House) -> None:
    """Have an administrator flush the scripts, again and again: nobody may notice."""
    house.web()
    house.worker()
    with house.traffic(), closing(house.valkey.connect()) as redis:
        for _ in range(20):
            house.pause(0.02, 0.1)
            house.strikes += 1
            redis.script_flush()
            house.mark()
    statuses = {each.status for each in house.books.answers}
    if not statuses <= {201, 500}:
        raise Broken(f"clients were answered {statuses}")


@fault(*REDIS, quick=True)
def out_of_memory(house: House) -> None:
    """Let the server run out of memory under ``noeviction``: no task is taken, and workers go on."""
    house.web()
    with closing(house.valkey.connect()) as redis:
        redis.config_set("maxmemory-policy", "noeviction")
        for _ in range(20):
            ask_all_statuses(house, 201)
        house.strikes += 1
        redis.config_set("maxmemory", "1")
        for _ in range(3):
            ask_all_statuses(house, 503)
        house.mark()
        house.worker()
        house.drain()
        ask_all_statuses(house, 503)
        redis.config_set("maxmemory", "0")
    house.is_well()


@fault(*REDIS)
def turned_replica(house: House) -> None:
    """Turn the server into a replica of one that is not there, and back, while clients ask."""
    house.web()
    house.worker()
    house.worker()
    with house.traffic(), closing(house.valkey.connect()) as redis:
        house.pause(0.2, 0.4)
        with house.outage():
            redis.execute_command("REPLICAOF", "127.0.0.1", "1")
            ask_all_statuses(house, 503)
            house.pause(1.5, 2)
            redis.execute_command("REPLICAOF", "NO", "ONE")
        house.is_well()


@fault(*REDIS)
def store_away_for_long(house: House) -> None:
    """Have the server away before anything starts, and let it come up later."""
    house.valkey.server.kill()
    house.outages += 1
    house.strikes += 1
    house.worker()
    starter = Thread(target=house.valkey.server.start)
    try:
        house.web()
        for _ in range(8):
            ask_all_statuses(house, 503, REFUSED)
    finally:
        starter.start()
        starter.join()
    house.mark()
    house.is_well()
