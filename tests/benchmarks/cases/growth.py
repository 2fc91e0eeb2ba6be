"""Figures 12 and 13: the cost of many waiting tasks."""

from collections.abc import Sequence
from functools import partial

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import OURS, RAW, Figure, Goal, Metrics, Shot, experiment, single

FEW = 100

LETTER = "x" * 120
"""An argument for a payload of about 300 bytes."""


def crowd(bench: Bench, waiting: int) -> Metrics:
    """Time the operations of a queue in which this number of tasks waits."""
    bench.empty()
    with bench.agent(OURS) as agent:
        calls = max(100, bench.sizes.tasks // 5)
        found: Metrics = agent.call("with_waiting", waiting, calls)["value"]
        return found


def figure(number: str, metric: str, what: str) -> Figure:
    """Return the figure of an operation beside many waiting tasks, and beside few."""
    return Figure(
        number=number,
        title=f"{what}, with many tasks waiting",
        metric=metric,
        unit="µs",
        case="many",
        raw="few",
        raw_title="with 100 waiting",
        peers=False,
        less_is_better=True,
        goals=[Goal(at_most=1.25, to=RAW)],
    )


@experiment(
    "growth",
    figure("12a", "push", "push"),
    figure("12b", "step", "step of 10"),
    figure("12c", "stats", "stats"),
    figure("12d", "health", "health"),
    figure("12e", "document", "the document for operators"),
    figure("12f", "scrape", "a scrape by Prometheus"),
)
def growth(bench: Bench) -> Sequence[Shot]:
    """Use a queue with few waiting tasks, and with the largest number."""
    middle = int((FEW * bench.sizes.crowd) ** 0.5)
    return [
        single("few", partial(crowd, waiting=FEW)),
        single(f"{middle:,}", partial(crowd, waiting=middle)),
        single("many", partial(crowd, waiting=bench.sizes.crowd)),
    ]


def memory(bench: Bench, case: str) -> Metrics:
    """Fill a queue, and measure the additional memory of the server."""
    bench.empty()
    n = bench.sizes.tasks
    with bench.agent(case) as agent:
        agent.call("push_letters", 10, LETTER)
        before = _used(bench)
        agent.call("push_letters", n, LETTER)
        return {"bytes": (_used(bench) - before) / n}


def _used(bench: Bench) -> int:
    return int(bench.info("memory")["used_memory"])


@experiment(
    "memory",
    Figure(
        number="13",
        title="Redis memory of a waiting task, payload of 300 bytes",
        metric="bytes",
        unit="B",
        raw_title="a list",
        less_is_better=True,
        goals=[Goal(at_most=600)],
    ),
)
def memories(bench: Bench) -> Sequence[Shot]:
    """Fill a queue, and measure the memory of the server."""
    return [single(case, partial(memory, case=case)) for case in (OURS, RAW, *bench.peers)]
