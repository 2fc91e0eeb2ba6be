"""What can happen to an exchange with Redis at each of its bytes: a cut, a stall, a delay."""

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
from alligator.backends import redis_backend, redis_pushes
from alligator.backends.base import Client, Commit, Message
from alligator.exceptions import BackendError
from alligator.lanes import Lane
from tests.faults import tasks
from tests.faults.books import Answer
from tests.faults.catalogue import fault
from tests.faults.house import LEASE_SECONDS, Broken, House, eventually
from tests.faults.proxy import Mishap, Proxy, What

REDIS = ("redis",)

LINES = 16
"""How many exchanges go on at a time, for most of a stall is waiting."""

MESSAGES = 3
"""How many tasks a push has here, or a trip of commits that have one each."""

PATIENT_SECONDS = 5.0
"""How long tasks are leased where many lines make each other wait."""


class Line:
    """A client with a network of its own."""

    def __init__(
        self, house: House, timeout: float, lease_for: float, numbers: "count[int]"
    ) -> None:
        self.house = house
        self.proxy = Proxy(house.valkey.server)
        self.gator = Gator(f"{self.proxy.dsn}?timeout={timeout}")
        self.client: Client = self.gator.client
        self.lane = Lane(self.gator, ["all"], lease_for, 5)
        self._numbers = numbers

    def close(self) -> None:
        self.proxy.mishaps.clear()
        self.client.close()
        self.proxy.__exit__()

    def meet(self, mishap: Mishap, times: int = 1) -> None:
        """Let it befall the next connections, of which each attempt has one."""
        self.client.close()
        self.proxy.mishaps.clear()
        self.proxy.mishaps.extend([mishap] * times)

    def measure(self, call: Callable[[], object]) -> dict[bool, int]:
        """Make a call on a connection of its own, and tell how many bytes it takes, up and back."""
        self.client.close()
        call()
        self.client.close()
        return dict(self.proxy.carried)

    def messages(self, number: int) -> list[Message]:
        """Make new tasks, with names of the same length each time."""
        name = f"t{next(self._numbers):05}"
        return [Message("all", each, payload(self.gator, each)) for each in named(name, number)]

    def push(self) -> None:
        """Push three tasks, and write down whether they were taken."""
        messages = self.messages(MESSAGES)
        try:
            self.client.push_many(messages, commit_id=f"commit-{messages[0].task_id}")
        except BackendError:
            self.note(messages, 503)
        else:
            self.note(messages, 201)

    def push_commits(self) -> None:
        """Push three commits in one trip, and write down which were taken."""
        commits = self.commits()
        self.note_each(commits, self.client.push_commits(commits))

    def apush_commits(self) -> None:
        """Do so beside an event loop."""
        commits = self.commits()
        self.note_each(commits, asyncio.run(self.client.apush_commits(commits)))

    def commits(self) -> list[Commit]:
        messages = self.messages(MESSAGES)
        return [Commit([message], f"commit-{message.task_id}") for message in messages]

    def feed(self, number: int) -> None:
        """Push tasks past the network."""
        messages = self.messages(number)
        self.house.gator.client.push_many(messages)
        self.note(messages, 201)

    def note(self, messages: Iterable[Message], status: int) -> None:
        ids = tuple(message.task_id for message in messages)
        self.house.books.answers.append(Answer(ids, status))

    def note_each(self, commits: Iterable[Commit], errors: Iterable[Exception | None]) -> None:
        for commit, error in zip(commits, errors, strict=True):
            self.note(commit.messages, 201 if error is None else 503)

    def take(self) -> bool:
        """Run the next task, if there is one."""
        lease = self.lane.next(1)
        if lease is not None:
            self.lane.run(lease)
        return lease is not None

    def run_all(self) -> None:
        """Run what there is."""
        while self.take():
            pass


def named(name: str, number: int) -> Iterator[str]:
    return (f"{name}-{each}" for each in range(number))


def payload(gator: Gator, name: str) -> str:
    """Write a task as the store keeps it."""
    task = gator.task_class(name)
    task.to_call(tasks.record)
    return gator.write(task, gator.queue_name)


@contextmanager
def opened(house: House, lines: int, timeout: float = 1.0) -> Iterator[list[Line]]:
    """Open so many lines to the store."""
    lease_for = PATIENT_SECONDS if lines > 1 else LEASE_SECONDS
    numbers = count()
    with ExitStack() as stack:
        yield [
            stack.enter_context(closing(Line(house, timeout, lease_for, numbers)))
            for _ in range(lines)
        ]


