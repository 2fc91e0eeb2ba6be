"""Faults of a worker with many coroutines in flight, and of its store."""

import signal
import subprocess

from tests.faults.cases.workers import begun, check_recovery
from tests.faults.catalogue import EVERYWHERE, fault
from tests.faults.harness import LEASE_SECONDS, Broken, Harness

IN_FLIGHT = 300
"""How many coroutines a worker runs at once."""


def first_worker(harness: Harness) -> "subprocess.Popen[bytes]":
    """Start a web server, and a worker that runs so many coroutines at once."""
    harness.environ["PLACES"] = str(IN_FLIGHT)
    harness.web()
    return harness.worker()


def in_flight(harness: Harness, task: str = "doze") -> None:
    """Push twice as many coroutines as a worker runs at once, and wait until it runs them."""
    for _ in range(4):
        harness.ask(IN_FLIGHT // 2, task=task)
    begun(harness, IN_FLIGHT)


@fault(*EVERYWHERE, quick=True)
def coroutine_worker_killed(harness: Harness) -> None:
    """Kill a worker with hundreds of coroutines in flight: other workers must run them."""
    victim = first_worker(harness)
    in_flight(harness)
    harness.signal_worker(victim, signal.SIGKILL)
    harness.worker()
    harness.worker()
    check_recovery(harness)


@fault(*EVERYWHERE, quick=True)
def coroutine_worker_terminated(harness: Harness) -> None:
    """Send SIGTERM to workers with hundreds of coroutines in flight: no task may run twice."""
    victim = first_worker(harness)
    in_flight(harness)
    harness.worker()
    harness.signal_worker(victim, signal.SIGTERM)
    if victim.returncode:
        raise Broken(f"the worker ended with status {victim.returncode}")


@fault(*EVERYWHERE)
def coroutine_worker_frozen(harness: Harness) -> None:
    """Freeze a worker with hundreds of coroutines in flight for longer than a lease."""
    victim = first_worker(harness)
    in_flight(harness)
    harness.signal_worker(victim, signal.SIGSTOP)
    harness.worker()
    harness.pause(1.5 * LEASE_SECONDS, 2 * LEASE_SECONDS)
    harness.signal_worker(victim, signal.SIGCONT)


@fault(*EVERYWHERE)
def coroutine_workers_killed_under_load(harness: Harness) -> None:
    """Kill workers at random moments while they run coroutines and plain functions."""
    first_worker(harness)
    harness.worker()
    with harness.traffic(task="doze"), harness.traffic(task="work"):
        for _ in range(4):
            harness.pause(0.2, 0.6)
            victim = harness.workers.pop(0)
            harness.signal_worker(victim, signal.SIGKILL)
            harness.worker()
    check_recovery(harness)


@fault("redis-always", "redis")
def store_killed_with_coroutines(harness: Harness) -> None:
    """Kill the server while hundreds of coroutines are in flight, and restart it after they ended."""
    first_worker(harness)
    in_flight(harness)
    harness.pause(2.5, 3.0)  # some tasks are to be older than what the server may lose
    in_flight(harness)
    with harness.outage():
        harness.kill_valkey()
        harness.pause(0.5, 0.8)
        harness.valkey.server.start()
    harness.wait_until_well()
