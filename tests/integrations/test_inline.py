"""Inline tasks of many web requests at once."""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock
from typing import Any

import httpx
import pytest

from alligator import Gator
from asgi_alligator import AlligatorMiddleware
from tests.harness.web_sites import Reply, Site

gators: list[Gator] = []
ran: Counter[str] = Counter()
lock = Lock()
together = Event()


@pytest.fixture(autouse=True)
def _clean() -> None:
    gators.clear()
    ran.clear()
    together.clear()


def note(what: str) -> None:
    with lock:
        ran[what] += 1


AT_ONCE = 200
"""More than any pool of threads on the way has."""


def start_one_more() -> None:
    note("outer")
    if ran["outer"] >= AT_ONCE:
        together.set()  # so many run at once
    together.wait(60)
    with gators[0].transaction():
        gators[0].task(note, "inner")


async def start_one_more_later() -> None:
    note("outer")
    if ran["outer"] >= AT_ONCE:
        together.set()
    await asyncio.to_thread(together.wait, 60)
    async with gators[0].transaction():
        gators[0].task(note, "inner")


async def wait_for_nobody() -> None:
    note("outer")
    async with gators[0].transaction() as transaction:
        gators[0].task(note, "inner")
        transaction.on_commit(lambda: asyncio.run(nothing()))
    await asyncio.sleep(0)


async def nothing() -> None:
    async with gators[0].transaction():
        gators[0].task(note, "callback")


@pytest.mark.parametrize("func", [start_one_more, start_one_more_later, wait_for_nobody])
def test_inline_tasks_of_many_requests_run_at_once(func: Callable[[], Any]) -> None:
    gators.append(Gator("locmem://", is_async=False))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gators[0].task(func)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async def main() -> list[int]:
        transport = httpx.ASGITransport(AlligatorMiddleware(app, gators[0]))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            answers = await asyncio.gather(*(client.get("/") for _ in range(AT_ONCE)))
        return [answer.status_code for answer in answers]

    assert asyncio.run(main()) == [200] * AT_ONCE
    assert (ran["outer"], ran["inner"]) == (AT_ONCE, AT_ONCE)


@pytest.mark.parametrize("func", [start_one_more, wait_for_nobody])
def test_inline_tasks_of_many_threads_run_at_once(site: Site, func: Callable[[], Any]) -> None:
    gators.append(Gator("locmem://", is_async=False))

    def view(transaction: Any) -> Reply:
        gators[0].task(func)
        return Reply(200)

    get = site(view, {"gator": gators[0], "is_async": False})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda _: get().status, range(AT_ONCE)))

    assert answers == [200] * AT_ONCE
    assert (ran["outer"], ran["inner"]) == (AT_ONCE, AT_ONCE)
