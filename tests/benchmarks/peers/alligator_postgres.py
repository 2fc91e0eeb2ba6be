"""Alligator on PostgreSQL."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg

from alligator import Gator
from alligator.backends.base import Message, Outcome
from alligator.constants import MAX_TASKS
from tests.benchmarks.peers import crowd
from tests.benchmarks.peers.counting import mark, tick

DSN = os.environ["BENCH_POSTGRES"]
gator = Gator(DSN, "bench")

STEP = 100

WORKER = ["-m", "tests.benchmarks.worker", DSN]


def push(n: int) -> None:
    for _ in range(n):
        gator.task(tick)


def push_batches(n: int, size: int) -> None:
    for _ in range(n // size):
        with gator.transaction():
            for _ in range(size):
                gator.task(tick)


def commit(n: int, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(push, [n // threads] * threads))


def with_waiting(waiting: int, calls: int) -> dict[str, float]:
    return crowd.with_waiting(gator, waiting, calls)


def step_beside_dead_rows(n: int, calls: int) -> dict[str, float]:
    """Time steps over four queues from which *n* tasks have gone while a transaction was open."""
    queues = [f"bench{number}" for number in range(4)]
    client = gator.client
    client.ping()
    with psycopg.connect(DSN) as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT 1")  # from now on the server keeps all dead rows
        gone = 0
        while gone < n:
            gone += _turn(queues)
        times = []
        for _ in range(calls):
            _fill(queues, STEP)
            start = time.perf_counter()
            step = client.step(queues, STEP)
            times.append(time.perf_counter() - start)
            client.step((), 0, outcomes=[Outcome("ack", lease) for lease in step.leases])
        [(dead,)] = holder.execute(
            "SELECT n_dead_tup FROM pg_stat_user_tables"
            " WHERE schemaname = 'alligator' AND relname = 'task'"
        )
    times.sort()
    return {"step": times[len(times) // 2] * 1e3, "worst": times[-1] * 1e3, "dead": float(dead)}


def _fill(queues: Sequence[str], number: int) -> None:
    """Push tasks to the queues in turn."""
    names = [queues[place % len(queues)] for place in range(number)]
    gator.client.push_many([Message(name, uuid4().hex, "{}") for name in names])


def _turn(queues: Sequence[str]) -> int:
    """Push, reserve and end a thousand tasks; return how many."""
    _fill(queues, MAX_TASKS)
    leases = gator.client.step(queues, MAX_TASKS).leases
    gator.client.step((), 0, outcomes=[Outcome("ack", lease) for lease in leases])
    return len(leases)


def push_marks(n: int, pause: float) -> None:
    for _ in range(n):
        time.sleep(pause)
        gator.task(mark, time.monotonic())
