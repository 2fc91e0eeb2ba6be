"""Figure 17: coroutine tasks, one worker process."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from tests.benchmarks.bench import Bench, free_port
from tests.benchmarks.cases.workers import drain, figures_of, fill_and_drain
from tests.benchmarks.figures import OURS, Figure, Goal, Metrics, Shot, experiment, single
from tests.harness.wheels import listens

PLACES = (1, 16, 1000)
SLEEPERS = 10_000
"""How many coroutines sleep for a second at the same time."""
BARE = "bare loop"
CALLS, CALLERS = 1_000, 200
"""How many HTTP calls of a second are made, and how many at the same time."""


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
    return {**result, "seconds": 0.9 * n / result["rate"]}


@experiment(
    "drain-coroutines",
    Figure(
        number="17a",
        title="drain coroutine no-ops, one worker process",
        metric="rate",
        unit="tasks/s",
        raw="plain",
        raw_title="plain functions",
        goals=[Goal(at_least=40_000), Goal(at_least=10, to="best peer")],
    ),
    *(
        Figure(
            number=f"17{letter}",
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
        number="17e",
        title="10,000 coroutines that sleep for 1 s at once",
        metric="seconds",
        unit="s",
        less_is_better=True,
        peers=False,
        raw="",
        goals=[Goal(at_most=1.5)],
    ),
    Figure(
        number="17j",
        title="10,000 sleeping coroutines: memory of the worker",
        metric="mib",
        unit="MiB",
        less_is_better=True,
        peers=False,
        raw="",
        goals=[Goal(at_most=80)],
    ),
    Figure(
        number="17k",
        title="10,000 sleeping coroutines: what the worker has open",
        metric="descriptors",
        unit="descriptors",
        less_is_better=True,
        peers=False,
        raw="",
        goals=[Goal(at_most=12)],
    ),
)
def sleeping_coroutines(bench: Bench) -> Sequence[Shot]:
    """Run thousands of sleeping coroutines at once in one worker process."""
    return [single(OURS, partial(sleep_at_once))]


@contextmanager
def slow_site(bench: Bench) -> Iterator[str]:
    """Run a web server that answers after a second; return its address."""
    port = free_port()
    words = ["-m", "tests.benchmarks.slow_site", str(port)]
    with bench.process(OURS, words, {}, log="site-log") as site:
        while not listens(port):
            assert site.poll() is None
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"


def call_site(bench: Bench, case: str) -> Metrics:
    """Make HTTP calls of a second through one shared client: in tasks, or on a bare event loop."""
    bench.empty()
    n = min(CALLS, bench.sizes.tasks // 5)
    places = str(min(CALLERS, n // 5))
    with slow_site(bench) as address:
        more = {"BENCH_SITE": address, "BENCH_FUNCTION": "async_call", "BENCH_PLACES": places}
        if case == OURS:
            result = fill_and_drain(bench, OURS, n, **more)
        else:
            path = bench.result_path()
            env = {"BENCH_EXPECTED": str(n), "BENCH_RESULT": str(path), **more}
            with bench.process(OURS, ["-m", "tests.benchmarks.peers.bare_loop"], env) as process:
                result = figures_of(bench.result(path, process))
    timed = 0.9 * n
    return {"seconds": timed / result["rate"], "cpu": result["cpu"] * timed / 1000}


@experiment(
    "call-coroutines",
    Figure(
        number="17f",
        title="1,000 HTTP calls of 1 s through one httpx client, --concurrency 200",
        metric="seconds",
        unit="s",
        less_is_better=True,
        peers=False,
        raw=BARE,
        raw_title="a bare event loop",
        goals=[Goal(at_most=1.2, to=BARE)],
    ),
    Figure(
        number="17g",
        title="the CPU of the worker for these",
        metric="cpu",
        unit="s",
        less_is_better=True,
        peers=False,
        raw=BARE,
        raw_title="a bare event loop",
        goals=[Goal(at_most=1.3, to=BARE)],
    ),
)
def calling(bench: Bench) -> Sequence[Shot]:
    """Make HTTP calls in coroutine tasks that share a client."""
    return [single(case, partial(call_site, case=case)) for case in (OURS, BARE)]


def drain_both(bench: Bench) -> Metrics:
    """Fill a queue with plain and coroutine no-ops in turn, and drain it."""
    bench.empty()
    n = bench.sizes.tasks * 10
    return fill_and_drain(bench, OURS, n, BENCH_FUNCTION="tick,async_tick")


@experiment(
    "drain-mixed",
    Figure(
        number="17h",
        title="drain plain and coroutine no-ops in turn, one worker process",
        metric="rate",
        unit="tasks/s",
        peers=False,
        raw="plain",
        raw_title="plain functions",
        goals=[Goal(at_least=0.5, to="plain")],
    ),
    Figure(
        number="17i",
        title="the share of coroutines among the first half of these",
        metric="share",
        unit="of 1",
        peers=False,
        raw="",
        goals=[Goal(at_least=0.4), Goal(at_most=0.6)],
    ),
)
def draining_both(bench: Bench) -> Sequence[Shot]:
    """Drain plain and coroutine tasks of one queue with one worker process."""
    return [
        single(OURS, partial(drain_both)),
        single("plain", partial(drain, case=OURS, times=10)),
    ]
