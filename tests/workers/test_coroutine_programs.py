"""Worker processes that run coroutines: signals, lifespans, many at once, and uvloop."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from alligator import Gator
from tests.harness.programs import Program, environment, eventually, lines, run, running
from tests.harness.sample_tasks import add_later, record, record_later

SHOP = """
import asyncio, os, threading, time
from contextlib import asynccontextmanager
from alligator import Gator, current_task

OUT = "out"

def record(line):
    with open(OUT, "ab", buffering=0) as file:
        file.write(f"{line}\\n".encode())

@asynccontextmanager
async def clients():
    record(f"opened {os.getpid()}")
    try:
        yield {"lock": asyncio.Lock(), "loop": asyncio.get_running_loop()}
    finally:
        record(f"closed {os.getpid()}")

@asynccontextmanager
async def broken():
    raise OSError("the database cannot be reached")
    yield

@asynccontextmanager
async def endless():
    record("opening")
    await asyncio.sleep(600)
    yield

@asynccontextmanager
async def fickle():
    async with clients() as state:
        yield state
    raise OSError("it cannot be closed")

@asynccontextmanager
async def listens():
    async with clients() as state, asyncio.TaskGroup() as group:
        state["broken"] = asyncio.Event()
        listening = group.create_task(listen(state["broken"]))
        yield state
        listening.cancel()

async def listen(broken):
    await broken.wait()
    raise OSError("the connection was closed")

async def end_lifespan():
    current_task().state["broken"].set()
    for _ in range(10):
        await asyncio.sleep(0)

async def use():
    state = current_task().state
    async with state["lock"]:
        await asyncio.sleep(0.001)
    assert state["loop"] is asyncio.get_running_loop()
    record(f"used {os.getpid()} {type(state['loop']).__module__.partition('.')[0]}")

async def hook(task, about=None):
    await asyncio.sleep(0)
    record(f"hook {asyncio.get_running_loop() is current_task().state['loop']}")

async def wait():
    record("began")
    try:
        await asyncio.sleep(60)
    finally:
        record("cleaned up")

async def swallow():
    record("began")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            record("swallowed")

arrived, everyone = [], asyncio.Event()

async def meet(number):
    arrived.append(1)
    if len(arrived) == number:
        record(f"{len(os.listdir('/proc/self/fd'))} {threading.active_count()}")
        everyone.set()
    await everyone.wait()