def places(house: House, what: What, size: dict[bool, int]) -> list[Mishap]:
    """List the places in an exchange of that size: all of them, or some."""
    up = [Mishap(True, after, what) for after in range(size[True] + 1)]
    back = [Mishap(False, after, what) for after in range(size[False])]
    house.notes.append(f"an exchange is {size[True]} bytes and {size[False]} back")
    if house.thorough:
        return up + back
    # The end of the way back, for there the server knows what the client does not.
    return house.random.sample(up, 30) + back[-20:]


def share(
    house: House, lines: list[Line], mishaps: list[Mishap], suffer: Callable[[Line, Mishap], None]
) -> None:
    """Let each line suffer its share of the mishaps."""

    def suffer_all(number: int) -> None:
        for mishap in mishaps[number :: len(lines)]:
            suffer(lines[number], mishap)

    house.strikes += len(mishaps)
    with ThreadPoolExecutor(len(lines)) as pool:
        list(pool.map(suffer_all, range(len(lines))))


# Pushes.


def push_at_every_byte(
    house: House,
    what: What,
    times: Iterable[int] = (1,),
    timeout: float = 1.0,
    push: Callable[[Line], None] = Line.push,
) -> None:
    """Push through a mishap at each byte, which befalls so many attempts; then compare."""
    with opened(house, LINES, timeout) as lines:
        first = lines[0]
        push(first)  # teaches the server the script
        first.client.abort("none", [])
        mishaps = places(house, what, first.measure(lambda: push(first)))
        for often in times:

            def suffer(line: Line, mishap: Mishap, often: int = often) -> None:
                line.meet(mishap, often)
                push(line)

            share(house, lines, mishaps, suffer)
            if often == 1 and what != "stall":  # then a busy machine may be too slow
                check_all_taken(house)  # for there is a second attempt
        for line in lines:
            line.proxy.mishaps.clear()
        eventually(undone, "what failed is taken back", seconds=20)
    wrong = house.store.census().keys() ^ house.books.accepted()
    if wrong:
        raise Broken(f"I1, I2: {len(wrong)} tasks are not as was answered")
    refused = sum(answer.status == 503 for answer in house.books.answers)
    house.notes.append(f"{refused} of {len(house.books.answers)} commits failed")
    house.mark()
    house.worker()


def check_all_taken(house: House) -> None:
    if house.books.refused():
        raise Broken(f"{len(house.books.refused())} tasks were refused")


def undone() -> bool:
    """Whether no thread has anything left to take back."""
    return not any(thread.name == "alligator-abort" for thread in all_threads())


@fault(*REDIS, quick=True)
def push_cut_at_every_byte(house: House) -> None:
    """Cut a push, and its reply, after each byte: once, with its second attempt, with its undoing."""
    push_at_every_byte(house, "cut", (1, 2, 3))


@fault(*REDIS)
def push_stalled_at_every_byte(house: House) -> None:
    """Let a push, and its reply, get no further than each byte: once, twice, with its undoing."""
    # No need to wait as long as in earnest for what never comes.
    with patch.object(redis_pushes, "COMMIT_SECONDS", 0.3):
        push_at_every_byte(house, "stall", (1, 2, 3), timeout=0.1)


@fault(*REDIS)
def push_delayed_at_every_byte(house: House) -> None:
    """Let a push, and its reply, stop for a moment after each byte: all of them succeed."""
    push_at_every_byte(house, "delay")


# Trips of several commits, each with an outcome of its own.


@fault(*REDIS)
def commits_cut_at_every_byte(house: House) -> None:
    """Cut a trip of three commits, and its replies, after each byte: once, twice, with its undoing."""
    push_at_every_byte(house, "cut", (1, 2, 3), push=Line.push_commits)


@fault(*REDIS)
def commits_stalled_at_every_byte(house: House) -> None:
    """Let a trip of three commits, and its replies, get no further than each byte: just so often."""
    with patch.object(redis_pushes, "COMMIT_SECONDS", 0.3):
        push_at_every_byte(house, "stall", (1, 2, 3), timeout=0.1, push=Line.push_commits)


@fault(*REDIS)
def commits_delayed_at_every_byte(house: House) -> None:
    """Let a trip of three commits, and its replies, stop for a moment after each byte."""
    push_at_every_byte(house, "delay", push=Line.push_commits)


@fault(*REDIS, quick=True)
def loop_commits_cut_at_every_byte(house: House) -> None:
    """Cut such a trip beside an event loop, which has one more attempt than a thread."""
    push_at_every_byte(house, "cut", (1, 2, 3, 4), push=Line.apush_commits)


