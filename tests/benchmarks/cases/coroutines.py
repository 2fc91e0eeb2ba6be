"""Figure 16: coroutine tasks, one worker process."""

from collections.abc import Sequence
from functools import partial

from tests.benchmarks.bench import Bench
from tests.benchmarks.cases.workers import drain, fill_and_drain
from tests.benchmarks.figures import OURS, Figure, Goal, Metrics, Shot, experiment, single

PLACES = (1, 16, 1000)
SLEEPERS = 10_000
"""How many coroutines sleep for a second at the same time."""


def drain_coroutines(bench: Bench, places: int | None = None) -> Metrics:
    """Fill a queue with coroutine no-ops, and time one worker with so many places."""
    bench.empty()
    more = {"BENCH_FUNCTION": "async_tick"} | ({"BENCH_PLACES": str(places)} if places else {})
    return fill_and_drain(bench, OURS, bench.sizes.tasks * 10, **more)


def sleep_at_once(bench: Bench) -> Metrics:
    """Fill a queue with coroutines that sleep for a second, and time a worker that runs all."""
    bench.empty()
    n = min(SLEEPERS, bench.sizes.tasks * 10)
    more = {"BENCH_FUNCTION": "async_sleep_and_tick", "BENCH_PLACES": str(n)}
    result = fill_and_drain(bench, OURS, n, **more)
    return {"seconds": 0.9 * n / result["rate"]}


@experiment(
    "drain-coroutines",
    Figure(
        number="16a",
        title="drain coroutine no-ops, one worker process",
        metric="rate",
        unit="tasks/s",
        raw="plain",
        raw_title="plain functions",
        goals=[Goal(at_least=40_000), Goal(at_least=10, to="best peer")],
    ),
    *(
        Figure(
            number=f"16{letter}",
            title=f"the same, --concurrency {places}",
            metric="rate",
            unit="tasks/s",
            case=f"{places} places",
            raw="plain",
            raw_title="plain functions",
            peers=False,
            goals=[Goal(at_least=40_000)],
        )
        for letter, places in zip("bcd", PLACES, strict=True)
    ),
)
def draining_coroutines(bench: Bench) -> Sequence[Shot]:
    """Drain empty coroutine tasks with one worker process."""
    return [
        single(OURS, partial(drain_coroutines)),
        *(single(f"{n} places", partial(drain_coroutines, places=n)) for n in PLACES),
        single("plain", partial(drain, case=OURS, times=10)),
        *(
            single(name, partial(drain, case=name))
            for name in bench.peers
            if name in ("taskiq", "saq", "streaq")
        ),
    ]


@experiment(
    "sleep-coroutines",
    Figure(
        number="16e",
        title="10,000 coroutines that sleep for 1 s at once",
        metric="seconds",
        unit="s",
        less_is_better=True,
        peers=False,
        raw="",
        goals=[Goal(at_most=1.5)],
    ),
)
def sleeping_coroutines(bench: Bench) -> Sequence[Shot]:
    """Run thousands of sleeping coroutines at once in one worker process."""
    return [single(OURS, partial(sleep_at_once))]
