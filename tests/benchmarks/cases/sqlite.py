"""Figure 11: the embedded store."""

from collections.abc import Sequence
from functools import partial

from tests.benchmarks.bench import Bench
from tests.benchmarks.cases.workers import fill_and_drain, wait_for_marks
from tests.benchmarks.figures import OURS, RAW, Figure, Goal, Metrics, Shot, experiment, single

MODULES = {OURS: "alligator_sqlite", RAW: "raw_sqlite", "huey": "huey_sqlite"}


def _file(bench: Bench) -> str:
    return f"{bench.result_path()}.db"


def push(bench: Bench, case: str) -> Metrics:
    """Push tasks in transactions of ten."""
    n = bench.sizes.tasks
    with bench.agent(MODULES[case], BENCH_FILE=_file(bench)) as agent:
        agent.call("push_batches", max(10, n // 10), 10)
        return {"rate": n / agent.call("push_batches", n, 10)["seconds"]}


def drain(bench: Bench, case: str) -> Metrics:
    """Drain a queue with one worker."""
    n = bench.sizes.tasks * (1 if case == "huey" else 5)
    return fill_and_drain(bench, MODULES[case], n, BENCH_FILE=_file(bench))


def pick_up(bench: Bench, case: str) -> Metrics:
    """Measure the latency from a push to an idle worker."""
    return wait_for_marks(bench, MODULES[case], BENCH_FILE=_file(bench))


def _cases(bench: Bench) -> list[str]:
    return [OURS, RAW, *(["huey"] if "huey" in bench.peers else [])]


@experiment(
    "sqlite-push",
    Figure(
        number="11a",
        title="SQLite: push in transactions of 10, durable",
        metric="rate",
        unit="tasks/s",
        raw_title="sqlite3, same pragmas",
        goals=[Goal(at_least=0.6, to=RAW), Goal(at_least=5, to="best peer")],
    ),
)
def pushing(bench: Bench) -> Sequence[Shot]:
    """Push tasks in transactions of ten to a file."""
    return [single(case, partial(push, case=case)) for case in _cases(bench)]


@experiment(
    "sqlite-drain",
    Figure(
        number="11b",
        title="SQLite: drain no-ops, one worker process",
        metric="rate",
        unit="tasks/s",
        raw_title="sqlite3, same pragmas, batches of 100",
        goals=[Goal(at_least=0.6, to=RAW), Goal(at_least=5, to="best peer")],
    ),
)
def draining(bench: Bench) -> Sequence[Shot]:
    """Drain a file with one worker process."""
    return [single(case, partial(drain, case=case)) for case in _cases(bench)]


@experiment(
    "sqlite-pick-up",
    Figure(
        number="11c",
        title="SQLite: pick-up by an idle worker, p50",
        metric="p50",
        unit="ms",
        less_is_better=True,
        goals=[Goal(at_most=2)],
    ),
)
def picking_up(bench: Bench) -> Sequence[Shot]:
    """Push single tasks to a file, and measure how soon an idle worker starts them."""
    return [single(case, partial(pick_up, case=case)) for case in _cases(bench) if case != RAW]
