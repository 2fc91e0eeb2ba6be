"""Every store against one model of a store, in plain Python, over random histories."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar
from uuid import uuid4

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from alligator.backends.base import Client, Lease, Message, Outcome, Verdict

HOUR = 3600.0
MAX_LOST = 2
QUEUES = st.sampled_from(["one", "two"])
IDS = st.sampled_from("abcd")
# The latest lease most often, an old one now and then.
PICK = st.sampled_from([0, 0, 1, 1, 2]) | st.integers(0, 20)


@dataclass
class Entry:
    """What the model knows of a task."""

    data: str
    state: str
    lost: int = 0
    lease: Lease | None = None
    expired: bool = False
    anywhere: bool = False
    since: tuple[int, int] = (0, 0)
    """The call that made it ready, and its place in that call where there is one."""


@dataclass
class Queue:
    """What the model knows of a queue."""

    tasks: dict[str, Entry] = field(default_factory=dict)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("pushed", "succeeded", "failed", "retried", "lost", "canceled", "dropped", "died"), 0
        )
    )

    def ready(self) -> dict[str, Entry]:
        return {task_id: entry for task_id, entry in self.tasks.items() if entry.state == "ready"}


class Store(RuleBasedStateMachine):
    """Do the same to a store and to the model, and compare them.

    No rule depends on how fast it runs: leases and delays are an hour long, or nothing.
    """

    client: ClassVar[Client]

    def __init__(self) -> None:
        super().__init__()
        # All histories share the store, so each has queues and commits of its own.
        self.run = uuid4().hex
        self.queues = {"one": Queue(), "two": Queue()}
        self.leases: list[Lease] = []
        self.commits: set[str] = set()
        self.number = 0

    def put(self, entry: Entry, delay: float = 0.0, place: int = 0) -> None:
        entry.state, entry.lease = "scheduled" if delay else "ready", None
        entry.since, entry.anywhere = (self.number, place), False

    def name(self, queue: str) -> str:
        return f"{queue}-{self.run}"

    def entry(self, lease: Lease) -> tuple[Queue, Entry | None]:
        queue = self.queues[lease.queue_name.partition("-")[0]]
        return queue, queue.tasks.get(lease.task_id)

    @rule(
        messages=st.lists(
            st.tuples(QUEUES, IDS, st.sampled_from([0.0, 0.0, HOUR])), min_size=1, max_size=4
        ),
        commit=st.none() | st.sampled_from("xyz"),
    )
    def push(self, messages: list[tuple[str, str, float]], commit: str | None) -> None:
        self.number += 1
        data = f"data {self.number}"
        self.client.push_many(
            [Message(self.name(queue), task_id, data, delay) for queue, task_id, delay in messages],
            commit_id=commit and commit + self.run,
        )
        if commit in self.commits:
            return
        if commit:
            self.commits.add(commit)
        for place, (name, task_id, delay) in enumerate(messages):
            queue = self.queues[name]
            if task_id not in queue.tasks:
                queue.tasks[task_id] = Entry(data, "")
                self.put(queue.tasks[task_id], delay, place)
                # Nobody pushes a task again while somebody may hold a lease from its last life.
                gone = self.name(name), task_id
                self.leases = [lease for lease in self.leases if lease[:2] != gone]
                queue.counts["pushed"] += 1

    @rule(order=st.permutations(["one", "two"]), limit=st.integers(1, 4), for_ever=st.booleans())
    def reserve(self, order: list[str], limit: int, for_ever: bool) -> None:
        self.number += 1
        lease_for = HOUR if for_ever else 0.0
        step = self.client.step(
            [self.name(queue) for queue in order], limit, lease_for=lease_for, max_lost=MAX_LOST
        )
        for name in order:
            self.reclaim(self.queues[name])
        found = iter(step.leases)
        for name in order:
            self.check_reserved(name, found, limit)
            limit -= min(limit, len(self.queues[name].ready()))
        assert not list(found)
        for lease in step.leases:
            _, entry = self.entry(lease)
            assert entry is not None
            assert (entry.data, entry.lost) == (lease.data, lease.lost)
            entry.state, entry.lease, entry.expired = "leased", lease, not for_ever
            self.leases.append(lease)
        assert step.leases or step.pause > HOUR / 2

    def reclaim(self, queue: Queue) -> None:
        for entry in queue.tasks.values():
            if entry.state == "leased" and entry.expired:
                entry.lost += 1
                queue.counts["lost"] += 1
                self.put(entry)
                entry.anywhere = True
                if entry.lost >= MAX_LOST:
                    entry.state = "dead"
                    queue.counts["died"] += 1

    def check_reserved(self, name: str, found: Iterator[Lease], limit: int) -> None:
        ready = self.queues[name].ready()
        here = list(islice(found, min(limit, len(ready))))
        taken = {lease.task_id: self.entry(lease)[1] for lease in here}
        assert taken.keys() <= ready.keys()
        assert len(taken) == len(here) == min(limit, len(ready))
        # Where a task stands that was released or lost is the store's affair.
        if not any(entry.anywhere for entry in ready.values()):
            since = sorted(entry.since for entry in ready.values())
            assert [entry.since for entry in taken.values() if entry] == since[: len(here)]

    @precondition(lambda self: self.leases)
    @rule(
        picks=st.lists(
            st.tuples(
                PICK,
                st.sampled_from(["ack", "ack", "retry", "release", "dead"]),
                st.booleans(),
                st.booleans(),
            ),
            min_size=1,
            max_size=3,
        )
    )
    def settle(self, picks: list[tuple[int, Verdict, bool, bool]]) -> None:
        outcomes: dict[str, Outcome] = {}
        for pick, verdict, later, renew in picks:
            self.number += 1
            # Old leases too: what a worker says that was frozen for long.
            lease = self.leases[-1 - pick % len(self.leases)]
            delay = HOUR if later and verdict == "retry" else 0.0
            data = f"data {self.number}" if renew and verdict == "retry" else None
            # A worker says one thing of a task.
            key = f"{lease.queue_name} {lease.task_id}"
            outcomes[key] = Outcome(verdict, lease, delay, data, "no luck" * (verdict == "dead"))
        self.client.step((), 0, outcomes=[*outcomes.values()])
        for outcome in outcomes.values():
            self.settle_one(outcome)

    def settle_one(self, outcome: Outcome) -> None:
        lease = outcome.lease
        queue, entry = self.entry(lease)
        if entry is None:
            return
        if outcome.verdict == "ack":
            del queue.tasks[lease.task_id]
            queue.counts["succeeded"] += 1
        elif entry.lease != lease:
            return
        elif outcome.verdict == "dead":
            self.put(entry)
            entry.state = "dead"
            queue.counts["failed"] += 1
            queue.counts["died"] += 1
        else:
            entry.data = outcome.data or entry.data
            queue.counts["retried"] += outcome.verdict == "retry"
            queue.counts["failed"] += outcome.verdict == "retry"
            self.put(entry, outcome.delay)
            entry.anywhere = outcome.verdict == "release"

    @precondition(lambda self: self.leases)
    @rule(picks=st.lists(PICK, max_size=3, unique=True))
    def extend(self, picks: list[int]) -> None:
        leases = list({pick % len(self.leases): None for pick in picks})
        chosen = [self.leases[n] for n in leases]
        lost = self.client.extend(chosen, HOUR)
        expected = []
        for lease in chosen:
            _, entry = self.entry(lease)
            if entry is None or entry.lease != lease:
                expected.append(lease)
            else:
                entry.expired = False
        assert lost == expected

    # One rule for all of these, for as rules of their own they would undo most of the others.
    @rule(
        action=st.sampled_from(["retry_dead", "drop_dead", "lease", "cancel", "drop_all"]),
        name=QUEUES,
        task_id=IDS,
    )
    def meddle(self, action: str, name: str, task_id: str) -> None:
        getattr(self, action)(name, task_id)

    def lease(self, name: str, task_id: str) -> None:
        lease = self.client.lease(self.name(name), task_id, HOUR)
        entry = self.queues[name].tasks.get(task_id)
        assert (lease is not None) == (entry is not None and entry.state in ("ready", "scheduled"))
        if lease and entry:
            assert (lease.data, lease.lost) == (entry.data, entry.lost)
            entry.state, entry.lease, entry.expired = "leased", lease, False
            self.leases.append(lease)
            # Given back, it would be scheduled or ready, as the store thinks right.
            self.client.ack(lease)
            self.settle_one(Outcome("ack", lease))

    def cancel(self, name: str, task_id: str) -> None:
        data = self.client.cancel(self.name(name), task_id)
        queue = self.queues[name]
        entry = queue.tasks.get(task_id)
        if entry and entry.state in ("ready", "scheduled"):
            assert data == entry.data
            del queue.tasks[task_id]
            queue.counts["canceled"] += 1
        else:
            assert data is None

    def drop_all(self, name: str, _: str) -> None:
        self.client.drop_all(self.name(name))
        queue = self.queues[name]
        for task_id, entry in list(queue.tasks.items()):
            if entry.state in ("ready", "scheduled"):
                del queue.tasks[task_id]
                queue.counts["dropped"] += 1

    def retry_dead(self, name: str, task_id: str) -> None:
        self.decide_on_the_dead(name, task_id, keep=True)

    def drop_dead(self, name: str, task_id: str) -> None:
        self.decide_on_the_dead(name, task_id, keep=False)

    def decide_on_the_dead(self, name: str, task_id: str, *, keep: bool) -> None:
        self.number += 1
        act = self.client.retry_dead if keep else self.client.drop_dead
        queue = self.queues[name]
        entry = queue.tasks.get(task_id)
        is_dead = entry is not None and entry.state == "dead"
        assert act(self.name(name), task_id) == is_dead
        if entry and is_dead and keep:
            entry.lost = 0
            self.put(entry)
        elif is_dead:
            del queue.tasks[task_id]
            queue.counts["dropped"] += 1

    @invariant()
    def counts_agree(self) -> None:
        for name, queue in self.queues.items():
            stats = self.client.stats(self.name(name))
            states = [entry.state for entry in queue.tasks.values()]
            for state in ("ready", "scheduled", "leased", "dead"):
                assert getattr(stats, state) == states.count(state), (name, state)
            for count, number in queue.counts.items():
                assert getattr(stats, count) == number, (name, count)
            assert self.client.len(self.name(name)) == stats.ready + stats.scheduled

    @invariant()
    def the_dead_agree(self) -> None:
        for name, queue in self.queues.items():
            dead = {task_id: e.data for task_id, e in queue.tasks.items() if e.state == "dead"}
            letters = self.client.dead_letters(self.name(name))
            assert {letter.task_id: letter.data for letter in letters} == dead


def compare(client: Client, **more: Any) -> None:
    """Do at random with a store what the model does too; *more* are settings of Hypothesis."""

    class Here(Store):
        pass

    Here.client = client
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            deadline=None,
            # To look for the shortest history that fails takes minutes; the first one is readable.
            phases=(Phase.generate,),
            database=None,
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.data_too_large,
                HealthCheck.filter_too_much,
            ],
            **more,
        ),
    )


def test_a_store_does_what_the_model_does(client: Client) -> None:
    compare(client)
