"""Figure 15: the cost of an idle worker, of the import, and after many tasks."""

import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks import environments
from tests.benchmarks.bench import Bench, wait_for
from tests.benchmarks.figures import OURS, RAW, Figure, Goal, Metrics, Shot, experiment, single
from tests.benchmarks.machine import thread_seconds

IMPORT = (
    "import time; start = time.perf_counter(); import alligator;print(time.perf_counter() - start)"
)


def idle(bench: Bench) -> Metrics:
    """Measure the CPU of an idle worker."""
    bench.empty()
    path = bench.result_path()
    env = {"BENCH_EXPECTED": "1", "BENCH_RESULT": str(path)}
    with bench.agent(OURS, **env) as agent, bench.process(OURS, agent.worker, env) as worker:
        agent.call("push_marks", 1, 0)
        wait_for(path, worker, log=bench.folder / "log")
        time.sleep(0.2)
        before, start = thread_seconds(worker.pid), time.monotonic()
        time.sleep(bench.sizes.seconds * 4)
        used = thread_seconds(worker.pid) - before
        return {"share": used / (time.monotonic() - start) * 100}


@experiment(
    "idle",
    Figure(
        number="15a",
        title="CPU of an idle worker",
        metric="share",
        unit="% of a core",
        less_is_better=True,
        peers=False,
        goals=[Goal(at_most=0.2)],
    ),
)
def idling(bench: Bench) -> Sequence[Shot]:
    """Measure an idle worker."""
    return [single(OURS, idle)]


def importing(bench: Bench) -> Metrics:
    """Import Alligator, already compiled, in a new process."""
    took = 0.0
    for _ in ("compiles", "counts"):
        done = subprocess.run(
            [bench.python(OURS), "-c", IMPORT],
            env=bench.environ(
                PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=str(bench.folder / "compiled")
            ),
            cwd=environments.ROOT,
            capture_output=True,
            check=True,
        )
        took = float(done.stdout)
    return {"ms": took * 1e3}


@experiment(
    "import",
    Figure(
        number="15b",
        title="import alligator",
        metric="ms",
        unit="ms",
        less_is_better=True,
        peers=False,
        goals=[Goal(at_most=40)],
    ),
)
def imports(bench: Bench) -> Sequence[Shot]:
    """Import Alligator."""
    return [single(OURS, importing)]


def resident(bench: Bench, worked: int) -> Metrics:
    """Measure the memory of a worker after a number of tasks."""
    bench.empty()
    path = bench.result_path()
    env = {"BENCH_EXPECTED": str(worked), "BENCH_RESULT": str(path)}
    with bench.agent(OURS, **env) as agent:
        agent.fill(worked)
        with bench.process(OURS, agent.worker, env) as worker:
            wait_for(path, worker, log=bench.folder / "log")
            time.sleep(0.2)
            status = Path(f"/proc/{worker.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return {"mib": int(line.split()[1]) / 1024}


@experiment(
    "resident",
    Figure(
        number="15c",
        title="resident memory of a worker after many tasks",
        metric="mib",
        unit="MiB",
        case="many",
        raw="few",
        raw_title="after a hundredth of them",
        less_is_better=True,
        peers=False,
        goals=[Goal(at_most=1.05, to=RAW)],
    ),
)
def residents(bench: Bench) -> Sequence[Shot]:
    """Measure the memory of a worker after few and after many tasks."""
    few = max(100, bench.sizes.crowd // 100)
    return [
        single("few", partial(resident, worked=few)),
        single("many", partial(resident, worked=bench.sizes.crowd)),
    ]
