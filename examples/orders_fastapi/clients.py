"""The clients that all requests of a web process share, and all tasks of a worker process."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import httpx

from .database import engine


class Clients(NamedTuple):
    """What the tasks find at ``current_task().state``."""

    http: httpx.AsyncClient


@asynccontextmanager
async def clients() -> AsyncIterator[Clients]:
    """Open the clients when a process starts, and close them when it ends."""
    base_url = os.environ.get("SUPPLIER_URL", "")
    async with httpx.AsyncClient(base_url=base_url, timeout=10) as http:
        yield Clients(http)
    await engine.dispose()
