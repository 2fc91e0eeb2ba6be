"""Take the shots of experiments in turn, and keep what came of each."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks import environments, machine
from tests.benchmarks.bench import Bench, Failed
from tests.benchmarks.figures import Experiment, Shot

DISTURBED = 0.25
"""Above so many cores in the hands of others, a shot is taken again."""

Progress = Callable[[str], None]


def measure(
    bench: Bench,
    experiments: Sequence[Experiment],
    repeats: int,
    retakes: int,
    said: Progress,
) -> Iterator[dict[str, Any]]:
    """Run the experiments; after each, yield what was found so far, in a form that JSON can keep."""
    results: dict[str, Any] = {
        "started": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "commit": _commit(),
        "machine": {**machine.describe(), **_server(bench)},
        "versions": _versions(bench),
        "sizes": asdict(bench.sizes),
        "experiments": {},
    }
    for each in experiments:
        results["experiments"][each.name] = repeat(bench, each, repeats, retakes, said)
        yield results


def repeat(
    bench: Bench, experiment: Experiment, repeats: int, retakes: int, said: Progress
) -> dict[str, Any]:
    """Take each shot once, then each again: so the machine's drift meets all of them."""
    shots = list(experiment.shots(bench))
    rounds: list[dict[str, Any]] = [{} for _ in range(repeats)]
    foreign: list[float] = []
    failures: dict[str, str] = {}
    for number, found in enumerate(rounds, 1):
        for shot in shots:
            said(f"{experiment.name}: {shot.name} ({number} of {repeats})")
            if shot.name in failures:
                continue
            try:
                cases, others = take(bench, shot, retakes)
            except (Failed, LookupError, OSError, subprocess.SubprocessError) as error:
                failures[shot.name] = f"{type(error).__name__}: {error}"
                continue
            found.update(cases)
            foreign.append(round(others, 2))
    return {"rounds": rounds, "foreign": foreign, "failures": failures}


def take(bench: Bench, shot: Shot, retakes: int) -> tuple[dict[str, Any], float]:
    """Take a shot, again if others were busy meanwhile; keep the least disturbed one."""
    best: tuple[dict[str, Any], float] | None = None
    for _ in range(1 + retakes):
        with machine.Watch() as watch:
            cases = {case: dict(metrics) for case, metrics in shot.fire(bench).items()}
        if best is None or watch.foreign < best[1]:
            best = cases, watch.foreign
        if watch.foreign <= DISTURBED:
            break
    assert best is not None
    return best


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=environments.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def _server(bench: Bench) -> dict[str, str]:
    info = bench.info("server")
    name = "Valkey" if "valkey_version" in info else "Redis"
    return {"store": f"{name} {info.get('valkey_version') or info['redis_version']}"}


def _versions(bench: Bench) -> dict[str, dict[str, str]]:
    """List what was installed, of what has a part in a figure."""
    drivers = {"redis", "hiredis", "coredis", "taskiq-redis", "psycopg", "asyncpg"}
    wanted = {*drivers, *environments.WEB}
    listed = {}
    for name in ("alligator", *bench.peers, *bench.peers_on_postgres):
        found = environments.versions(Path(bench.python(name)))
        listed[name] = {key: found[key] for key in sorted({name, *wanted} & found.keys())}
    return listed
