"""Figure 16: PostgreSQL, on one server that syncs to its disk."""

from collections.abc import Sequence
from functools import partial

from tests.benchmarks.bench import Bench
from tests.benchmarks.cases.growth import FEW, figure
from tests.benchmarks.cases.workers import fill_and_drain, wait_for_marks
from tests.benchmarks.figures import OURS, RAW, Figure, Goal, Metrics, Shot, experiment, single

BATCH = 10
COMMITTERS = 16


def _module(case: str) -> str:
    return f"{case}_postgres"


def _empty(bench: Bench) -> None:
    """Drop the tables of all cases; each creates its own at its first push."""
    bench.postgres.run("DROP SCHEMA IF EXISTS alligator, raw, public CASCADE")
    bench.postgres.run("CREATE SCHEMA public")


def push(bench: Bench, case: str, name: str, *arguments: int) -> Metrics:
    """Measure how many tasks a producer pushes in a second."""
    _empty(bench)
    n = bench.sizes.tasks
    with bench.agent(_module(case), BENCH_POSTGRES=bench.postgres.dsn) as agent:
        agent.call(name, max(COMMITTERS, n // 10), *arguments)
        reply = agent.call(name, n, *arguments)
    return {"rate": n / reply["seconds"], "cpu": reply["cpu"] / n * 1e6}


def drain(bench: Bench, case: str) -> Metrics:
    """Drain a queue with one worker."""
    n = bench.sizes.tasks * (5 if case in {OURS, RAW} else 1)
    _empty(bench)
    return fill_and_drain(bench, _module(case), n, BENCH_POSTGRES=bench.postgres.dsn)


def pick_up(bench: Bench, case: str) -> Metrics:
    """Measure the latency from a push to an idle worker."""
    _empty(bench)
    return wait_for_marks(bench, _module(case), BENCH_POSTGRES=bench.postgres.dsn)


def _shots(bench: Bench, name: str, *arguments: int) -> Sequence[Shot]:
    cases = (OURS, RAW, *bench.peers_on_postgres)
    return [single(case, partial(_push, case, name, arguments)) for case in cases]


def _push(case: str, name: str, arguments: Sequence[int], bench: Bench) -> Metrics:
    return push(bench, case, name, *arguments)


@experiment(
    "postgres-push-one",
    Figure(
        number="16a",
        title="PostgreSQL: push, one at a time, durable",
        metric="rate",
        unit="tasks/s",
        raw_title="psycopg, one INSERT each",
        goals=[],
    ),
)
def push_one(bench: Bench) -> Sequence[Shot]:
    """Push tasks to PostgreSQL one at a time."""
    return _shots(bench, "push")


@experiment(
    "postgres-push-ten",
    Figure(
        number="16b",
        title="PostgreSQL: push in transactions of 10, durable",
        metric="rate",
        unit="tasks/s",
        raw_title="psycopg, one INSERT from unnest each",
        goals=[Goal(at_least=0.5, to=RAW), Goal(at_least=1, to="best peer")],
    ),
)
def push_ten(bench: Bench) -> Sequence[Shot]:
    """Push tasks to PostgreSQL in transactions of ten."""
    return _shots(bench, "push_batches", BATCH)


@experiment(
    "postgres-commits",
    Figure(
        number="16c",
        title=f"PostgreSQL: commits of {COMMITTERS} threads, durable",
        metric="rate",
        unit="commits/s",
        raw_title=f"psycopg, INSERTs on {COMMITTERS} connections",
        goals=[Goal(at_least=0.6, to=RAW), Goal(at_least=2, to="best peer")],
    ),
)
def committing(bench: Bench) -> Sequence[Shot]:
    """Commit from several threads at the same time."""
    return _shots(bench, "commit", COMMITTERS)


@experiment(
    "postgres-drain",
    Figure(
        number="16d",
        title="PostgreSQL: drain no-ops, one worker process",
        metric="rate",
        unit="tasks/s",
        raw_title="psycopg, leases and deletes of 100",
        goals=[Goal(at_least=0.35, to=RAW), Goal(at_least=1.5, to="best peer")],
    ),
)
def draining(bench: Bench) -> Sequence[Shot]:
    """Drain a queue in PostgreSQL with one worker process."""
    cases = (OURS, RAW, *bench.peers_on_postgres)
    return [single(case, partial(drain, case=case)) for case in cases]


@experiment(
    "postgres-pick-up",
    Figure(
        number="16e",
        title="PostgreSQL: pick-up by an idle worker, p50",
        metric="p50",
        unit="ms",
        less_is_better=True,
        goals=[Goal(at_most=1, to="best peer")],
    ),
)
def picking_up(bench: Bench) -> Sequence[Shot]:
    """Push single tasks to PostgreSQL, and measure how soon an idle worker starts them."""
    cases = (OURS, *bench.peers_on_postgres)
    return [single(case, partial(pick_up, case=case)) for case in cases]


def step_beside_dead_rows(bench: Bench, gone: int) -> Metrics:
    """Time the steps of a worker beside dead rows that the server may not remove."""
    _empty(bench)
    with bench.agent(_module(OURS), BENCH_POSTGRES=bench.postgres.dsn) as agent:
        found: Metrics = agent.call("step_beside_dead_rows", gone, 50)["value"]
        return found


@experiment(
    "postgres-dead-rows",
    Figure(
        number="16f",
        title="PostgreSQL: step of 100 over 4 queues, 100,000 tasks gone beside an open transaction",
        metric="step",
        unit="ms",
        raw_title="none gone",
        peers=False,
        less_is_better=True,
        goals=[Goal(at_most=10)],
    ),
)
def dead_rows(bench: Bench) -> Sequence[Shot]:
    """Take tasks while a transaction that is open for long keeps the dead rows of others."""
    gone = min(100_000, bench.sizes.crowd)
    return [
        single(OURS, partial(step_beside_dead_rows, gone=gone)),
        single(RAW, partial(step_beside_dead_rows, gone=0)),
    ]


def crowd(bench: Bench, waiting: int) -> Metrics:
    """Time the operations of a queue in which this number of tasks waits."""
    _empty(bench)
    with bench.agent(_module(OURS), BENCH_POSTGRES=bench.postgres.dsn) as agent:
        agent.call("push_batches", waiting, 1_000)
        bench.postgres.run("VACUUM ANALYZE")  # so that the server does not do it meanwhile
        bench.postgres.run("CHECKPOINT")
        found: Metrics = agent.call("with_waiting", FEW, max(100, bench.sizes.tasks // 5))["value"]
        return found


@experiment(
    "postgres-growth",
    figure("16g", "push", "PostgreSQL: push"),
    figure("16h", "step", "PostgreSQL: step of 10"),
    figure("16i", "stats", "PostgreSQL: stats"),
)
def growth(bench: Bench) -> Sequence[Shot]:
    """Use a queue in PostgreSQL with few waiting tasks, and with the largest number."""
    return [
        single("few", partial(crowd, waiting=0)),
        single("many", partial(crowd, waiting=bench.sizes.crowd)),
    ]
