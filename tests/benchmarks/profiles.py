"""Find out where the time goes: a profile of a hot path, function by function."""

import pstats
from collections.abc import Callable, Mapping
from cProfile import Profile
from pathlib import Path

from alligator import Gator
from tests.benchmarks.bench import Bench, wait_for
from tests.benchmarks.figures import OURS
from tests.benchmarks.peers import micro


def worker(bench: Bench) -> Path:
    """Profile a worker that drains tasks that do nothing."""
    bench.empty()
    n = bench.sizes.tasks * 10
    profile = bench.result_path()
    with bench.agent(OURS) as agent:
        agent.fill(n)
        command = [*agent.worker, "--burst"]
    with bench.process(OURS, command, {"BENCH_PROFILE": str(profile)}) as process:
        process.wait(300)
        wait_for(profile, process, log=bench.folder / "log")
    return profile


def commit(bench: Bench) -> Path:
    """Profile transactions of ten tasks."""
    gator = Gator(bench.redis.dsn, "bench")

    def push() -> None:
        for _ in range(bench.sizes.tasks // 10):
            with gator.transaction():
                for _ in range(10):
                    gator.task(micro.send_mail, *micro.ARGUMENTS, **micro.KEYWORDS)

    return _dump(bench, push)


def middleware(bench: Bench) -> Path:
    """Profile the ASGI middleware around requests that enqueue nothing."""
    return _dump(bench, lambda: micro.asgi(bench.sizes.calls))


def _dump(bench: Bench, call: Callable[[], object]) -> Path:
    profile, path = Profile(), bench.result_path()
    profile.runcall(call)
    profile.dump_stats(path)
    return path


PROFILES: Mapping[str, Callable[[Bench], Path]] = {
    "worker": worker,
    "commit": commit,
    "middleware": middleware,
}


def show(bench: Bench, name: str, lines: int = 40) -> None:
    """Take a profile, and print the functions that take the most time themselves."""
    stats = pstats.Stats(str(PROFILES[name](bench)))
    stats.sort_stats("tottime").print_stats(lines)
