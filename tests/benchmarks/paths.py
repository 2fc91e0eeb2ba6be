"""Count the functions and files that a task passes on its way to the store."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

import alligator
import asgi_alligator
from alligator import Gator
from asgi_alligator import AlligatorMiddleware as AsgiMiddleware
from tests.benchmarks.bench import Bench
from tests.benchmarks.peers import micro
from wsgi_alligator import AlligatorMiddleware as WsgiMiddleware

OURS = tuple(str(Path(str(each.__file__)).parents[1]) for each in (alligator, asgi_alligator))
"""The folders of our packages: those in `alligator/`, and those in `integrations/`."""

WARM_UP = 20
"""How often a path is taken before it is counted."""

GOALS = {"ASGI request, 1 task": (60, 12), "gator.task": (40, 9)}
"""How many functions, in how many files, a path should take at most."""


RESUMED = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR


class Steps(NamedTuple):
    """What a path takes."""

    calls: int
    functions: int
    """How many different functions; a comprehension belongs to its function."""
    files: int
    names: tuple[str, ...] = ()
    """The functions in the order of their first calls, each with its file."""


class _Recorder:
    """Notes the calls of our functions."""

    def __init__(self) -> None:
        self.calls: list[CodeType] = []
        self._frames: list[FrameType] = []
        """Those that can be resumed."""

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        code = frame.f_code
        if event != "call" or _is_part(code) or not _is_ours(code.co_filename):
            return
        if frame not in self._frames:  # a coroutine that goes on is no new call
            self.calls.append(code)
        if code.co_flags & RESUMED:
            self._frames.append(frame)

    def steps(self) -> Steps:
        distinct = dict.fromkeys(self.calls)
        names = tuple(
            f"{_short(code.co_filename)}: {getattr(code, 'co_qualname', code.co_name)}"
            for code in distinct
        )
        files = {code.co_filename for code in distinct}
        return Steps(len(self.calls), len(distinct), len(files), names)


def _is_part(code: CodeType) -> bool:
    return code.co_name.startswith("<") and code.co_name != "<lambda>"


def _is_ours(filename: str) -> bool:
    return any(
        filename.startswith(f"{root}/{name}")
        for root, name in zip(OURS, ("alligator/", ""), strict=True)
    )


def _short(filename: str) -> str:
    for root in sorted(OURS, key=len, reverse=True):
        filename = filename.removeprefix(f"{root}/")
    return filename


@contextmanager
def recorded() -> Iterator[_Recorder]:
    """Record the calls of our functions in this thread during the block."""
    recorder = _Recorder()
    sys.setprofile(recorder)
    try:
        yield recorder
    finally:
        sys.setprofile(None)


def steps_of(call: Callable[[], object]) -> Steps:
    """Return what *call* takes when it is warm."""
    for _ in range(WARM_UP):
        call()
    with recorded() as recorder:
        call()
    return recorder.steps()


def asteps_of(call: Callable[[], Awaitable[object]]) -> Steps:
    """Asynchronous version of `steps_of`, on an event loop of its own."""

    async def main() -> Steps:
        for _ in range(WARM_UP):
            await call()
        with recorded() as recorder:
            await call()
        return recorder.steps()

    return asyncio.run(main())


def paths(dsn: str) -> dict[str, Steps]:
    """Return what each way to the store at *dsn* takes."""
    gator = Gator(dsn, "bench")

    def push() -> None:
        gator.task(micro.send_mail, *micro.ARGUMENTS, **micro.KEYWORDS)

    def transaction() -> None:
        with gator.transaction():
            push()

    async def atransaction() -> None:
        async with gator.transaction():
            push()

    def wsgi_app(environ: Any, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/task":
            push()
        start_response("200 OK", [])
        return [b""]

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/task":
            push()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    wsgi, asgi = WsgiMiddleware(wsgi_app, gator), AsgiMiddleware(asgi_app, gator)

    def wsgi_request(path: str) -> Callable[[], object]:
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path}
        return lambda: b"".join(wsgi(dict(environ), lambda *_: lambda _: None))

    def asgi_request(path: str) -> Callable[[], Awaitable[object]]:
        async def send(message: Any) -> None:
            pass

        async def receive() -> Any:
            raise AssertionError

        scope = {"type": "http", "method": "GET", "path": path, "headers": []}
        return lambda: asgi(dict(scope), receive, send)

    try:
        return {
            "gator.task": steps_of(push),
            "with gator.transaction(), 1 task": steps_of(transaction),
            "async with gator.transaction(), 1 task": asteps_of(atransaction),
            "WSGI request, 1 task": steps_of(wsgi_request("/task")),
            "WSGI request, no task": steps_of(wsgi_request("/")),
            "ASGI request, 1 task": asteps_of(asgi_request("/task")),
            "ASGI request, no task": asteps_of(asgi_request("/")),
        }
    finally:
        gator.close()


def show(bench: Bench, console: Console) -> None:
    """Print a table of the paths to Redis, and the functions of those that have a goal."""
    found = paths(bench.redis.dsn)
    table = Table("path", "calls", "functions", "files", "goal")
    for name, steps in found.items():
        goal = "{} in {}".format(*GOALS[name]) if name in GOALS else ""
        table.add_row(name, str(steps.calls), str(steps.functions), str(steps.files), goal)
    console.print(table)
    for name in GOALS:
        console.print(f"\n[bold]{name}[/]")
        for each in found[name].names:
            console.print(f"  {each}", highlight=False)
