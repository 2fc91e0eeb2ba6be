"""Coroutine tasks share clients that belong to one event loop: engines, pools, clients and locks.

``SHARED_TASKS=2000`` runs more of each than by default.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

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

TASKS = int(os.environ.get("SHARED_TASKS", "20"))

KINDS = ["query", "query_pool", "ping", "call", "lock"]

SHOP = """
import asyncio, os
from contextlib import asynccontextmanager

import asyncpg, httpx, redis.asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from alligator import Gator, current_task

# Made once in the module, as programs do; each belongs to the loop that uses it first.
engine = create_async_engine(os.environ["ENGINE"], pool_size=5, pool_timeout=300)
cache = redis.asyncio.Redis.from_url(os.environ["CACHE"], max_connections=20)
cache.connection_pool = redis.asyncio.BlockingConnectionPool.from_url(
    os.environ["CACHE"], max_connections=20, timeout=300
)
http = httpx.AsyncClient(base_url=os.environ["SITE"], timeout=300)
guard = asyncio.Lock()
made = {}

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

async def query_pool():
    state = current_task().state
    if state is None:  # in a web process
        async with guard:
            if "pool" not in made:
                made["pool"] = await asyncpg.create_pool(
                    os.environ["POOL"], min_size=1, max_size=5
                )
        state = made
    assert await state["pool"].fetchval("SELECT 1") == 1

async def ping():
    await cache.set("key", "value")
    assert await cache.get("key") == b"value"

async def call():
    (await http.get("/")).raise_for_status()

async def lock():
    async with guard:
        await asyncio.sleep(0)

KINDS = [query, query_pool, ping, call, lock]

from fastapi import FastAPI
from starlette_alligator import AlligatorMiddleware

app = FastAPI()
app.add_middleware(AlligatorMiddleware, gator=gator)

@app.post("/")
async def post():
    for func in KINDS:
        gator.task(func)
    return {}
"""


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


@pytest.mark.timeout(400)
@pytest.mark.parametrize("store", ["sqlite", "valkey"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("concurrency", ["1", "4", "200"])
def test_tasks_share_clients(
    services: dict[str, str],
    valkey: str,
    tmp_path: Path,
    store: str,
    loop: str,
    concurrency: str,
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    namespace = f"shared-{loop}-{concurrency}"
    dsn = f"sqlite://{tmp_path}/queue.db" if store == "sqlite" else f"{valkey}?ns={namespace}"
    (tmp_path / "shop.py").write_text(SHOP)
    gator = Gator(dsn)
    for _ in range(0, TASKS, 20):
        gator.client.push_many([message(gator, kind) for kind in KINDS * min(20, TASKS)])

    worker = subprocess.run(
        [
            *(sys.executable, "-m", "alligator", "--app", "shop:gator", "--burst"),
            *(
                "-c",
                concurrency,
                "--loop",
                loop,
                "--log-level",
                "warning",
                "--blocking-after",
                "60",
            ),
        ],
        env=environment({**services, "ALLIGATOR_CONN": dsn}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )

    assert (worker.returncode, worker.stderr) == (0, "")
    stats = gator.stats()
    assert (stats.succeeded, stats.failed, stats.lost) == (TASKS * len(KINDS), 0, 0)
    gator.close()


def message(gator: Gator, kind: str) -> Message:
    """Return a task of the module ``shop``, which only the worker imports."""
    task = Task()
    task.to_call(_nothing)
    data = gator.guard.write(task, "all").replace(__name__, "shop").replace("_nothing", kind)
    return Message("all", task.task_id, data)


def _nothing() -> None: ...


@pytest.mark.timeout(200)
def test_web_process_shares_clients_with_its_inline_tasks(
    services: dict[str, str], tmp_path: Path
) -> None:
    # With a loop for each task, this process ended with a segmentation fault.
    (tmp_path / "shop.py").write_text(SHOP)
    env = {**services, "ALLIGATOR_CONN": "redis://127.0.0.1:1/0", "ALLIGATOR_ASYNC": "false"}
    command = ["-m", "uvicorn", "--port", "0", "shop:app"]

    with web_process(command, tmp_path, **env) as server, httpx.Client(timeout=60) as client:
        codes = [client.post(server.url).status_code for _ in range(max(10, TASKS // 20))]
        assert server.process.poll() is None

    assert set(codes) == {200}
