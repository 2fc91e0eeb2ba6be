"""Measure the steps of hot paths separately: where the last microseconds are."""

import json
import os
from collections.abc import Callable, Mapping
from contextvars import copy_context
from itertools import count
from time import monotonic, perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table
from werkzeug.wsgi import ClosingIterator

from alligator import Gator, Task, Transaction
from alligator._runtime.ids import new_id
from alligator.backends.base import Outcome
from alligator.commits.deferred import OutgoingTask
from alligator.constants import MAX_TASKS
from alligator.execution.attempt import attempt
from alligator.payload.arguments import lower
from alligator.payload.encoding import encode
from alligator.payload.envelope import NO_OPTIONS, Envelope
from alligator.tasks.stored_options import write_options
from alligator.telemetry.propagation import carry
from asgi_alligator.middleware import AlligatorMiddleware as AsgiMiddleware
from asgi_alligator.middleware import CommitAtStart as AsgiResponse
from tests.benchmarks.bench import Bench
from tests.benchmarks.peers import micro
from wsgi_alligator.middleware import AlligatorMiddleware as WsgiMiddleware
from wsgi_alligator.middleware import CommitAtStart as WsgiResponse

ROUNDS, CALLS = 200, 100

Steps = Mapping[str, Callable[[], object]]


def measured(steps: Steps) -> dict[str, float]:
    """Return the µs of each step: the least of many rounds, in which the steps take turns."""
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(ROUNDS):
        for name, step in steps.items():
            start = perf_counter()
            for _ in range(CALLS):
                step()
            best[name] = min(best[name], perf_counter() - start)
    return {name: seconds / CALLS * 1e6 for name, seconds in best.items()}


def of_a_task(gator: Gator) -> Steps:
    """Return the steps of a task that a transaction holds, the whole first; begins one for that."""
    func, args, kwargs = micro.send_mail, micro.ARGUMENTS, micro.KEYWORDS
    task = Task()
    task.to_call(func, *args, **kwargs)
    data = task.serialize()
    names = ("tests.benchmarks.peers.micro", "send_mail")
    fields = json.loads(data)
    transaction = Transaction(gator, {}).begin(None)

    def packed(func: object, *args: object, **kwargs: object) -> None:
        pass

    def whole() -> None:
        gator.task(func, *args, **kwargs)
        transaction.deferred.cut(0)

    def envelope() -> Envelope:
        return Envelope(
            *(task.task_id, 0, True, *names, args, kwargs, NO_OPTIONS),
            *(task.headers, 1, "", None, None),
        )

    made = envelope()

    def message() -> OutgoingTask:
        outgoing = OutgoingTask("all", task.task_id, data, 0.0, 0, None, False)
        outgoing.task = task
        return outgoing

    sent = message()

    def hold() -> None:
        transaction.deferred.add(sent)
        transaction.deferred.cut(0)

    return {
        "the whole": whole,
        "pack its arguments for one call in Python": lambda: packed(func, *args, **kwargs),
        "make its id": new_id,
        "make the object, with its id": Task,
        "check the arguments against the signature": lambda: task.to_call(func, *args, **kwargs),
        "look for a trace and a request id": lambda: carry(task, "all"),
        "check that JSON keeps the arguments": lambda: lower(func, args, kwargs),
        "look for options that are set": lambda: write_options(task),
        "make the envelope": envelope,
        "write it as JSON": lambda: encode(made),
        "make the message": message,
        "hold it, with its lock and its limits": hold,
        "for comparison: json.dumps of the payload": lambda: json.dumps(fields),
    }


def of_a_request(gator: Gator) -> Steps:
    """Return the steps of a request without a task."""
    scope: dict[str, Any] = {"type": "http"}

    def transaction() -> Transaction:
        return Transaction(gator, {}, scope)

    def begun() -> Transaction:
        began = Transaction(gator, {}, scope).begin(None)
        began.leave()
        return began

    def app(*_: object) -> Any:
        return []

    asgi, wsgi = AsgiMiddleware(app, gator), WsgiMiddleware(app, gator)
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET"}
    pending = WsgiResponse(wsgi, [transaction()], environ, app)

    def chunk() -> None:
        pending._started, pending.has_ended = ("200 OK", []), False
        pending.read_first_chunk(ClosingIterator(iter([b"ok"]), []))

    return {
        "make a transaction": transaction,
        "the same, and enter and leave its context": begun,
        "the same, and find that it holds nothing": lambda: begun().end_if_empty(),
        "ASGI: make the response": lambda: AsgiResponse(asgi, [], scope, app),
        "WSGI: make the response": lambda: WsgiResponse(wsgi, [], environ, app),
        "WSGI: make the body of werkzeug, and read a chunk": lambda: next(
            iter(ClosingIterator(iter([b"ok"]), []))
        ),
        "WSGI: the same before the response begins": chunk,
    }


def of_a_push(gator: Gator) -> Steps:
    """Return the steps of a push to Redis, the whole first."""
    connections = gator.client._connections  # type: ignore[attr-defined]

    def acquire() -> None:
        connections.release(connections.acquire(monotonic() + 5))

    connection = connections.acquire(monotonic() + 5)
    connections.release(connection)

    def ping() -> None:
        deadline = monotonic() + 5
        connection.send(b"*1\r\n$4\r\nPING\r\n", deadline)
        connection.receive(deadline)

    return {
        "the whole": lambda: gator.task(micro.send_mail, *micro.ARGUMENTS, **micro.KEYWORDS),
        "send a PING on an open socket, and read the reply": ping,
        "take a connection, and see that it is still open": acquire,
        "ask for the process id, which a fork changes": os.getpid,
    }


def of_a_run(gator: Gator) -> Steps:
    """Return the steps of a worker that runs a task; fills the queue for that."""
    client = gator.client
    for _ in range((ROUNDS + 1) * CALLS // MAX_TASKS + 1):
        with gator.transaction():
            for _ in range(MAX_TASKS):
                gator.task(micro.send_mail, *micro.ARGUMENTS, **micro.KEYWORDS)
    [lease] = client.step([gator.queue_name], 1).leases
    task = gator.read(lease)
    done: list[Outcome] = []
    calls = count(1)

    def reserve() -> None:
        nonlocal done
        if next(calls) % CALLS == 0:
            step = client.step([gator.queue_name], CALLS, outcomes=done)
            done = [Outcome("ack", lease) for lease in step.leases]

    return {
        "reserve a hundred and acknowledge a hundred, for each": reserve,
        "read the payload": lambda: gator.read(lease),
        "see that the function takes the arguments": task.check_call,
        "call the function": lambda: gator.run(task),
        "the same, and decide the outcome": lambda: attempt(gator, lease, task=task),
        "for comparison: json.loads of the payload": lambda: json.loads(lease.data),
    }


def _measured(steps_of: Callable[[Gator], Steps], gator: Gator) -> dict[str, float]:
    return measured(steps_of(gator))


def show(bench: Bench, console: Console) -> None:
    """Print a table of the steps of each path."""
    with Gator(bench.redis.dsn, "bench") as gator:
        gator.client.ping()
        paths = {
            "a task in a transaction": of_a_task,
            "a request without a task": of_a_request,
            "a single push": of_a_push,
            "a task that a worker runs": of_a_run,
        }
        for title, steps_of in paths.items():
            table = Table(title, "µs")
            found = copy_context().run(_measured, steps_of, gator)
            for name, micros in found.items():
                table.add_row(name, f"{micros:.2f}")
            console.print(table)
        gator.client.drop_all("bench")
