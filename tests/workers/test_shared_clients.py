"""Coroutine tasks share clients that belong to one event loop: engines, pools, clients and locks.

With an event loop for each task, most of these tasks failed, and the web process died of a
segmentation fault.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from alligator import Gator, Task
from alligator.backends.base import Message
from tests.harness.postgres_servers import postgres_server
from tests.harness.programs import environment
from tests.harness.requirements import needed
from tests.harness.web_process import web_process

pytest.importorskip("asyncpg")
pytest.importorskip("sqlalchemy")

FEW, MANY = 60, 2_000
"""How many tasks of each kind run: by default, and where there is time."""

PATIENCE = 900
"""How many seconds `MANY` tasks of each kind may take on a busy machine."""

NOWHERE = "redis://127.0.0.1:1/0"
"""The store of a web process that runs its tasks itself; no server listens there."""

KINDS = ["query", "query_pool", "ping", "call", "lock"]

FILES = {
    "shop.py": """
import asyncio, os
from collections import Counter
from contextlib import asynccontextmanager

import asyncpg, httpx, redis.asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from alligator import Gator, current_task

# Made once in the module, as programs do; each belongs to the loop that uses it first.
engine = create_async_engine(os.environ["ENGINE"], pool_size=5, pool_timeout=300)
cache = redis.asyncio.Redis(
    connection_pool=redis.asyncio.BlockingConnectionPool.from_url(
        os.environ["CACHE"], max_connections=20, timeout=300
    )
)
http = httpx.AsyncClient(base_url=os.environ["SITE"], timeout=300)
guard = asyncio.Lock()
made = {}
ran = Counter()

@asynccontextmanager
async def clients():
    async with asyncpg.create_pool(os.environ["POOL"], min_size=1, max_size=5) as pool:
        yield {"pool": pool}
    await engine.dispose()
    await cache.aclose()
    await http.aclose()

gator = Gator.from_env(lifespan=clients)

async def query():
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    ran["query"] += 1

async def query_pool():
    state = current_task().state
    if state is None:  # in a web process
        async with guard:
            if "pool" not in made:
                made["pool"] = await asyncpg.create_pool(os.environ["POOL"], min_size=1, max_size=5)
        state = made
    assert await state["pool"].fetchval("SELECT 1") == 1
    ran["query_pool"] += 1

async def ping():
    await cache.set("key", "value")
    assert await cache.get("key") == b"value"
    ran["ping"] += 1

async def call():
    (await http.get("/")).raise_for_status()
    ran["call"] += 1

async def lock():
    async with guard:
        await asyncio.sleep(0)
    ran["lock"] += 1

KINDS = [query, query_pool, ping, call, lock]
""",
    "web.py": """
from fastapi import FastAPI
from starlette_alligator import AlligatorMiddleware

from shop import KINDS, gator, ran

app = FastAPI()
app.add_middleware(AlligatorMiddleware, gator=gator)

@app.post("/")
async def post():
    for func in KINDS:
        gator.task(func)
    return {}

@app.get("/ran")
async def get():
    return ran
""",
    "threads.py": """
import json, sys
from concurrent.futures import ThreadPoolExecutor

from shop import KINDS, gator, ran

def request(number):
    with gator.transaction():
        for func in KINDS:
            gator.task(func)

at_once, number = map(int, sys.argv[1:])
with ThreadPoolExecutor(at_once) as pool:
    list(pool.map(request, range(number)))
