"""Figures 1 and 2: the overhead of a request without the push."""

from collections.abc import Mapping, Sequence
from functools import partial

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import RAW, Figure, Goal, Metrics, Shot, experiment


def micro(bench: Bench, name: str) -> Mapping[str, Metrics]:
    """Run a measurement of microseconds in its own process."""
    with bench.agent("micro") as agent:
        found: dict[str, Metrics] = agent.call(name, bench.sizes.calls)["value"]
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
    "payload-write",
    Figure(
        number="2a",
        title="write the payload of a task",
        metric="us",
        unit="µs",
        raw_title="json.dumps of its fields",
        less_is_better=True,
        peers=False,
        goals=[Goal(at_most=0.8, to=RAW)],
    ),
)
def payload_write(bench: Bench) -> Sequence[Shot]:
    """Write payloads, also one whose arguments annotations restore."""
    return [Shot("all", partial(micro, name="payload_write"))]


@experiment(
    "payload-read",
    Figure(
        number="2b",
        title="read the payload of a task",
        metric="us",
        unit="µs",
        raw_title="json.loads of it",
        less_is_better=True,
        peers=False,
        goals=[Goal(at_most=1.5, to=RAW)],
    ),
)
def payload_read(bench: Bench) -> Sequence[Shot]:
    """Read payloads, also one whose arguments annotations restore."""
    return [Shot("all", partial(micro, name="payload_read"))]


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
        goals=[Goal(at_most=2.5, to=RAW)],
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
        goals=[Goal(at_most=2.5, to=RAW)],
    ),
)
def middleware_wsgi(bench: Bench) -> Sequence[Shot]:
    """Answer requests that enqueue nothing, by Flask."""
    return [Shot("all", partial(micro, name="wsgi"))]
