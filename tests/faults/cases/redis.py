"""Faults of a Redis server: killed, frozen, paused, out of memory, demoted."""

from contextlib import closing
from threading import Thread
from time import monotonic

from tests.faults.audit import EVERYSEC_SECONDS, REFUSED
from tests.faults.catalogue import fault
from tests.faults.disk import SlowDisk
from tests.faults.harness import Broken, Harness, eventually

REDIS = ("redis",)


def ask_all_statuses(harness: Harness, *allowed: int) -> None:
    """Send one request of each kind, and check that the status is one of *allowed*."""
    answer = harness.ask(2)
    if answer.status not in allowed:
        raise Broken(f"answered {answer.status}, which is none of {allowed}")


@fault("redis-always", "redis", "redis-none", quick=True)
def store_killed(harness: Harness) -> None:
    """Kill the server with SIGKILL under load, and restart it with the data on its disk."""
    harness.web()
    harness.worker()
    harness.worker()
    with harness.traffic(task="work"):
        for _ in range(2):
            harness.pause(0.3, 0.7)
            if harness.kind == "redis":  # some tasks are to be older than what it may lose
                harness.pause(EVERYSEC_SECONDS + 1, EVERYSEC_SECONDS + 1.5)
            with harness.outage():
                harness.kill_valkey()
                harness.pause(0.1, 0.5)
                harness.valkey.server.start()
        harness.wait_until_well()
        harness.pause(0.2, 0.4)


SLOW_SECONDS = {"redis": 60.0, "redis-always": 0.3}
"""How long an fsync takes: with ``always`` each commit waits for it, with ``everysec`` none does."""


@fault("redis-always", "redis", quick=True)
def store_killed_with_slow_disk(harness: Harness) -> None:
    """Kill the server with SIGKILL during a slow fsync, and restart it."""
    disk = _on_a_slow_disk(harness)
    harness.web()
    with harness.traffic():
        harness.pause(0.3, 0.7)
        disk.slow_down(SLOW_SECONDS[harness.kind])
        (_write_late if harness.kind == "redis" else _write_slowly)(harness)
        with harness.outage():
            killed = monotonic()
            harness.kill_valkey()
            disk.recover()
            harness.valkey.server.start()
        harness.wait_until_well()
    _is_taken_back(harness)
    census = harness.store.census()
    lost = [
        each
        for each in harness.audit_log.answers
        if each.status == 201 and each.ids[0] not in census
    ]
    oldest = max((killed - each.sent - each.seconds for each in lost), default=0.0)
    harness.notes.append(
        f"{len(lost)} commits lost, the oldest accepted {oldest:.1f} s before the server was killed"
        if lost
        else "no commit lost"
    )


@fault("redis-always", quick=True)
def power_cut(harness: Harness) -> None:
    """Kill the server, and remove unsynced data from its file, as a power cut does."""
    disk = _on_a_slow_disk(harness)
    harness.web()
    forgotten = 0
    with harness.traffic():
        disk.slow_down(SLOW_SECONDS[harness.kind])
        for _ in range(3):
            _write_slowly(harness)
            with harness.outage():
                harness.kill_valkey()
                forgotten += disk.cut_power()
                harness.valkey.server.start()
            harness.wait_until_well()
        disk.recover()
    harness.notes.append(f"{forgotten} bytes were not synced")
    _is_taken_back(harness)


def _is_taken_back(harness: Harness) -> None:
    """Wait until no rejected task is queued: the web server undoes such pushes once a second."""
    refused = harness.audit_log.refused()
    eventually(lambda: not refused & harness.store.census().keys(), "all is taken back", seconds=10)


def _write_late(harness: Harness) -> None:
    """Wait until the server has as much unwritten data as it can have during an fsync."""
    harness.pause(1, 1.5)  # some tasks are to be older than what it may lose
    with closing(harness.valkey.connect()) as redis:

        def delayed() -> int:
            return int(redis.info("persistence")["aof_delayed_fsync"])

        before = delayed()
        eventually(lambda: delayed() > before, "the server has put off writing, and has written")
    harness.pause(EVERYSEC_SECONDS - 0.4, EVERYSEC_SECONDS - 0.2)


def _write_slowly(harness: Harness) -> None:
    """Wait until some commits have waited for the disk."""
    harness.pause(1, 1.5)
    answer = harness.ask()
    if answer.status == 201 and answer.seconds < SLOW_SECONDS[harness.kind] / 2:
        raise Broken(f"a commit took {answer.seconds:.3f} s: it has not waited for the disk")


STALL_SECONDS = 4.0
"""How long the server stalls after it accepted a push: longer than the client waits."""


@fault("redis-always")
def store_fsync_stalls(harness: Harness) -> None:
    """Make an fsync take longer than a commit may: each commit runs as a whole, or not at all."""
    harness.lossy = (
        True  # a worker that waits is quicker than the undoing, which has to wait as well
    )
    disk = _on_a_slow_disk(harness)
    harness.web()
    harness.worker()
    harness.worker()
    harness.wait_until_well()
    for _ in range(4):
        disk.slow_down(STALL_SECONDS)
        with harness.outage():
            harness.ask(4)
            disk.recover()
        harness.wait_until_well()
    harness.drain()
    refused = [each for each in harness.audit_log.answers if each.status == 503]
    ended = harness.audit_log.ended()
    ran = [sum(name in ended for name in each.ids) for each in refused]
    harness.notes.append(f"{sum(map(bool, ran))} of {len(refused)} rejected commits ran")
    if any(0 < some < len(each.ids) for some, each in zip(ran, refused, strict=True)):
        raise Broken("I2: a part of a commit ran")


