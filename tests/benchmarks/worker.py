"""Run one worker of Alligator that logs warnings only: ``python -m tests.benchmarks.worker DSN``."""

import logging
import os
import sys
from cProfile import Profile

from alligator import Gator, Worker


def main() -> None:
    """Drain the queue, or with ``--burst`` until it is empty; into ``BENCH_PROFILE`` goes a profile."""
    places = os.environ.get("BENCH_PLACES")
    worker = Worker(
        Gator(sys.argv[1], "bench"),
        log_level=logging.WARNING,
        burst="--burst" in sys.argv,
        concurrency=int(places) if places else None,
    )
    path = os.environ.get("BENCH_PROFILE")
    if not path:
        worker.run_forever()
        return
    profile = Profile()
    profile.runcall(worker.run_forever)
    profile.dump_stats(path)


if __name__ == "__main__":
    main()
