"""Faults at each byte of an exchange with Redis: cut, stall, delay."""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import count
from threading import enumerate as all_threads
from time import monotonic
from unittest.mock import patch

from alligator import Gator
from alligator.backends import redis_backend
from alligator.backends.base import Client, Commit, Message, Pushed
from alligator.backends.redis_backend import commits as redis_commits
from alligator.exceptions import BackendError
from alligator.workers.threads import WorkerThread
from tests.faults import tasks
from tests.faults.audit import Answer
from tests.faults.catalogue import fault
from tests.faults.harness import LEASE_SECONDS, Broken, Harness, eventually
from tests.faults.proxy import Mishap, Proxy, What

REDIS = ("redis",)

PATIENCE = 20.0
"""How many seconds an attempt may take where nothing is meant to be late."""

CLIENTS = 16
"""How many exchanges run at a time, because a stall is mostly waiting."""

MESSAGES = 3
"""How many tasks a push has, and how many commits of one task a trip has."""

PATIENT_SECONDS = 5.0
"""The lease for tests with many clients, which make each other wait."""


class ProxiedClient:
    """A client behind a proxy of its own."""

    def __init__(
        self, harness: Harness, timeout: float, lease_for: float, numbers: "count[int]"
    ) -> None:
        self.harness = harness
        self.proxy = Proxy(harness.valkey.server)
        self.gator = Gator(f"{self.proxy.dsn}?timeout={timeout}")
        self.client: Client = self.gator.client
        # Hundreds of replies are lost in a row, so the first task of the queue may be lost often.
        self.worker_thread = WorkerThread(self.gator, ["all"], lease_for, 1000)
        self._numbers = numbers

    def close(self) -> None:
        self.proxy.mishaps.clear()
        self.client.close()
        self.proxy.__exit__()

    def meet(self, mishap: Mishap, times: int = 1) -> None:
        """Inject *mishap* into the next connections; each attempt uses one."""
        self.client.close()
        self.proxy.mishaps.clear()
        self.proxy.mishaps.extend([mishap] * times)

    def measure(self, call: Callable[[], object]) -> dict[bool, int]:
        """Return how many bytes *call* sends and receives on a new connection."""
        self.client.close()
        call()
        self.client.close()
        return dict(self.proxy.carried)

    def messages(self, number: int) -> list[Message]:
        """Return new tasks; all names have the same length."""
        name = f"t{next(self._numbers):05}"
        return [Message("all", each, payload(self.gator, each)) for each in named(name, number)]

    def push(self) -> None:
        """Push three tasks, and record whether they were accepted."""
        messages = self.messages(MESSAGES)
        try:
            self.client.push_many(messages, commit_id=f"commit-{messages[0].task_id}")
        except BackendError:
            self.note(messages, 503)
        else:
            self.note(messages, 201)

    def push_commits(self) -> None:
        """Push three commits in one trip, and record which were accepted."""
        commits = self.commits()
        self.note_each(commits, self.client.push_commits(commits))

    def apush_commits(self) -> None:
        """Asynchronous version of `push_commits`, in a new event loop."""
        commits = self.commits()
        self.note_each(commits, asyncio.run(self.client.apush_commits(commits)))

    def commits(self) -> list[Commit]:
        messages = self.messages(MESSAGES)
        return [Commit([message], f"commit-{message.task_id}") for message in messages]

    def feed(self, number: int) -> None:
        """Push tasks without the proxy."""
        messages = self.messages(number)
        self.harness.gator.client.push_many(messages)
        self.note(messages, 201)

    def note(self, messages: Iterable[Message], status: int) -> None:
        ids = tuple(message.task_id for message in messages)
        self.harness.audit_log.answers.append(Answer(ids, status))

    def note_each(self, commits: Iterable[Commit], pushed: Iterable[Pushed]) -> None:
        for commit, each in zip(commits, pushed, strict=True):
            self.note(commit.messages, 503 if isinstance(each, Exception) else 201)

    def take(self) -> bool:
        """Run the next task, if there is one."""
        lease = self.worker_thread.next(1)
        if lease is not None:
            self.worker_thread.run(lease)
        return lease is not None

    def run_all(self) -> None:
        """Run all tasks that are ready."""
        while self.take():
            pass


def named(name: str, number: int) -> Iterator[str]:
    return (f"{name}-{each}" for each in range(number))


def payload(gator: Gator, name: str) -> str:
    """Return the payload of a task."""
    task = gator.task_class(name)
    task.to_call(tasks.record)
    return gator.guard.write(task, gator.queue_name)


@contextmanager
def opened(harness: Harness, clients: int, timeout: float = 1.0) -> Iterator[list[ProxiedClient]]:
    """Open this number of clients."""
    lease_for = PATIENT_SECONDS if clients > 1 else LEASE_SECONDS
    numbers = count()
    with ExitStack() as stack:
        yield [
            stack.enter_context(closing(ProxiedClient(harness, timeout, lease_for, numbers)))
            for _ in range(clients)
        ]


