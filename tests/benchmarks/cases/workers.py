"""Figures 8, 9, 10 and 14: the throughput, the cost and the latency of workers."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.benchmarks.bench import Bench, wait_for
from tests.benchmarks.figures import OURS, RAW, Figure, Goal, Metrics, Shot, experiment, single
from tests.benchmarks.peers.counting import STAMP_EVERY

BATCHES = "raw, Lua batches of 100"
PAUSE = 0.02
"""Seconds between two tasks of a latency measurement, so that the worker is idle."""


def drain(bench: Bench, case: str, *, words: str = "", times: int = 1) -> Metrics:
    """Fill a queue, start a worker, and time it after a tenth of the tasks."""
    bench.empty()
    return fill_and_drain(bench, case, bench.sizes.tasks * times, words=words)


def fill_and_drain(bench: Bench, case: str, n: int, *, words: str = "", **more: str) -> Metrics:
    """Push tasks, start a worker, and measure its throughput and its cost."""
    path = bench.result_path()
    env = {"BENCH_EXPECTED": str(n), "BENCH_RESULT": str(path), **more}
    with bench.agent(case, **env) as agent:
        agent.fill(n)
        command = agent.call(words or "WORKER")["value"]
        with bench.process(case, command, env) as worker:
            return figures_of(bench.result(path, worker))


def figures_of(result: Mapping[str, float]) -> Metrics:
    """Read what a worker has written: its throughput, its cost for 1,000 tasks, what it held."""
    seconds = result["ended"] - result["began"]
    return {
        **{name: result[name] for name in ("mib", "descriptors") if name in result},
        "rate": result["timed"] / seconds,
        "cpu": result["cpu"] / result["timed"] * 1000,
        "share": result.get("share", 0.0),
    }


@experiment(
    "drain",
    Figure(
        number="8",
        title="drain no-ops, one worker process",
        metric="rate",
        unit="tasks/s",
        raw=BATCHES,
        raw_title="batches of 100 in Lua",
        goals=[Goal(at_least=0.2, to=RAW), Goal(at_least=10, to="best peer")],
    ),
    Figure(
        number="14",
        title="CPU of the worker for 1,000 no-ops",
        metric="cpu",
        unit="s",
        raw=BATCHES,
        raw_title="batches of 100 in Lua",
        goals=[Goal(at_most=0.04)],
        less_is_better=True,
    ),
)
def draining(bench: Bench) -> Sequence[Shot]:
    """Drain empty tasks with one worker process."""
    return [
        single(OURS, partial(drain, case=OURS, times=10)),
        single(BATCHES, partial(drain, case=RAW, words="BATCH_WORKER", times=20)),
        single("raw, BRPOP loop", partial(drain, case=RAW, times=2)),
        *(single(name, partial(drain, case=name)) for name in bench.peers),
    ]


def drain_by(bench: Bench, workers: int) -> Metrics:
    """Drain a queue with several workers, and time the period in which all of them work."""
    bench.empty()
    n = bench.sizes.tasks * 10 * workers
    paths = [bench.result_path() for _ in range(workers)]
    with ExitStack() as stack:
        agent = stack.enter_context(bench.agent(OURS))
        agent.fill(n)
        command = agent.worker
        processes = [
            stack.enter_context(
                bench.process(
                    OURS,
                    [*command, "--burst"],
                    {"BENCH_RESULT": str(path), "BENCH_STAMPS": "1"},
                )
            )
            for path in paths
        ]
        stamps = [
            bench.result(path, process)["stamps"]
            for path, process in zip(paths, processes, strict=True)
        ]
    begin = max(each[0] for each in stamps)
    end = min(each[-1] for each in stamps)
    begin += (end - begin) / 10
    seen = sum(begin <= moment <= end for each in stamps for moment in each)
    return {"rate": seen * STAMP_EVERY / (end - begin)}


@experiment(
    "two-workers",
    Figure(
        number="9",
        title="drain no-ops, two worker processes",
        metric="rate",
        unit="tasks/s",
        case="two",
        raw="one",
        raw_title="one worker process",
        peers=False,
        goals=[Goal(at_least=1.7, to=RAW)],
    ),
)
def two_workers(bench: Bench) -> Sequence[Shot]:
    """Drain a queue with two worker processes."""
    return [
        single("one", partial(drain_by, workers=1)),
        single("two", partial(drain_by, workers=2)),
    ]


def pick_up(bench: Bench, case: str) -> Metrics:
    """Measure the latency from a push to an idle worker."""
    bench.empty()
    return wait_for_marks(bench, case)


def wait_for_marks(bench: Bench, case: str, **more: str) -> Metrics:
    """Push tasks to an idle worker, and return their latencies in ms."""
    n = bench.sizes.marks
    path = bench.result_path()
    env = {"BENCH_EXPECTED": str(n + 1), "BENCH_RESULT": str(path), **more}
    with bench.agent(case, **env) as agent:
        agent.call("push_marks", 0, 0)
        with bench.process(case, agent.worker, env) as worker:
            agent.call("push_marks", 1, 0.5)
            wait_for(Path(f"{path}.first"), worker, log=bench.folder / "log")
            agent.call("push_marks", n, PAUSE)
            waits = sorted(bench.result(path, worker)["waits"][1 + n // 10 :])
    return {
        "p50": waits[len(waits) // 2] * 1e3,
        "p99": waits[min(len(waits) - 1, len(waits) * 99 // 100)] * 1e3,
    }


@experiment(
    "pick-up",
    *(
        Figure(
            number=number,
            title=f"pick-up by an idle worker, {metric}",
            metric=metric,
            unit="ms",
            less_is_better=True,
            raw_title="BRPOP loop",
            goals=[Goal(at_most=1.2, to=RAW)],
        )
        for number, metric in (("10a", "p50"), ("10b", "p99"))
    ),
)
def picking_up(bench: Bench) -> Sequence[Shot]:
    """Push single tasks, and measure how soon an idle worker starts them."""
    return [single(case, partial(pick_up, case=case)) for case in (OURS, RAW, *bench.peers)]
