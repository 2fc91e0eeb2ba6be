"""Figures 1 and 2: what Alligator adds to a request, before any task is sent."""

from collections.abc import Mapping, Sequence
from functools import partial

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import RAW, Figure, Goal, Metrics, Shot, experiment


def micro(bench: Bench, name: str) -> Mapping[str, Metrics]:
    """Run a measurement of microseconds in a process of its own."""
    with bench.agent("micro") as agent:
        found: dict[str, Metrics] = agent.tell(name, bench.sizes.calls)["value"]
    return found


@experiment(
    "task",
    Figure(
        number="2",
        title="a task inside of a transaction",
        metric="us",
        unit="µs",
        raw_title="json.dumps of the payload",
        less_is_better=True,
        goals=[Goal(at_most=3, to=RAW)],
    ),
)
def task(bench: Bench) -> Sequence[Shot]:
    """Start tasks inside of a transaction."""
    return [Shot("both", partial(micro, name="task"))]


@experiment(
    "middleware-asgi",
    Figure(
        number="1a",
        title="ASGI middleware, no task, added to a request",
        metric="added",
        unit="µs",
        raw_title="wrapped send, ContextVar",
        less_is_better=True,
        peers=False,
        goals=[Goal(at_most=3)],
    ),
)
def middleware_asgi(bench: Bench) -> Sequence[Shot]:
    """Answer requests that enqueue nothing, by Starlette."""
    return [Shot("all", partial(micro, name="asgi"))]


@experiment(
    "middleware-wsgi",
    Figure(
        number="1b",
        title="WSGI middleware, no task, added to a request",
        metric="added",
        unit="µs",
        raw_title="wrapped start_response, ContextVar",
        less_is_better=True,
        peers=False,
        goals=[Goal(at_most=4)],
    ),
)
def middleware_wsgi(bench: Bench) -> Sequence[Shot]:
    """Answer requests that enqueue nothing, by Flask."""
    return [Shot("all", partial(micro, name="wsgi"))]