def places(harness: Harness, what: What, size: dict[bool, int]) -> list[Mishap]:
    """Return a mishap for each byte of an exchange of that size, or for some bytes."""
    up = [Mishap(True, after, what) for after in range(size[True] + 1)]
    back = [Mishap(False, after, what) for after in range(size[False])]
    harness.notes.append(f"an exchange is {size[True]} bytes and {size[False]} bytes back")
    if harness.exhaustive:
        return up + back
    # The end of the way back, for there the server knows what the client does not.
    return harness.random.sample(up, 30) + back[-20:]


def share(
    harness: Harness,
    clients: list[ProxiedClient],
    mishaps: list[Mishap],
    inject: Callable[[ProxiedClient, Mishap], None],
) -> None:
    """Distribute the mishaps over the clients."""

    def inject_all(number: int) -> None:
        for mishap in mishaps[number :: len(clients)]:
            inject(clients[number], mishap)

    harness.injections += len(mishaps)
    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(inject_all, range(len(clients))))


# Pushes.


def push_at_every_byte(
    harness: Harness,
    what: What,
    times: Iterable[int] = (1,),
    timeout: float = 1.0,
    push: Callable[[ProxiedClient], None] = ProxiedClient.push,
) -> None:
    """Push with a mishap at each byte, for these numbers of attempts; then check the result."""
    with ExitStack() as stack:
        if what != "stall":  # nothing runs out of time: a busy machine may be slow
            timeout = PATIENCE
            stack.enter_context(patch.object(redis_commits, "COMMIT_SECONDS", 2 * PATIENCE))
        clients = stack.enter_context(opened(harness, CLIENTS, timeout))
        first = clients[0]
        push(first)  # teaches the server the script
        first.client.abort("none", [])
        mishaps = places(harness, what, first.measure(lambda: push(first)))
        for often in times:

            def inject(client: ProxiedClient, mishap: Mishap, often: int = often) -> None:
                client.meet(mishap, often)
                push(client)

            share(harness, clients, mishaps, inject)
            if often == 1 and what != "stall":
                check_all_taken(harness)  # for there is a second attempt
        for client in clients:
            client.proxy.mishaps.clear()
        eventually(undone, "what failed is taken back", seconds=20)
    wrong = harness.store.census().keys() ^ harness.audit_log.accepted()
    if wrong:
        raise Broken(f"I1, I2: {len(wrong)} tasks are not as was answered")
    refused = sum(answer.status == 503 for answer in harness.audit_log.answers)
    harness.notes.append(f"{refused} of {len(harness.audit_log.answers)} commits failed")
    harness.mark()
    harness.worker()


def check_all_taken(harness: Harness) -> None:
    if harness.audit_log.refused():
        raise Broken(f"{len(harness.audit_log.refused())} tasks were refused")


def undone() -> bool:
    """Return whether no thread is undoing a push."""
    return not any(thread.name == "alligator-abort" for thread in all_threads())


@fault(*REDIS, quick=True)
def push_cut_at_every_byte(harness: Harness) -> None:
    """Cut a push, and its reply, after each byte: once, also at its retry, also at its undo."""
    push_at_every_byte(harness, "cut", (1, 2, 3))


@fault(*REDIS)
def push_stalled_at_every_byte(harness: Harness) -> None:
    """Stall a push, and its reply, after each byte: once, also at its retry, also at its undo."""
    # No need to wait as long as in earnest for what never comes.
    with patch.object(redis_commits, "COMMIT_SECONDS", 0.3):
        push_at_every_byte(harness, "stall", (1, 2, 3), timeout=0.1)


@fault(*REDIS)
def push_delayed_at_every_byte(harness: Harness) -> None:
    """Delay a push, and its reply, after each byte: all succeed."""
    push_at_every_byte(harness, "delay")


# Trips of several commits, each with an outcome of its own.


@fault(*REDIS)
def commits_cut_at_every_byte(harness: Harness) -> None:
    """Cut a trip of three commits, and its replies, after each byte: the same number of times."""
    push_at_every_byte(harness, "cut", (1, 2, 3), push=ProxiedClient.push_commits)


@fault(*REDIS)
def commits_stalled_at_every_byte(harness: Harness) -> None:
    """Stall a trip of three commits, and its replies, after each byte: the same number of times."""
    with patch.object(redis_commits, "COMMIT_SECONDS", 0.3):
        push_at_every_byte(
            harness, "stall", (1, 2, 3), timeout=0.1, push=ProxiedClient.push_commits
        )


@fault(*REDIS)
def commits_delayed_at_every_byte(harness: Harness) -> None:
    """Delay a trip of three commits, and its replies, after each byte."""
    push_at_every_byte(harness, "delay", push=ProxiedClient.push_commits)


@fault(*REDIS, quick=True)
def loop_commits_cut_at_every_byte(harness: Harness) -> None:
    """Cut such a trip of an event loop, which has one attempt more than a thread."""
    push_at_every_byte(harness, "cut", (1, 2, 3, 4), push=ProxiedClient.apush_commits)


