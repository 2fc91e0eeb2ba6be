"""Run tasks for a worker in a process of their own: as they come, until there are no more."""

import faulthandler
import json
import os
import socket
import struct
import sys
from contextlib import suppress
from typing import Any

from .attempts import MAX_REASON, Attempt, Runs, attempt, bury, fail
from .backends.base import Lease
from .exceptions import TaskCrashed, TaskTimeout
from .nursery import set_limits
from .tracing import carried, flush_spans

MAX_RESULT = 64 * 1024
"""How long a result may be, as JSON, to reach `Worker.result` as it is."""

LENGTH = struct.Struct("!I")
"""What stands before each message between a worker and its processes."""


def serve(gator: Runs, channel: socket.socket, trace: int, memory: int | None) -> None:
    """Run tasks as they come, until the worker has no more or is gone."""
    faulthandler.enable(trace, all_threads=False)
    set_limits(memory)
    with suppress(ConnectionError):
        _serve_all(gator, channel, trace)
    flush_spans()


def _serve_all(gator: Runs, channel: socket.socket, trace: int) -> None:
    while (request := receive(channel)) is not None:
        send(channel, {})
        if request.get("dump"):
            faulthandler.dump_traceback_later(request["dump"], file=trace)
        answer = _answer(gator, Lease(*request["lease"]), request.get("failed"))
        if request.get("dump"):
            faulthandler.cancel_dump_traceback_later()
            os.ftruncate(trace, 0)
            os.lseek(trace, 0, os.SEEK_SET)
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # a task may have closed it
                stream.flush()
        channel.sendall(answer)


def _answer(gator: Runs, lease: Lease, failed: tuple[bool, str, str] | None) -> bytes:
    done = _attempt(gator, lease, failed)
    try:
        return _packed(_told(done))
    except Exception as error:  # a hook may have changed the task in any way
        return _packed(_told(bury(lease, error)))


def _attempt(gator: Runs, lease: Lease, failed: tuple[bool, str, str] | None) -> Attempt:
    if failed is None:
        return attempt(gator, lease, interruptible=False)
    is_overdue, how, trace = failed
    error = (TaskTimeout if is_overdue else TaskCrashed)(how)
    if trace:
        error.add_note(trace)
    return fail(gator, lease, error)


def _told(done: Attempt) -> dict[str, Any]:
    verdict, _, *more = done.outcome
    task = done.task
    return {
        "outcome": [verdict, *more],
        "seconds": done.seconds,
        "number": done.number,
        "reason": done.reason,
        "headers": carried(task.headers) if task is not None else {},
        "result": _sendable(task.result) if task is not None else None,
        "spent": isinstance(done.error, MemoryError),
    }


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


def send(channel: socket.socket, message: dict[str, Any]) -> None:
    """Send a message."""
    channel.sendall(_packed(message))


def receive(channel: socket.socket) -> dict[str, Any] | None:
    """Wait for a message; None when there will be no more."""
    head = _exactly(channel, LENGTH.size)
    data = head and _exactly(channel, LENGTH.unpack(head)[0])
    return json.loads(data) if data else None


def _packed(message: dict[str, Any]) -> bytes:
    data = json.dumps(message).encode()
    return LENGTH.pack(len(data)) + data


def _exactly(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = channel.recv(size - len(data))
        if not part:
            return b""
        data += part
    return data
