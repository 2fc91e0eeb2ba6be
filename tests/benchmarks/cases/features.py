"""Figures 11, 12 and 16: the cost of limits, keys and other optional features, on each store."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from string import ascii_lowercase
from typing import NamedTuple

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure, Goal, Metrics, Shot, experiment

KEYS = 10_000


class Store(NamedTuple):
    """A store, and the place of its figures in the table."""

    prefix: str
    """The beginning of the names of its experiments."""
    title: str
    number: int
    letters: str
    dsn: Callable[[Bench], str]
    share: int
    """One call is measured for so many of `Sizes.tasks`: fewer where each waits for a disk."""

    def measure(self, bench: Bench, name: str, *arguments: int) -> Mapping[str, Metrics]:
        """Call a function of the measured process that returns what it has found, by case."""
        calls = bench.sizes.tasks // self.share
        with bench.agent("alligator_features", BENCH_DSN=self.dsn(bench)) as agent:
            found: Mapping[str, Metrics] = agent.call(name, *arguments, calls)["value"]
            return found

    def fill(self, bench: Bench, keys: int) -> None:
        """Let many tasks wait; those of an earlier repeat are still there."""
        with bench.agent("alligator_features", BENCH_DSN=self.dsn(bench)) as agent:
            agent.call("fill", bench.sizes.crowd, keys)
        if self.number == POSTGRES:
            bench.postgres.run("VACUUM ANALYZE")  # so that the server does not do it meanwhile
            bench.postgres.run("CHECKPOINT")


SQLITE, REDIS, POSTGRES = 11, 12, 16

STORES = (
    Store("", "", REDIS, ascii_lowercase[6:], lambda bench: bench.redis.dsn, 5),
    Store(
        *("sqlite-", "SQLite: ", SQLITE, ascii_lowercase[3:]),
        lambda bench: f"sqlite://{bench.folder}/features.db",
        10,
    ),
    Store(
        *("postgres-", "PostgreSQL: ", POSTGRES, ascii_lowercase[9:]),
        lambda bench: bench.postgres.dsn,
        20,
    ),
)


class Line(NamedTuple):
    """A figure of each store: a case beside a plain one."""

    title: str
    metric: str
    case: str
    plain: str = "plain"
    plain_title: str = "a plain one"
    at_most: float = 1.25

    def of(self, store: Store, letter: str) -> Figure:
        """Return the figure of a store."""
        return Figure(
            number=f"{store.number}{letter}",
            title=f"{store.title}{self.title}",
            metric=self.metric,
            unit="µs",
            case=self.case,
            raw=self.plain,
            raw_title=self.plain_title,
            peers=False,
            less_is_better=True,
            goals=[Goal(at_most=self.at_most, to=self.plain)],
        )


MANY = ", with many tasks waiting"
OF_KEYS = f"with {KEYS:,} keys"
OF_LIMITED = f"with {KEYS:,} keys that have limits"

LIMITS = (
    Line(f"step of 1 of a queue with a limit{MANY}", "step", "limited", at_most=1.5),
    Line(f"step of 1 of a queue {OF_KEYS}{MANY}", "step", "keys", at_most=1.5),
    Line(f"step of 1 of a queue {OF_LIMITED}{MANY}", "step", "limited keys", at_most=1.5),
    Line(f"step of 10 of a queue {OF_KEYS}{MANY}", "step", "ten keys", "ten", at_most=1.5),
    Line(
        f"step of 10 of a queue {OF_LIMITED}{MANY}", "step", "ten limited keys", "ten", at_most=1.5
    ),
    Line(f"push to a queue {OF_KEYS}{MANY}", "push", "keys"),
)

FEATURES = (
    Line("push of a unique task", "push", "unique"),
    Line("step of 1, unique tasks", "step", "unique"),
    Line("push with one of three priorities", "push", "priority"),
    Line("step of 1, three priorities", "step", "priority"),
    Line("push of a task that expires", "push", "expires"),
    Line(
        "step of 1 that reports a snoozed task",
        "step",
        "snoozed",
        plain_title="that reports an ack",
    ),
    Line("push of a schedule's tick", "push", "tick"),
    Line("step of 1 beside a paused queue", "step", "paused", "empty", "beside an empty queue"),
    Line("push of 10 tasks and a follow-up", "push", "then", "eleven", "11 tasks"),
    Line("step of 11, tasks with follow-ups", "step", "then", "eleven"),
)


def limits(bench: Bench, store: Store) -> Mapping[str, Metrics]:
    """Measure two long queues: with limits, with keys, and with neither."""
    keys = min(KEYS, bench.sizes.crowd)
    store.fill(bench, keys)
    return store.measure(bench, "limits", keys)


def limit_shots(store: Store, bench: Bench) -> Sequence[Shot]:
    """Push to long queues and reserve from them, with limits and keys and without."""
    return [Shot("limits and keys", partial(limits, store=store))]


def feature_shots(store: Store, bench: Bench) -> Sequence[Shot]:
    """Push and reserve tasks with one optional feature each, and without."""
    return [Shot("features", partial(store.measure, name="features"))]


for _store in STORES:
    _figures = [
        line.of(_store, letter)
        for line, letter in zip((*LIMITS, *FEATURES), _store.letters, strict=False)
    ]
    experiment(f"{_store.prefix}limited", *_figures[: len(LIMITS)])(partial(limit_shots, _store))
    experiment(f"{_store.prefix}features", *_figures[len(LIMITS) :])(partial(feature_shots, _store))
