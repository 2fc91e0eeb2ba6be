"""Figures 6 and 7: tasks pushed one at a time, and in transactions."""

from collections.abc import Sequence
from functools import partial

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import OURS, RAW, Figure, Goal, Metrics, Shot, experiment, single

BATCH = 10

HAVE_BATCHES = ("streaq", "rq", "dramatiq", "celery")
"""The peers that can send several tasks in one call."""


SCRIPT = "raw, a script that does nothing"
"""The minimum for an atomic push of several commands: the call of a script."""


def push(bench: Bench, case: str, batch: int = 0, name: str = "") -> Metrics:
    """Measure how many tasks a producer pushes in a second."""
    bench.empty()
    name = name or ("push_batches" if batch else "push")
    arguments = (batch,) if batch else ()
    n = bench.sizes.tasks * (5 if batch and case in {OURS, RAW} else 1)
    with bench.agent(case) as agent:
        agent.call(name, n // 10 // BATCH * BATCH or BATCH, *arguments)
        bench.empty()
        reply = agent.call(name, n, *arguments)
    return {"rate": n / reply["seconds"], "cpu": reply["cpu"] / n * 1e6}


@experiment(
    "push-one",
    Figure(
        number="6",
        title="push, one at a time",
        metric="rate",
        unit="tasks/s",
        goals=[Goal(at_least=1.0, to=RAW)],
        raw_title="one LPUSH each",
    ),
    Figure(
        number="6b",
        title="the same, beside a script that does nothing",
        metric="rate",
        unit="tasks/s",
        goals=[],
        raw=SCRIPT,
        raw_title="one call of it each",
        peers=False,
    ),
)
def push_one(bench: Bench) -> Sequence[Shot]:
    """Push tasks one at a time, without a transaction."""
    return _shots(bench.peers)


@experiment(
    "push-ten",
    Figure(
        number="7",
        title="push in transactions of 10",
        metric="rate",
        unit="tasks/s",
        goals=[Goal(at_least=0.7, to=RAW), Goal(at_least=3.0, to="best peer")],
        raw_title="pipeline of 10 LPUSH",
    ),
    Figure(
        number="7b",
        title="the same, beside a script that does nothing",
        metric="rate",
        unit="tasks/s",
        goals=[],
        raw=SCRIPT,
        raw_title="given all 10",
        peers=False,
    ),
)
def push_ten(bench: Bench) -> Sequence[Shot]:
    """Push tasks in transactions of ten."""
    peers = [name for name in bench.peers if name in HAVE_BATCHES]
    return _shots(peers, BATCH)


def _shots(peers: Sequence[str], batch: int = 0) -> Sequence[Shot]:
    return [
        *(single(case, partial(push, case=case, batch=batch)) for case in (OURS, RAW, *peers)),
        single(SCRIPT, partial(push, case=RAW, batch=batch, name="push_scripts")),
    ]
