"""The calls of `counting.async_call` on a bare event loop: the limit of coroutine tasks."""

import asyncio
import os

from tests.benchmarks.peers.counting import EXPECTED, async_call


async def main() -> None:
    """Make the calls, so many at the same time."""
    places = asyncio.Semaphore(int(os.environ["BENCH_PLACES"]))

    async def call() -> None:
        async with places:
            await async_call()

    await asyncio.gather(*(call() for _ in range(EXPECTED)))


if __name__ == "__main__":
    asyncio.run(main())