@fault(*REDIS)
def loop_commits_stalled_at_every_byte(harness: Harness) -> None:
    """Stall such a trip of an event loop, and its replies, after each byte."""
    with patch.object(redis_commits, "COMMIT_SECONDS", 0.4):
        push_at_every_byte(
            harness, "stall", (1, 2, 3, 4), timeout=0.1, push=ProxiedClient.apush_commits
        )


@fault(*REDIS)
def loop_commits_delayed_at_every_byte(harness: Harness) -> None:
    """Delay such a trip of an event loop, and its replies, after each byte."""
    push_at_every_byte(harness, "delay", push=ProxiedClient.apush_commits)


# Steps.


def wait_at_every_byte(harness: Harness, what: What, clients: int, timeout: float = 1.0) -> None:
    """Inject a mishap at each byte of an idle worker's wait and of the step after it."""
    os.environ["LEDGER"] = str(harness.audit_log.ledger)
    with opened(harness, clients, timeout) as opened_clients:

        def wait(client: ProxiedClient) -> None:
            client.worker_thread.wait(1)

        first = opened_clients[0]
        first.feed(1)
        first.run_all()  # teaches the server the script
        first.feed(1)
        mishaps = places(harness, what, first.measure(lambda: wait(first)))

        def inject(client: ProxiedClient, mishap: Mishap) -> None:
            client.run_all()  # what was lost before, and until the client is idle
            client.feed(1)
            client.meet(mishap)
            with suppress(BackendError):
                wait(client)
            client.meet(mishap, 0)  # if there was less to carry than that, it is over, too

        share(harness, opened_clients, mishaps, inject)
        finish(harness, opened_clients)


def finish(harness: Harness, clients: list[ProxiedClient]) -> None:
    """Run the remaining tasks, some after their lease has expired."""
    harness.mark()
    for client in clients:
        client.run_all()  # which also reports what it has run
    end = monotonic() + 2 * PATIENT_SECONDS
    while harness.store.census() and monotonic() < end:
        with suppress(BackendError):  # the machine stalled for longer than a reply may take
            clients[0].worker_thread.wait(1)
            clients[0].run_all()
    harness.notes.append(f"{harness.gator.stats().lost} leases expired after a lost reply")


def step_at_every_byte(harness: Harness, what: What, clients: int, timeout: float = 1.0) -> None:
    """Inject a mishap at each byte of a worker's step, and run the remaining tasks."""
    os.environ["LEDGER"] = str(harness.audit_log.ledger)
    with opened(harness, clients, timeout) as opened_clients:
        first = opened_clients[0]
        first.feed(4)
        first.run_all()
        first.feed(2)
        first.take()  # so that the next step has both acks to report and tasks to reserve
        mishaps = places(harness, what, first.measure(first.take))
        first.run_all()
        for client in opened_clients[1:]:  # so that none finds the queue empty
            client.feed(MESSAGES)

        def step(client: ProxiedClient, mishap: Mishap) -> None:
            client.feed(2)
            client.meet(mishap)
            for _ in range(3):
                with suppress(BackendError):
                    client.take()

        share(harness, opened_clients, mishaps, step)
        finish(harness, opened_clients)


@fault(*REDIS, quick=True)
def step_cut_at_every_byte(harness: Harness) -> None:
    """Cut a worker's step, and its reply, after each byte: nothing is lost, acks are repeated."""
    step_at_every_byte(harness, "cut", 1)


@fault(*REDIS)
def step_stalled_at_every_byte(harness: Harness) -> None:
    """Stall a worker's step, and its reply, after each byte: nothing is lost, acks are repeated."""
    with patch.object(redis_backend, "STEP_SECONDS", 0.2):
        step_at_every_byte(harness, "stall", CLIENTS, timeout=0.2)


@fault(*REDIS)
def step_delayed_at_every_byte(harness: Harness) -> None:
    """Delay a worker's step, and its reply, after each byte: this has no effect."""
    step_at_every_byte(harness, "delay", 1)
    check_none_lost(harness)


def check_none_lost(harness: Harness) -> None:
    if harness.gator.stats().lost:
        raise Broken("a worker lost a task")


# The waits of idle workers, each with a step behind it in the same buffer.


@fault(*REDIS, quick=True)
def wait_cut_at_every_byte(harness: Harness) -> None:
    """Cut an idle worker's wait and step, and both replies, after each byte: leases are reclaimed."""
    wait_at_every_byte(harness, "cut", 1)


@fault(*REDIS)
def wait_stalled_at_every_byte(harness: Harness) -> None:
    """Stall an idle worker's wait and step, and both replies, after each byte."""
    with patch.object(redis_backend, "WAIT_SECONDS", 0.1):
        wait_at_every_byte(harness, "stall", CLIENTS, timeout=0.2)


@fault(*REDIS)
def wait_delayed_at_every_byte(harness: Harness) -> None:
    """Delay an idle worker's wait and step, and both replies, after each byte."""
    wait_at_every_byte(harness, "delay", 1)
    check_none_lost(harness)