"""


@pytest.fixture
def shop(tmp_path: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gator]:
    """Write an application, and return its gator."""
    made = f"gator = Gator({dsn!r}, lifespan=clients)\nsick = Gator({dsn!r}, lifespan=broken)\n"
    made += f"slow = Gator({dsn!r}, lifespan=endless)\n"
    made += f"odd = Gator({dsn!r}, lifespan=fickle)\n"
    made += f"busy = Gator({dsn!r}, lifespan=listens)\n"
    (tmp_path / "shop.py").write_text(SHOP + made)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    gator: Gator = import_module("shop").gator
    yield gator
    sys.modules.pop("shop")


def work(tmp_path: Path, *options: str) -> AbstractContextManager[Program]:
    return running("--app", "shop:gator", *options, log=tmp_path / "log", cwd=tmp_path)


def push(gator: Gator, name: str, *args: object, times: int = 1) -> None:
    func = getattr(sys.modules["shop"], name)
    with gator.transaction():
        for _ in range(times):
            gator.task(func, *args)


@pytest.mark.parametrize("options", [[], ["-c", "1"], ["-c", "5"], ["--loop", "uvloop"]])
def test_coroutines_share_what_the_lifespan_has_opened(
    shop: Gator, tmp_path: Path, options: list[str]
) -> None:
    if "uvloop" in options:
        pytest.importorskip("uvloop")
    push(shop, "use", times=50)

    with work(tmp_path, "--burst", *options) as worker:
        assert worker.wait(60) == 0
        pid = worker.pid

    kind = "uvloop" if "uvloop" in options else "asyncio"
    assert lines(tmp_path / "out") == [
        f"opened {pid}",
        *[f"used {pid} {kind}"] * 50,
        f"closed {pid}",
    ]


def test_lifespan_that_cannot_start_ends_the_program(shop: Gator, tmp_path: Path) -> None:
    push(shop, "use")

    ended = run("--app", "shop:sick", "--burst", cwd=tmp_path)

    assert ended.returncode == 1
    assert (
        "the lifespan of this worker cannot start: OSError: the database cannot be" in ended.stderr
    )
    assert shop.len() == 1


@pytest.mark.parametrize("options", [[], ["-c", "3"]])
def test_isolated_lifespan_that_cannot_start_ends_the_program(
    shop: Gator, tmp_path: Path, options: list[str]
) -> None:
    push(shop, "use")

    ended = run("--app", "shop:sick", "--isolate", *options, cwd=tmp_path)

    assert ended.returncode == 1
    assert "OSError: the database cannot be" in ended.stderr
    assert "This worker ends and takes no task" in ended.stderr
    assert (shop.len(), shop.stats().lost) == (1, 0)


def test_worker_is_stopped_while_its_isolated_lifespan_starts(shop: Gator, tmp_path: Path) -> None:
    push(shop, "use")

    with running("--app", "shop:slow", "--isolate", log=tmp_path / "log", cwd=tmp_path) as worker:
        eventually(lambda: lines(tmp_path / "out") == ["opening"])
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)

    assert "stopped while its lifespan was starting" in (tmp_path / "log").read_text()
    assert shop.len() == 1


def test_each_process_has_a_lifespan_of_its_own(shop: Gator, tmp_path: Path) -> None:
    push(shop, "use", times=20)

    with work(tmp_path, "--processes", "2") as worker:
        eventually(lambda: shop.stats().succeeded == 20)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0

    found = lines(tmp_path / "out")
    opened = {line.split()[1] for line in found if line.startswith("opened")}
    closed = {line.split()[1] for line in found if line.startswith("closed")}
    assert len(opened) == 2
    assert opened == closed


def test_isolated_tasks_share_a_loop_and_a_lifespan(shop: Gator, tmp_path: Path) -> None:
    push(shop, "use", times=10)

    with work(tmp_path, "--burst", "--isolate") as worker:
        assert worker.wait(60) == 0

    found = lines(tmp_path / "out")
    assert found[0].startswith("opened")
    assert [line.split()[0] for line in found[1:]] == [*["used"] * 10, "closed"]
    assert len({line.split()[1] for line in found}) == 1


def test_hooks_of_isolated_coroutines_run_on_their_loop(shop: Gator, tmp_path: Path) -> None:
    module = sys.modules["shop"]
    shop.options(on_start=module.hook, on_success=module.hook).task(module.use)

    with work(tmp_path, "--burst", "--isolate") as worker:
        assert worker.wait(60) == 0

    found = lines(tmp_path / "out")
    assert [line.split()[0] for line in found] == ["opened", "hook", "used", "hook", "closed"]
    assert found.count("hook True") == 2


@pytest.mark.parametrize("options", [[], ["--isolate"]])
def test_lifespan_that_fails_at_the_end_is_reported(
    shop: Gator, tmp_path: Path, options: list[str]
) -> None:
    push(shop, "use")

    ended = run("--app", "shop:odd", "--burst", *options, cwd=tmp_path)

    assert ended.returncode == 0
    assert "did not end as it should" in ended.stderr
    assert "OSError: it cannot be closed" in ended.stderr
    assert shop.stats().succeeded == 1


def test_isolated_task_has_a_new_process_once_its_lifespan_has_ended(
    shop: Gator, tmp_path: Path
) -> None:
    push(shop, "end_lifespan")
    push(shop, "use")

    ended = run("--app", "shop:busy", "--burst", "--isolate", cwd=tmp_path)

    assert ended.returncode == 0
    assert "OSError: the connection was closed" in ended.stderr
    found = [line.split()[:2] for line in lines(tmp_path / "out")]
    assert [word for word, _ in found] == ["opened", "closed", "opened", "used", "closed"]
    assert len({pid for _, pid in found}) == 2
    assert shop.stats().succeeded == 2


def test_isolated_tasks_use_uvloop_if_that_was_asked_for(shop: Gator, tmp_path: Path) -> None:
    pytest.importorskip("uvloop")
    push(shop, "use", times=2)

    with work(tmp_path, "--burst", "--isolate", "--loop", "uvloop") as worker:
        assert worker.wait(60) == 0

    assert [line.split()[-1] for line in lines(tmp_path / "out")[1:3]] == ["uvloop", "uvloop"]


def test_terminated_worker_cancels_coroutines_after_its_timeout(
    shop: Gator, tmp_path: Path
) -> None:
    push(shop, "wait", times=30)

    with work(tmp_path, "--shutdown-timeout", "0.5") as worker:
        eventually(lambda: lines(tmp_path / "out").count("began") == 30)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 1

    found = lines(tmp_path / "out")
    assert found.count("cleaned up") == 30
    assert found[-1].startswith("closed")
    stats = shop.stats()
    assert (stats.ready, stats.leased, stats.lost, stats.failed) == (30, 0, 0, 0)


def test_terminated_worker_ends_without_coroutines_that_swallow_it(
    shop: Gator, tmp_path: Path
) -> None:
    push(shop, "swallow")

    with work(tmp_path, "--shutdown-timeout", "0.5") as worker:
        eventually(lambda: "began" in lines(tmp_path / "out"))
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 1
        assert worker.said("not finished in time; released")
        assert worker.said("shop.swallow")

    assert "swallowed" in lines(tmp_path / "out")
    assert (shop.stats().ready, shop.stats().leased) == (1, 0)


def contains(path: Path, line: str) -> bool:
    return line in lines(path)


def test_worker_process_waits_for_new_coroutines(dsn: str, tmp_path: Path) -> None:
    gator, out = Gator(dsn), tmp_path / "out"
    with running(dsn, log=tmp_path / "log") as worker:
        for number in range(5):
            gator.task(record_later, str(out), f"coroutine {number}")
            eventually(partial(contains, out, f"coroutine {number}"))
            gator.task(record, str(out), f"plain {number}")
            eventually(partial(contains, out, f"plain {number}"))
        eventually(lambda: gator.stats().succeeded == 10)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs limits of descriptors")
def test_ten_thousand_coroutines_at_once_need_few_descriptors(shop: Gator, tmp_path: Path) -> None:
    for _ in range(10):
        push(shop, "meet", 10_000, times=1000)
    command = f"ulimit -n 256; exec {sys.executable} -m alligator --app shop:gator -c 10000 --burst"

    ended = subprocess.run(
        ["bash", "-c", f"{command} --log-level warning --blocking-after 60"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert shop.stats().succeeded == 10_000
    descriptors, threads = map(int, lines(tmp_path / "out")[1].split())
    assert descriptors < 30
    assert threads < 10


@pytest.mark.parametrize("concurrency", ["1", "4", "200"])
def test_coroutines_run_on_valkey(valkey: str, concurrency: str) -> None:
    gator = Gator(f"{valkey}?ns=coroutines{concurrency}")
    with gator.transaction():
        for number in range(500):
            gator.task(add_later, number, 1)

    ended = run(f"{valkey}?ns=coroutines{concurrency}", "-c", concurrency, "--burst")

    assert ended.returncode == 0
    assert (gator.stats().succeeded, gator.stats().lost) == (500, 0)
