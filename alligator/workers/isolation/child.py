"""The process of isolated tasks: run the tasks that the worker sends until it sends no more."""

import faulthandler
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from math import inf
from typing import TYPE_CHECKING, Any

from ..._runtime import streams
from ..._runtime.failures import describe
from ..._runtime.forks import run_in_forked_child
from ..._runtime.home_loop import LazyLoop, home
from ..._runtime.log import log
from ..._runtime.remote_errors import pack as pack_error
from ...backends.base import Lease
from ...exceptions import TaskCrashed, TaskTimeout
from ...execution.attempt import (
    MAX_REASON,
    Attempt,
    LeaseEnded,
    TaskRunner,
    attempt,
    bury,
    fail,
)
from ...execution.lease_ends import clock
from ...gator import Gator
from ...tasks.decisions import Snooze
from ...telemetry.propagation import carried, flush_spans
from .messages import Message, pack, receive, send

if TYPE_CHECKING:
    from ..event_loop import IsolatedLoop

MAX_RESULT = 64 * 1024
"""Maximum length of a result as JSON; `Worker.result` gets the repr of a longer one."""


def serve(
    gator: Gator, channel: socket.socket, trace: int, memory: int | None, loop_kind: str
) -> None:
    """Run the tasks that arrive on *channel* until it is closed; write crashes to the file *trace*.

    Coroutines run on one event loop of that kind, on which the lifespan of *gator* is entered.
    """
    faulthandler.enable(trace, all_threads=False)
    set_limits(memory)

    @run_in_forked_child
    def close_channel() -> None:
        """Keep a process that a task forks from sending answers on the channel."""
        channel.close()
        faulthandler.disable()

    with suppress(ConnectionError), _loop_running(gator, loop_kind) as lasts:
        _serve_all(gator, channel, trace, lasts)
    flush_spans()


@contextmanager
def _loop_running(gator: Gator, kind: str) -> Iterator[Callable[[], bool]]:
    """Run coroutines on one event loop in the block; inside the lifespan of *gator*, if it has one.

    Yields a function that returns whether that lifespan lasts.
    """
    made: list[IsolatedLoop] = []

    def make() -> "IsolatedLoop":
        from ..event_loop import IsolatedLoop  # loads asyncio

        loop = IsolatedLoop(gator, kind)
        made.append(loop)
        return loop

    if gator.lifespan is None:
        home.set(LazyLoop(make))
    else:
        loop = make()
        home.set(loop)
        try:
            loop.enter()
        except Exception as error:
            log.error(
                "the lifespan cannot start in a process for isolated tasks: %s",
                describe(error),
                exc_info=error,
            )
            raise SystemExit(1) from error
    try:
        yield lambda: all(loop.lifespan_failure() is None for loop in made)
    finally:
        for loop in made:
            try:
                loop.leave()
            except BaseException as error:
                log.error(
                    "the lifespan did not end as it should in a process for isolated tasks: %s",
                    describe(error),
                    exc_info=error,
                )


def _serve_all(
    gator: TaskRunner, channel: socket.socket, trace: int, lasts: Callable[[], bool]
) -> None:
    pid = os.getpid()
    # Once the lifespan has ended, another process with a new one runs the next task.
    while lasts() and (request := receive(channel)) is not None:
        nonce = {"nonce": request["nonce"]}
        send(channel, nonce)
        if "lease" not in request:  # the worker only waits until the lifespan was entered
            send(channel, nonce)
            continue
        if "dump" in request:
            faulthandler.dump_traceback_later(request["dump"], file=trace)
        answer = _answer(gator, request, nonce)
        if os.getpid() != pid:  # the task has forked, and returned in the new process, too
            streams.exit_now(0)
        if "dump" in request:
            faulthandler.cancel_dump_traceback_later()
            os.ftruncate(trace, 0)
            os.lseek(trace, 0, os.SEEK_SET)
        streams.flush()
        channel.sendall(answer)


def _answer(gator: TaskRunner, request: Message, nonce: dict[str, Any]) -> bytes:
    lease = Lease(*request["lease"])
    try:
        done = _attempt(gator, lease, request.get("failed"), request.get("until", inf))
    except LeaseEnded:
        return pack({"ended": True, **nonce})
    try:
        return pack({**_fields(done), **nonce})
    except Exception as error:  # the task or a hook may have changed the task
        return pack({**_fields(bury(lease, error)), **nonce})


def _attempt(
    gator: TaskRunner, lease: Lease, failed: tuple[bool, str, str] | None, until: float
) -> Attempt:
    if failed is None:
        # A copy of the context: no variable that a task sets is visible to the next task.
        return copy_context().run(
            attempt, gator, lease, interruptible=False, holds=lambda _: clock() < until
        )
    is_overdue, how, trace = failed
    error = (TaskTimeout if is_overdue else TaskCrashed)(how)
    if trace:
        error.add_note(trace)
    return fail(gator, lease, error)


def _fields(done: Attempt) -> Message:
    verdict, _, *more = done.outcome
    task = done.task
    return {
        "outcome": [verdict, *more],
        "seconds": done.seconds,
        "number": done.number,
        "reason": done.reason,
        "headers": carried(task.headers) if task is not None else {},
        "result": _sendable(task.result) if task is not None else None,
        "snoozes": isinstance(done.error, Snooze),
        "out_of_memory": isinstance(done.error, MemoryError),
        "error": _packed_error(done),
    }


def _packed_error(done: Attempt) -> Message | None:
    """Return the error of a dead task for the log of the worker; None if it cannot be packed."""
    if done.error is None or done.outcome.verdict != "dead":
        return None
    try:
        return pack_error(done.error)
    except BaseException:  # __str__ and the like are code of the application
        return None


def _sendable(result: object) -> object:
    if result is None:
        return None
    try:
        if len(json.dumps(result)) <= MAX_RESULT:
            return result
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return repr(result)[:MAX_REASON]
    except Exception:
        return type(result).__name__


def set_limits(memory: int | None) -> None:
    """Make this process die with its parent and before the worker; limit it to *memory* more MiB."""
    if sys.platform == "linux":
        parent = os.getppid()
        _die_with_parent()
        if os.getppid() != parent:
            os._exit(1)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    if memory is not None:
        import resource

        used = _address_space()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = used + memory * 1024 * 1024
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _die_with_parent() -> None:
    from ctypes import CDLL

    set_death_signal = 1
    CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def _address_space() -> int:
    """Return the size of this process's address space in bytes; 0 if the system does not show it."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
