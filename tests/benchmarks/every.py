"""Import every file that measures something, so that its experiments are known, in this order."""

from tests.benchmarks import (
    of_growth,
    of_idle,
    of_pushes,
    of_requests,
    of_sqlite,
    of_web,
    of_workers,
)

__all__ = [
    "of_growth",
    "of_idle",
    "of_pushes",
    "of_requests",
    "of_sqlite",
    "of_web",
    "of_workers",
]