def _on_a_slow_disk(harness: Harness) -> SlowDisk:
    """Restart the server on a disk that can be slowed down."""
    disk, server = SlowDisk(harness.folder), harness.valkey.server
    server.stop()
    server.environ = disk.environ
    server.start()
    return disk


@fault("redis-always")
def store_killed_with_spool(harness: Harness) -> None:
    """Kill the server and the web server while tasks are spooled, and restart both."""
    harness.environ["ALLIGATOR_SPOOL"] = str(harness.folder / "spool.db")
    harness.web()
    harness.worker()
    with harness.traffic():
        harness.pause(0.3, 0.5)
        with harness.outage():
            harness.valkey.server.kill()
            harness.wait_until_well()  # though the server is away
            harness.pause(0.5, 1)
            harness.web()
            harness.pause(0.5, 1)
            harness.valkey.server.start()
        harness.pause(0.5, 1)
    harness.wait_until_well()
    eventually(
        lambda: harness.audit_log.accepted() <= harness.audit_log.ended(),
        "all that was spooled has run",
    )


@fault("redis", "redis-always")
def store_restarted(harness: Harness) -> None:
    """Stop the server under load, as a package upgrade does, and restart it."""
    harness.web()
    harness.worker()
    with harness.traffic(task="work"):
        harness.pause(0.3, 0.7)
        with harness.outage():
            harness.valkey.server.stop()
            harness.pause(0.5, 1)
            harness.valkey.server.start()
        harness.wait_until_well()


@fault(*REDIS, quick=True)
def store_frozen_without_workers(harness: Harness) -> None:
    """Freeze the server for longer than a commit may take: late pushes are rejected or undone."""
    harness.web()
    with harness.traffic():
        harness.pause(0.2, 0.4)
        harness.injections += 1
        harness.valkey.server.freeze()
        harness.pause(3.5, 4)
        harness.valkey.server.thaw()
        harness.mark()
        harness.wait_until_well()
    _is_taken_back(harness)


@fault(*REDIS)
def store_frozen(harness: Harness) -> None:
    """Freeze the server for longer than a commit may take, while workers wait for tasks."""
    harness.web()
    harness.worker()
    harness.worker()
    with harness.traffic():
        harness.pause(0.2, 0.4)
        with harness.outage():
            harness.valkey.server.freeze()
            harness.pause(3.5, 4)
            harness.valkey.server.thaw()
        harness.wait_until_well()


@fault(*REDIS)
def store_paused(harness: Harness) -> None:
    """Pause all clients, or only writes (CLIENT PAUSE), for longer than a commit may take."""
    harness.web()
    harness.worker()
    with harness.traffic(), closing(harness.valkey.connect()) as redis:
        for mode in ("ALL", "WRITE"):
            harness.pause(0.2, 0.4)
            with harness.outage():
                redis.execute_command("CLIENT", "PAUSE", 2500, mode)
                harness.pause(2.5, 2.6)
            harness.wait_until_well()


@fault(*REDIS)
def clients_killed(harness: Harness) -> None:
    """Close all connections (CLIENT KILL), again and again."""
    harness.web()
    harness.worker()
    harness.worker()
    with harness.traffic(task="work"), closing(harness.valkey.connect()) as redis:
        for _ in range(15):
            harness.pause(0.02, 0.2)
            with harness.outage():
                redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@fault(*REDIS)
def scripts_flushed(harness: Harness) -> None:
    """Flush the scripts (SCRIPT FLUSH), again and again: this has no effect."""
    harness.web()
    harness.worker()
    with harness.traffic(), closing(harness.valkey.connect()) as redis:
        for _ in range(20):
            harness.pause(0.02, 0.1)
            harness.injections += 1
            redis.script_flush()
            harness.mark()
    statuses = {each.status for each in harness.audit_log.answers}
    if not statuses <= {201, 500}:
        raise Broken(f"clients were answered {statuses}")


@fault(*REDIS, quick=True)
def out_of_memory(harness: Harness) -> None:
    """Fill the server's memory with ``noeviction``: pushes fail, and workers continue."""
    harness.web()
    with closing(harness.valkey.connect()) as redis:
        redis.config_set("maxmemory-policy", "noeviction")
        for _ in range(20):
            ask_all_statuses(harness, 201)
        harness.injections += 1
        redis.config_set("maxmemory", "1")
        for _ in range(3):
            ask_all_statuses(harness, 503)
        harness.mark()
        harness.worker()
        harness.drain()
        ask_all_statuses(harness, 503)
        redis.config_set("maxmemory", "0")
    harness.wait_until_well()


@fault(*REDIS)
def master_demoted(harness: Harness) -> None:
    """Turn the server into a replica of a missing server, and back, under load."""
    harness.web()
    harness.worker()
    harness.worker()
    with harness.traffic(), closing(harness.valkey.connect()) as redis:
        harness.pause(0.2, 0.4)
        with harness.outage():
            redis.execute_command("REPLICAOF", "127.0.0.1", "1")
            ask_all_statuses(harness, 503)
            harness.pause(1.5, 2)
            redis.execute_command("REPLICAOF", "NO", "ONE")
        harness.wait_until_well()


@fault(*REDIS)
def store_down_at_start(harness: Harness) -> None:
    """Start web server and workers before the server is up."""
    harness.valkey.server.kill()
    harness.outages += 1
    harness.injections += 1
    harness.worker()
    starter = Thread(target=harness.valkey.server.start)
    try:
        harness.web()
        for _ in range(8):
            ask_all_statuses(harness, 503, REFUSED)
    finally:
        starter.start()
        starter.join()
    harness.mark()
    harness.wait_until_well()