@fault(*REDIS)
def loop_commits_stalled_at_every_byte(house: House) -> None:
    """Let such a trip beside an event loop, and its replies, get no further than each byte."""
    with patch.object(redis_pushes, "COMMIT_SECONDS", 0.4):
        push_at_every_byte(house, "stall", (1, 2, 3, 4), timeout=0.1, push=Line.apush_commits)


@fault(*REDIS)
def loop_commits_delayed_at_every_byte(house: House) -> None:
    """Let such a trip beside an event loop, and its replies, stop for a moment after each byte."""
    push_at_every_byte(house, "delay", push=Line.apush_commits)


# Steps.


def wait_at_every_byte(house: House, what: What, lines: int, timeout: float = 1.0) -> None:
    """Have idle workers' waits, with the step behind each, suffer a mishap at each byte."""
    os.environ["LEDGER"] = str(house.books.ledger)
    with opened(house, lines, timeout) as opened_lines:

        def wait(line: Line) -> None:
            line.lane.wait(1)

        first = opened_lines[0]
        first.feed(1)
        first.run_all()  # teaches the server the script
        first.feed(1)
        mishaps = places(house, what, first.measure(lambda: wait(first)))

        def suffer(line: Line, mishap: Mishap) -> None:
            line.run_all()  # what was lost before, and until the lane is idle
            line.feed(1)
            line.meet(mishap)
            with suppress(BackendError):
                wait(line)
            line.meet(mishap, 0)  # if there was less to carry than that, it is over, too

        share(house, opened_lines, mishaps, suffer)
        finish(house, opened_lines)


def finish(house: House, lines: list[Line]) -> None:
    """Run what is left, some of it when its lease has ended."""
    house.mark()
    for line in lines:
        line.run_all()  # which also reports what it has run
    end = monotonic() + 2 * PATIENT_SECONDS
    while house.store.census() and monotonic() < end:
        with suppress(BackendError):  # the machine stalled for longer than a reply may take
            lines[0].lane.wait(1)
            lines[0].run_all()
    house.notes.append(f"{house.gator.stats().lost} leases ended unheard of")


def step_at_every_byte(house: House, what: What, lines: int, timeout: float = 1.0) -> None:
    """Have workers' steps suffer a mishap at each byte, and run what there is in the end."""
    os.environ["LEDGER"] = str(house.books.ledger)
    with opened(house, lines, timeout) as opened_lines:
        first = opened_lines[0]
        first.feed(4)
        first.run_all()
        first.feed(2)
        first.take()  # so that the next step has both acks to report and tasks to reserve
        mishaps = places(house, what, first.measure(first.take))
        first.run_all()
        for line in opened_lines[1:]:  # so that none finds the queue empty
            line.feed(MESSAGES)

        def step(line: Line, mishap: Mishap) -> None:
            line.feed(2)
            line.meet(mishap)
            for _ in range(3):
                with suppress(BackendError):
                    line.take()

        share(house, opened_lines, mishaps, step)
        finish(house, opened_lines)


@fault(*REDIS, quick=True)
def step_cut_at_every_byte(house: House) -> None:
    """Cut a worker's step after each of its bytes, and its reply: nothing is lost, acks are repeated."""
    step_at_every_byte(house, "cut", 1)


@fault(*REDIS)
def step_stalled_at_every_byte(house: House) -> None:
    """Let a worker's step, and its reply, get no further than each byte: the same holds."""
    with patch.object(redis_backend, "STEP_SECONDS", 0.2):
        step_at_every_byte(house, "stall", LINES, timeout=0.2)


@fault(*REDIS)
def step_delayed_at_every_byte(house: House) -> None:
    """Let a worker's step, and its reply, stop for a moment after each byte: nobody notices."""
    step_at_every_byte(house, "delay", 1)
    check_none_lost(house)


def check_none_lost(house: House) -> None:
    if house.gator.stats().lost:
        raise Broken("a worker lost a task")


# The waits of idle workers, each with a step behind it in the same buffer.


@fault(*REDIS, quick=True)
def wait_cut_at_every_byte(house: House) -> None:
    """Cut an idle worker's wait and step, and both replies, after each byte: leases bring all back."""
    wait_at_every_byte(house, "cut", 1)


@fault(*REDIS)
def wait_stalled_at_every_byte(house: House) -> None:
    """Let an idle worker's wait and step, and both replies, get no further than each byte."""
    with patch.object(redis_backend, "WAIT_SECONDS", 0.1):
        wait_at_every_byte(house, "stall", LINES, timeout=0.2)


@fault(*REDIS)
def wait_delayed_at_every_byte(house: House) -> None:
    """Let an idle worker's wait and step, and both replies, stop for a moment after each byte."""
    wait_at_every_byte(house, "delay", 1)
    check_none_lost(house)
