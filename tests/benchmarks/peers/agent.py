"""The producer of one queue: it reads commands from standard input, as lines of JSON.

``python -m tests.benchmarks.peers.agent NAME`` uses the module NAME beside this one. Each has, as far
as its queue can: ``push(n)`` one at a time, ``push_batches(n, size)``, ``push_marks(n, pause)``, all
coroutines or functions; ``WORKER``, the words after ``python`` that run a worker; ``enqueue(k)`` for
a view that is a function, ``enqueue_async(k)`` for one that is a coroutine.
"""

import asyncio
import inspect
import json
import sys
import time
from importlib import import_module


def main() -> None:
    """Execute commands until the input ends."""
    module = import_module(f"tests.benchmarks.peers.{sys.argv[1]}")
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        function = getattr(module, name, None)
        if function is None:
            answer: dict[str, object] = {"missing": name}
        elif not callable(function):
            answer = {"value": function}
        else:
            cpu, start = time.process_time(), time.perf_counter()
            value = function(*arguments)
            if inspect.isawaitable(value):
                value = loop.run_until_complete(_awaited(value))
            seconds = time.perf_counter() - start
            answer = {"seconds": seconds, "cpu": time.process_time() - cpu, "value": value}
        print(json.dumps(answer), flush=True)


async def _awaited(value: object) -> object:
    return await value if inspect.isawaitable(value) else value


if __name__ == "__main__":
    main()