print(json.dumps(ran))
""",
}


class Quiet(BaseHTTPRequestHandler):
    """Answers each request with 204."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def services(valkey: str) -> Iterator[dict[str, str]]:
    """Start a PostgreSQL and a web site; yield the environment of the programs that use them."""
    with (
        needed(),
        postgres_server() as postgres,
        ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as site,
    ):
        Thread(target=site.serve_forever, daemon=True).start()
        yield {
            "ENGINE": postgres.dsn.replace("postgresql://", "postgresql+asyncpg://"),
            "POOL": postgres.dsn,
            "CACHE": valkey,
            "SITE": f"http://127.0.0.1:{site.server_port}",
        }
        site.shutdown()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Write the programs; return their folder."""
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    return tmp_path


def rows(*few: tuple[Any, ...], all_of: Iterator[tuple[Any, ...]]) -> list[Any]:
    """Return *few* rows with few tasks, and all rows with many, which are slow."""
    slow = [pytest.mark.slow, pytest.mark.timeout(PATIENCE + 60)]
    return [
        *((*row, FEW) for row in few),
        *(pytest.param(*row, MANY, marks=slow) for row in all_of),
    ]


# The first rows have each pair of two values once.
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("store", "loop", "concurrency", "number"),
    rows(
        ("sqlite", "asyncio", 1),
        ("valkey", "uvloop", 1),
        ("valkey", "asyncio", 4),
        ("sqlite", "uvloop", 4),
        ("sqlite", "asyncio", 200),
        ("valkey", "uvloop", 200),
        all_of=product(["sqlite", "valkey"], ["asyncio", "uvloop"], [1, 4, 200]),
    ),
)
def test_tasks_of_a_worker_share_clients(
    services: dict[str, str],
    valkey: str,
    shop: Path,
    store: str,
    loop: str,
    concurrency: int,
    number: int,
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    dsn = f"sqlite://{shop}/queue.db" if store == "sqlite" else f"{valkey}?ns={shop.name}"
    gator = Gator(dsn)
    for _ in range(0, number, 20):
        gator.client.push_many([message(gator, kind) for kind in KINDS * 20])
    options = f"--burst -c {concurrency} --loop {loop} --log-level warning --blocking-after 60"

    worker = subprocess.run(
        [sys.executable, "-m", "alligator", "--app", "shop:gator", *options.split()],
        env=environment({**services, "ALLIGATOR_CONN": dsn}),
        cwd=shop,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert (worker.returncode, worker.stderr) == (0, "")
    stats = gator.stats()
    assert (stats.succeeded, stats.failed, stats.lost) == (number * len(KINDS), 0, 0)
    gator.close()


def message(gator: Gator, kind: str) -> Message:
    """Return a task of the module ``shop``, which only the worker imports."""
    task = Task()
    task.to_call(_nothing)
    data = gator.guard.write(task, "all").replace(__name__, "shop").replace("_nothing", kind)
    return Message("all", task.task_id, data)


def _nothing() -> None: ...


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("loop", "at_once", "number"),
    rows(
        ("asyncio", 4),
        ("uvloop", 200),
        all_of=product(["asyncio", "uvloop"], [1, 4, 200]),
    ),
)
def test_inline_tasks_of_a_web_process_share_clients(
    services: dict[str, str], shop: Path, loop: str, at_once: int, number: int
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    env = {**services, "ALLIGATOR_CONN": NOWHERE, "ALLIGATOR_ASYNC": "false"}
    # A server that closes idle connections may close one that the client is about to use.
    options = f"--port 0 --loop {loop} --no-access-log --timeout-keep-alive {PATIENCE}"
    command = ["-m", "uvicorn", *options.split(), "web:app"]
    unlimited = httpx.Limits(max_connections=None)

    with (
        web_process(command, shop, **env) as server,
        httpx.Client(base_url=server.url, timeout=PATIENCE, limits=unlimited) as client,
        ThreadPoolExecutor(at_once) as pool,
    ):
        codes = list(pool.map(lambda _: client.post("/").status_code, range(number)))
        ran = client.get("/ran").json()
        assert server.process.poll() is None

    assert set(codes) == {200}
    assert ran == dict.fromkeys(KINDS, number)


@pytest.mark.timeout(200)
@pytest.mark.parametrize(("at_once", "number"), rows((4,), (200,), all_of=product([1, 4, 200])))
def test_inline_tasks_of_threads_share_clients(
    services: dict[str, str], shop: Path, at_once: int, number: int
) -> None:
    done = subprocess.run(
        [sys.executable, "threads.py", str(at_once), str(number)],
        env=environment({**services, "ALLIGATOR_CONN": NOWHERE, "ALLIGATOR_ASYNC": "false"}),
        cwd=shop,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == dict.fromkeys(KINDS, number)
