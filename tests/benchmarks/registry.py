"""Import every file that measures something, so that its experiments are known, in this order."""

from tests.benchmarks.cases import (
    features,
    growth,
    idle,
    postgres,
    pushes,
    requests,
    sqlite,
    web,
    workers,
)

from tests.benchmarks.cases import coroutines  # isort: skip - they are measured last

__all__ = [
    "coroutines",
    "features",
    "growth",
    "idle",
    "postgres",
    "pushes",
    "requests",
    "sqlite",
    "web",
    "workers",
]
