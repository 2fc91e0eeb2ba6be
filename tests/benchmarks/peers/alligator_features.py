"""Alligator on any store, with what is optional: limits, keys, unique tasks, priorities and others."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count, cycle
from statistics import median
from typing import Any, Final, NamedTuple
from uuid import uuid4

from alligator import Gator
from alligator.backends import open_client
from alligator.backends.base import Limit, Message, Outcome, Verdict
from alligator.backends.limits import EACH
from alligator.constants import LEVELS, MAX_TASKS
from tests.benchmarks.peers.counting import tick

DSN = os.environ["BENCH_DSN"]
gator = Gator(DSN)
client = gator.client

ROUNDS: Final = 10
"""How often each case is measured; one more round before them is not counted."""

FEW: Final = 20
"""How many pushes of a case are on its queue before it is measured: no step may find it empty."""

FILLERS: Final = 2
"""How many threads fill a queue."""

FILL_SECONDS: Final = 60.0
"""How long a push may take that fills a queue."""

DATA: Final = "x" * 200
"""The payload of the tasks that fill a queue, which nothing reads."""

LIMIT: Final = Limit(100, 100_000, 60.0)

HOUR: Final = 3600.0

Found = dict[str, dict[str, float]]
"""µs of a call, by case, then by "push" and "step"."""


class Case(NamedTuple):
    """A queue of which something is used: how tasks come to it, and what its steps are."""

    push: Callable[[], object]
    queues: Sequence[str]
    """Those of a step."""
    size: int = 1
    """How many tasks a push has, and a step reserves."""
    limit: Callable[[Limit | None], object] = lambda _: None
    """Gives the queue or its keys a limit, which is measured, or takes it away."""
    verdict: Verdict = "ack"
    """What a step reports of the tasks that the last one has reserved."""


def start(queue: str, **options: Any) -> None:
    """Start a task. Also without other options it has those of a context, which take their time."""
    with gator.options(queue_name=queue, **options) as opts:
        opts.task(tick)


def start_many(push: Callable[[], object], number: int) -> None:
    """Start tasks in a transaction."""
    with gator.transaction():
        for _ in range(number):
            push()


def start_ten_and_then(queue: str) -> None:
    """Start ten tasks in a transaction, and one that follows them."""
    with gator.transaction(queue_name=queue) as transaction:
        for _ in range(10):
            start(queue)
        transaction.then(tick)


def limits(keys: int, calls: int) -> Found:
    """Measure two full queues, one with so many keys, with limits and without."""
    names = cycle(_names(keys))

    def push_keyed() -> None:
        start("keyed", limit_key=next(names))

    push_plain = partial(start, "plain")
    plain, ten = (
        Case(push_plain, ["plain"]),
        Case(partial(start_many, push_plain, 10), ["plain"], 10),
    )
    keyed = Case(push_keyed, ["keyed"])
    ten_keyed = Case(partial(start_many, push_keyed, 10), ["keyed"], 10)
    limit_each = partial(client.limit, "keyed", limit_key=EACH)
    cases = {
        "plain": plain,
        "limited": plain._replace(limit=partial(client.limit, "plain")),
        "keys": keyed,
        "limited keys": keyed._replace(limit=limit_each),
        "ten": ten,
        "ten keys": ten_keyed,
        "ten limited keys": ten_keyed._replace(limit=limit_each),
    }
    return in_turn(cases, calls)


def features(calls: int) -> Found:
    """Measure queues of few tasks, with one feature each, and without."""
    numbers, run = count(), uuid4().hex
    priorities = cycle(LEVELS)
    schedule = gator.every(1, tick, name=f"tick-{run}", queue_name="tick")

    def push_unique() -> None:
        start("unique", unique=f"{run}-{next(numbers)}")

    def push_tick() -> None:
        moment = next(numbers)
        client.push_tick(schedule.name, moment, schedule.message(moment))

    client.pause("paused", HOUR)
    start("paused")
    cases = {
        "plain": Case(partial(start, "plain few"), ["plain few"]),
        "unique": Case(push_unique, ["unique"]),
        "priority": Case(lambda: start("priority", priority=next(priorities)), ["priority"]),
        "expires": Case(partial(start, "expires", expires=HOUR), ["expires"]),
        "snoozed": Case(partial(start, "snoozed"), ["snoozed"], verdict="release"),
        "tick": Case(push_tick, ["tick"]),
        "empty": Case(partial(start, "beside empty"), ["empty", "beside empty"]),
        "paused": Case(partial(start, "beside paused"), ["paused", "beside paused"]),
        "eleven": Case(partial(start_many, partial(start, "eleven"), 11), ["eleven"], 11),
        "then": Case(partial(start_ten_and_then, "then"), ["then"], 11),
    }
    for case in cases.values():
        for _ in range(FEW):
            case.push()
    return in_turn(cases, calls)


def in_turn(cases: Mapping[str, Case], calls: int) -> Found:
    """Measure the cases in rounds, in which they take turns; return the medians of the rounds."""
    rounds = [
        {name: measured(case, max(1, calls // ROUNDS)) for name, case in cases.items()}
        for _ in range(1 + ROUNDS)
    ]
    return {
        name: {
            metric: median(each[name][metric] for each in rounds[1:]) for metric in ("push", "step")
        }
        for name in cases
    }


def measured(case: Case, calls: int) -> dict[str, float]:
    """Time pushes, and as many steps, each of which settles what the last one has reserved."""
    stepped = 0.0
    done: list[Outcome] = []
    delay = HOUR if case.verdict == "release" else 0.0
    began = time.perf_counter()
    for _ in range(calls):
        case.push()
    pushed = time.perf_counter() - began
    case.limit(LIMIT)
    for _ in range(calls):
        began = time.perf_counter()
        step = client.step(case.queues, case.size, outcomes=done)
        stepped += time.perf_counter() - began
        done = [Outcome(case.verdict, lease, delay) for lease in step.leases]
    client.step((), 0, outcomes=done)
    case.limit(None)
    return {"push": pushed / calls * 1e6, "step": stepped / calls * 1e6}


def fill(waiting: int, keys: int) -> None:
    """Add tasks to the queues of `limits` until so many wait on each."""
    client.ping()
    filler = open_client(DSN)
    filler.commit_seconds = FILL_SECONDS
    for queue, names in (("plain", [None]), ("keyed", _names(keys))):

        def push(numbers: range, queue: str = queue, names: Sequence[str | None] = names) -> None:
            filler.push_many(
                [
                    Message(queue, uuid4().hex, DATA, limit_key=names[number % len(names)])
                    for number in numbers
                ]
            )

        missing = range(client.len(queue), waiting)
        parts = [missing[start : start + MAX_TASKS] for start in range(0, len(missing), MAX_TASKS)]
        with ThreadPoolExecutor(FILLERS) as pool:
            list(pool.map(push, parts))
    filler.close()


def _names(keys: int) -> list[str]:
    return [f"tenant-{number}" for number in range(keys)]
