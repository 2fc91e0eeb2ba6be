"""Every store against one model of a store, in plain Python, over random histories."""

from collections.abc import Sequence
from math import inf
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from alligator.backends.base import Announcement, Client, Lease, Limit, Message, Outcome, Verdict
from alligator.backends.unique import Held, Unique
from alligator.exceptions import BackendError
from tests.harness.store_model import WAITING, Batch, Entry, Queue

HOUR = 3600.0
MAX_LOST = 2
QUEUES = st.sampled_from(["one", "two"])
IDS = st.sampled_from("abcd")
COMMITS = st.sampled_from("tuvwxyz")
SCHEDULES = st.sampled_from(["nightly", "hourly"])
PRIORITIES = st.sampled_from([0, 0, 1, -1])
# One key most often: a history should come back to it.
KEYS = st.sampled_from(
    [
        *(None, Unique("k", replace=True)),
        *(Unique("k", start, seconds) for start in (True, False) for seconds in (0.0, HOUR)),
    ]
) | st.sampled_from([None, None, Unique("l", until_start=False), Unique("l", replace=True)])
LIMIT_KEYS = st.sampled_from([None, None, "x", "x", "y", "z"])
# Half of the commits have no follow-ups.
NO_FOLLOW_UPS: list[tuple[str, str, int, str | None]] = []
PLAIN_MESSAGES = st.builds(
    lambda queue, ids: [(queue, task_id, 0.0, 0, None, None) for task_id in ids],
    QUEUES,
    st.lists(IDS, min_size=1, max_size=4),
)
"""Tasks without options, for which the stores have shorter ways."""
ANY_MESSAGES = st.lists(
    st.tuples(QUEUES, IDS, st.sampled_from([0.0, 0.0, HOUR]), PRIORITIES, KEYS, LIMIT_KEYS),
    min_size=1,
    max_size=4,
)
FOLLOW_UPS = st.just(NO_FOLLOW_UPS) | st.lists(
    st.tuples(QUEUES, st.sampled_from("ef"), PRIORITIES, LIMIT_KEYS), min_size=1, max_size=2
)
ENDS: list[Verdict] = ["ack", "retry", "dead"]
# The latest lease most often, an old one now and then.
PICK = st.sampled_from([0, 0, 1, 1, 2]) | st.integers(0, 20)


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
        self.leases: list[tuple[Lease, Entry]] = []
        self.canceled: list[Lease] = []
        self.tokens: set[tuple[str, str, int]] = set()
        self.commits: dict[str, tuple[list[Message], list[Entry], dict[int, str], Batch]] = {}
        self.aborted: set[str] = set()
        self.ticks: dict[str, tuple[int, int]] = {}
        """For each schedule the last tick, and the last that was queued."""
        self.number = 0

    def put(self, entry: Entry, delay: float = 0.0, place: int = 0) -> None:
        entry.state, entry.lease = "scheduled" if delay else "ready", None
        entry.since, entry.anywhere = (self.number, place), False

    def name(self, queue: str) -> str:
        return f"{queue}-{self.run}"

    @rule(
        messages=PLAIN_MESSAGES | ANY_MESSAGES,
        commit=st.none() | COMMITS,
        undo=st.booleans(),
        then=FOLLOW_UPS,
    )
    def push(
        self,
        messages: list[tuple[str, str, float, int, Unique | None, str | None]],
        commit: str | None,
        undo: bool,
        then: list[tuple[str, str, int, str | None]],
    ) -> None:
        self.number += 1
        data = f"data {self.number}"
        if any(unique and unique.replace for *_, unique, _ in messages):
            # Whether the id of a task that its own push has replaced is free is the store's affair.
            messages = [*{each[:2]: each for each in reversed(messages)}.values()]
        if not self.client.keeps_limit_keys:
            messages = [(*each[:5], None) for each in messages]
        sent = [
            Message(self.name(queue), task_id, data, delay, priority, unique, False, limit_key)
            for queue, task_id, delay, priority, unique, limit_key in messages
        ]
        # Ids of their own: if an outcome of the same step let such a task wait, either may be first.
        then = [(each[0], f"{each[1]}{self.number}", *each[2:]) for each in then]
        if not self.client.keeps_limit_keys:
            then = [(*each[:3], None) for each in then]
        sent += [
            Message(self.name(queue), task_id, data, HOUR, priority, None, True, limit_key)
            for queue, task_id, priority, limit_key in then
        ]
        if commit in self.aborted and not undo:
            self.aborted.remove(commit)  # an abort does not refuse an id that somebody chose
            self.commits.pop(commit, None)
        known = self.commits.get(commit) if commit else None
        if known:
            sent = known[0]
        if commit in self.aborted:
            with pytest.raises(BackendError):
                self.client.push_many(sent, commit_id=commit and commit + self.run)
            return
        commit_id = commit and commit + self.run
        duplicates = self.client.push_many(sent, commit_id=commit_id, undo=undo)
        found = {
            int(place): place.task_id if isinstance(place, Held) else ""
            for place in duplicates or ()
        }
        assert list(found) == [*(duplicates or ())]
        if known:
            assert found == known[2]
            return
        added: list[Entry] = []
        expected: dict[int, str] = {}
        for place, (name, task_id, delay, priority, unique, limit_key) in enumerate(messages):
            queue = self.queues[name]
            if queue.waiting(task_id):
                expected[place] = ""
                continue
            old = queue.replaceable(unique)
            if not old and (holder := queue.holder(unique)):
                expected[place] = holder
                continue
            entry = Entry(queue, task_id, data, self.number, priority, limit_key, unique=unique)
            self.replace(old, entry)
            queue.tasks.append(entry)
            queue.counts["pushed"] += 1
            self.put(entry, delay, place)
            added.append(entry)
        assert found == expected
        assert duplicates is None or expected
        batch = Batch([(*each[:2], data, *each[2:]) for each in then])
        for entry in added:
            if entry.replaced_by is None:
                entry.batch = batch
                batch.tasks += 1
        batch.left = batch.tasks
        if not batch.left:
            self.queue_follow_ups(batch)
        if commit:
            self.commits[commit] = sent, added, expected, batch

    def replace(self, old: Entry | None, entry: Entry) -> None:
        if old is not None:
            old.replaced_by, entry.replaced = entry, old
            old.before = old.state
            self.remove(old)
            old.queue.counts["canceled"] += 1
            self.settle(old, is_dead=True)

    def bring_back(self, old: Entry | None) -> None:
        if old is not None:
            old.replaced_by = None
            if not old.queue.waiting(old.task_id):
                old.queue.counts["canceled"] -= 1
                old.state = old.before
                old.queue.tasks.append(old)

    def settle(self, entry: Entry, *, is_dead: bool) -> None:
        batch, entry.batch = entry.batch, None
        if batch is not None:
            batch.left -= 1
            batch.dead += is_dead
            if not batch.left:
                self.queue_follow_ups(batch)

    def queue_follow_ups(self, batch: Batch) -> None:
        for name, task_id, data, priority, limit_key in batch.follow_ups:
            queue = self.queues[name]
            if queue.waiting(task_id):
                continue
            data = f"batch:{batch.tasks},{batch.dead} {data}"
            entry = Entry(queue, task_id, data, self.number, priority, limit_key)
            queue.tasks.append(entry)
            queue.counts["pushed"] += 1
            self.put(entry)
            batch.queued.append(entry)

    @rule(commit=COMMITS)
    def abort(self, commit: str) -> None:
        sent, added, _, batch = self.commits.get(commit, ([], [], {}, Batch([])))
        self.client.abort(commit + self.run, sent)
        if commit not in self.aborted:
            self.aborted.add(commit)
            batch.follow_ups = []
            for entry in reversed((*added, *batch.queued)):
                if entry.replaced_by is not None:
                    entry.queue.counts.update(
                        pushed=entry.queue.counts["pushed"] - 1,
                        canceled=entry.queue.counts["canceled"] - 1,
                    )
                    entry.replaced_by.replaced = entry.replaced
                    if entry.replaced is not None:
                        entry.replaced.replaced_by = entry.replaced_by
                    entry.replaced_by = entry.replaced = None
                elif entry.state in WAITING and not entry.was_leased:
                    entry.queue.counts["pushed"] -= 1
                    self.remove(entry)
                    self.bring_back(entry.replaced)

    @rule(
        name=SCHEDULES,
        moment=st.integers(1, 9),
        queue=QUEUES,
        task_id=IDS,
        priority=PRIORITIES,
        unique=KEYS,
    )
    def tick(
        self,
        name: str,
        moment: int,
        queue: str,
        task_id: str,
        priority: int,
        unique: Unique | None,
    ) -> None:
        if not self.client.remembers_ticks:
            return
        self.number += 1
        data = f"data {self.number}"
        message = Message(self.name(queue), task_id, data, 0.0, priority, unique)
        is_new = self.ticks.get(name, (0, 0))[0] < moment
        assert self.client.push_tick(name + self.run, moment, message) == is_new
        if not is_new:
            return
        self.ticks[name] = moment, moment
        old = self.queues[queue].replaceable(unique)
        if not self.queues[queue].waiting(task_id) and (
            old or not self.queues[queue].holder(unique)
        ):
            entry = Entry(self.queues[queue], task_id, data, self.number, priority, unique=unique)
            self.replace(old, entry)
            entry.queue.tasks.append(entry)
            entry.queue.counts["pushed"] += 1
            self.put(entry)

    @rule(names=st.lists(SCHEDULES, min_size=1, unique=True), now=st.integers(1, 9))
    def announce(self, names: list[str], now: int) -> None:
        if not self.client.remembers_ticks:
            return
        sent = [Announcement(name + self.run, "{}", HOUR) for name in names]
        for name in names:
            self.ticks.setdefault(name, (now, 0))
        last = [self.ticks[name][0] for name in names]
        assert [*self.client.announce_schedules(sent, now)] == last

    @rule(name=SCHEDULES)
    def forget(self, name: str) -> None:
        known = self.ticks.pop(name, None) is not None
        assert self.client.forget_schedule(name + self.run) == known

    def remove(self, entry: Entry) -> None:
        entry.queue.tasks.remove(entry)
        entry.state, entry.lease = "", None

    @rule(order=st.permutations(["one", "two"]), limit=st.integers(1, 4), for_ever=st.booleans())
    def reserve(self, order: list[str], limit: int, for_ever: bool) -> None:
        self.step_on(order, limit, for_ever=for_ever)

    def step_on(self, order: list[str], limit: int, *, for_ever: bool) -> None:
        self.number += 1
        lease_for = HOUR if for_ever else 0.0
        step = self.client.step(
            [self.name(queue) for queue in order], limit, lease_for=lease_for, max_lost=MAX_LOST
        )
        for queue in [self.queues[name] for name in order]:
            queue.has_lines = queue.has_lines or any(entry.limit_key for entry in queue.tasks)
            queue.forget_turns()
            self.reclaim(queue)
        order = [
            name for name in order if not self.queues[name].paused and self.queues[name].most()
        ]
        self.check_reserved(order, step.leases, limit)
        begun: set[tuple[int, str]] = set()
        for lease in step.leases:
            entry = self.ready_of(lease)
            key, queue = entry.limit_key, entry.queue
            assert queue.is_open(key)
            assert (id(queue), key) not in begun
            if queue.has_lines:
                queue.take_turn(entry, {each for of, each in begun if of == id(queue)})
            if key is not None and (key_limit := queue.limit_of(key)):
                begun.add((id(queue), key))
                queue.key_begun[key] += bool(key_limit.starts)
            assert entry.lost == lease.lost
            entry.alone, entry.early = len(step.leases) == 1, False
            entry.queue.begun += bool(entry.queue.limit and entry.queue.limit.starts)
            self.take(entry, lease, expired=not for_ever)
        assert step.leases or step.pause > HOUR / 2

    # Several steps, for few histories would reach a limit by chance.
    @rule(
        name=QUEUES,
        limit=st.sampled_from([Limit(1), Limit(2), Limit(None, 1, HOUR), Limit(2, 2, HOUR)]),
        steps=st.integers(1, 4),
        stays=st.sampled_from([True, False, False]),
    )
    def reserve_with_limit(self, name: str, limit: Limit, steps: int, stays: bool) -> None:
        self.set_limit(name, limit)
        for _ in range(steps):
            self.step_on(["one", "two"], 3, for_ever=True)
        if not stays:
            self.set_limit(name, None)

    # Tasks of their own, for few histories would have keys with several tasks by chance.
    @rule(
        name=QUEUES,
        tasks=st.lists(st.tuples(LIMIT_KEYS, st.sampled_from([0, 0, 0, 1])), max_size=6),
        limit=st.sampled_from([None, Limit(1), Limit(2), Limit(None, 1, HOUR), Limit(2, 2, HOUR)]),
        key=st.sampled_from([*"xyz", "*", "*"]),
        steps=st.lists(st.integers(1, 4) | st.sampled_from(ENDS), max_size=6),
        for_ever=st.sampled_from([True, True, False]),
        stays=st.booleans(),
    )
    def reserve_from_lines(
        self,
        name: str,
        tasks: list[tuple[str | None, int]],
        limit: Limit | None,
        key: str,
        steps: list[int | Verdict],
        for_ever: bool,
        stays: bool,
    ) -> None:
        if not self.client.keeps_limit_keys:
            return
        self.number += 1
        messages = [
            (name, f"{place}-{self.number}", 0.0, priority, None, of)
            for place, (of, priority) in enumerate(tasks)
        ]
        if messages:
            self.push(messages, None, True, [])
        self.set_limit_of_key(name, limit, key)
        for size in steps:
            if isinstance(size, int):
                self.step_on(["one", "two"], size, for_ever=for_ever)
            elif self.leases:
                self.report([(0, size, False, False)])
        if not stays:
            self.set_limit_of_key(name, None, key)

    def set_limit_of_key(self, name: str, limit: Limit | None, key: str) -> None:
        limits = self.queues[name].key_limits
        self.queues[name].forget_turns()
        if limit is None:
            limits.pop(key, None)
        else:
            limits[key] = limit
        self.queues[name].forget_turns()
        self.client.limit(self.name(name), limit, key)

    def set_limit(self, name: str, limit: Limit | None) -> None:
        self.queues[name].limit = limit
        if limit is None or limit.starts is None:
            self.queues[name].begun = 0
        self.client.limit(self.name(name), limit)

    def take(self, entry: Entry, lease: Lease, *, expired: bool) -> None:
        run = lease.queue_name, lease.task_id, lease.token
        assert run not in self.tokens
        self.tokens.add(run)
        entry.state, entry.lease, entry.expired, entry.was_leased = "leased", lease, expired, True
        self.leases.append((lease, entry))

    def ready_of(self, lease: Lease) -> Entry:
        queue = self.queues[lease.queue_name.partition("-")[0]]
        (entry,) = (
            each
            for each in queue.ready()
            if (each.task_id, each.data) == (lease.task_id, lease.data)
        )
        return entry

    def reclaim(self, queue: Queue) -> None:
        for entry in queue.tasks:
            if entry.state == "leased" and entry.expired:
                entry.lost += entry.alone
                entry.suspect = True
                queue.counts["lost"] += 1
                self.put(entry)
                entry.anywhere = True
                if entry.alone and entry.lost >= MAX_LOST:
                    entry.state, entry.died, entry.unique = "dead", self.number, None
                    queue.counts["died"] += 1
                    self.settle(entry, is_dead=True)

    def check_reserved(self, order: list[str], leases: Sequence[Lease], limit: int) -> None:
        found = [self.ready_of(lease) for lease in leases]
        assert not any(entry.queue.paused or not entry.queue.most() for entry in found)
        assert len({id(entry) for entry in found}) == len(found)
        if any(entry.suspect for entry in found):
            assert len(found) == 1
            first = next(self.queues[name] for name in order if self.queues[name].open())
            assert found[0].queue is first
            assert found[0].priority == max(entry.priority for entry in first.open())
            return
        left = limit
        for name in order:
            queue = self.queues[name]
            ready = queue.open()
            here = [entry for entry in found if entry.queue is queue]
            assert found[limit - left :][: len(here)] == here
            left -= len(here)
            has_suspects = any(entry.suspect for entry in queue.ready())
            most = min(left + len(here), queue.most())
            assert len(here) <= most
            assert len(here) == min(most, len(ready)) or has_suspects
            for line in {(entry.priority, entry.limit_key) for entry in here}:
                self.check_order(
                    [entry for entry in here if (entry.priority, entry.limit_key) == line],
                    [each for each in queue.ready() if (each.priority, each.limit_key) == line],
                )
            levels = sorted((entry.priority for entry in ready), reverse=True)
            assert [entry.priority for entry in here] == levels[: len(here)]
            if len(here) < min(most, len(ready)):
                # It has stopped before one, which is not the first of all.
                assert len(found) == limit - left > 0
                return

    def check_order(self, here: list[Entry], ready: list[Entry]) -> None:
        """Check those of one line."""
        # Where a task stands that was released or lost is the store's affair.
        if not any(entry.anywhere for entry in ready):
            since = sorted(entry.since for entry in ready)
            assert [entry.since for entry in here] == since[: len(here)]

    @precondition(lambda self: self.leases)
    @rule(
        picks=st.lists(
            st.tuples(
                PICK,
                st.sampled_from(["ack", "ack", "retry", "release", "dead", "expired"]),
                st.booleans(),
                st.booleans(),
            ),
            min_size=1,
            max_size=3,
        )
    )
    def report(self, picks: list[tuple[int, Verdict, bool, bool]]) -> None:
        outcomes: dict[str, tuple[Outcome, Entry]] = {}
        for pick, verdict, later, renew in picks:
            self.number += 1
            # Old leases too: what a worker says that was frozen for long.
            lease, entry = self.leases[-1 - pick % len(self.leases)]
            is_back = verdict in ("retry", "release")
            delay = HOUR if later and is_back else 0.0
            data = f"data {self.number}" if renew and verdict not in ("ack", "dead") else None
            # A worker says one thing of a task.
            key = f"{lease.queue_name} {lease.task_id}"
            reason = "no luck" * (verdict in ("dead", "expired"))
            outcomes[key] = Outcome(verdict, lease, delay, data, reason), entry
        self.client.step((), 0, outcomes=[outcome for outcome, _ in outcomes.values()])
        for outcome, entry in outcomes.values():
            self.report_one(outcome, entry)

    def report_one(self, outcome: Outcome, entry: Entry) -> None:
        counts = entry.queue.counts
        if not entry.state:
            return
        if outcome.verdict == "ack":
            if entry.unique is not None and entry.unique.seconds:
                entry.queue.done[entry.unique.key] = entry.task_id
            self.remove(entry)
            counts["succeeded"] += 1
            self.settle(entry, is_dead=False)
        elif entry.lease != outcome.lease:
            return
        elif outcome.verdict in ("dead", "expired"):
            entry.data = outcome.data or entry.data
            self.put(entry)
            entry.state, entry.died, entry.unique = "dead", self.number, None
            counts["failed" if outcome.verdict == "dead" else "expired"] += 1
            counts["died"] += 1
            self.settle(entry, is_dead=True)
        elif outcome.verdict == "retry":
            entry.data = outcome.data or entry.data
            counts["retried"] += 1
            counts["failed"] += 1
            self.put(entry, outcome.delay)
        else:
            entry.data = outcome.data or entry.data
            self.put(entry, outcome.delay or HOUR * entry.early)
            entry.anywhere = True

    @precondition(lambda self: self.leases)
    @rule(picks=st.lists(PICK, max_size=3, unique=True))
    def extend(self, picks: list[int]) -> None:
        places = list({pick % len(self.leases): None for pick in picks})
        chosen = [self.leases[n] for n in places]
        lost = self.client.extend([lease for lease, _ in chosen], HOUR)
        expected = []
        for lease, entry in chosen:
            if entry.lease != lease:
                expected.append(lease)
            else:
                entry.expired = False
        assert lost == expected

    # One rule for all of these, for as rules of their own they would undo most of the others.
    @rule(
        action=st.sampled_from(
            [
                *("retry_dead", "drop_dead", "lease", "cancel", "drop_all"),
                *("pause", "resume", "resume", "unlimit", "unlimit_keys", "unlimit_keys"),
            ]
        ),
        name=QUEUES,
        task_id=IDS,
    )
    def meddle(self, action: str, name: str, task_id: str) -> None:
        getattr(self, action)(name, task_id)

    def unlimit(self, name: str, _: str) -> None:
        self.set_limit(name, None)

    def unlimit_keys(self, name: str, _: str) -> None:
        for key in [*self.queues[name].key_limits]:
            self.set_limit_of_key(name, None, key)

    def pause(self, name: str, task_id: str) -> None:
        self.queues[name].paused = inf if task_id in "ab" else HOUR
        self.client.pause(self.name(name), self.queues[name].paused)

    def resume(self, name: str, _: str) -> None:
        self.queues[name].paused = 0.0
        self.client.pause(self.name(name), 0.0)

    def lease(self, name: str, task_id: str) -> None:
        self.number += 1
        lease = self.client.lease(self.name(name), task_id, HOUR)
        entry = self.queues[name].waiting(task_id)
        assert (lease is None) == (entry is None)
        if lease and entry:
            assert (lease.task_id, lease.data, lease.lost) == (task_id, entry.data, entry.lost)
            entry.alone, entry.early = True, entry.state == "scheduled"
            self.take(entry, lease, expired=False)

    def cancel(self, name: str, task_id: str) -> None:
        entry = self.queues[name].waiting(task_id) or self.queues[name].leased(task_id)
        was_leased = entry is not None and entry.state == "leased"
        canceled = self.client.cancel(self.name(name), task_id)
        assert canceled == (entry and (entry.data, was_leased))
        if entry:
            self.canceled += [entry.lease] if was_leased and entry.lease else []
            self.remove(entry)
            entry.queue.counts["canceled"] += 1
            self.settle(entry, is_dead=True)

    def drop_all(self, name: str, _: str) -> None:
        self.client.drop_all(self.name(name))
        queue = self.queues[name]
        waiting = [each for each in queue.tasks if each.state in WAITING]
        for entry in waiting:
            self.remove(entry)
            queue.counts["dropped"] += 1
        for entry in waiting:
            self.settle(entry, is_dead=True)

    def retry_dead(self, name: str, task_id: str) -> None:
        self.decide_on_the_dead(name, task_id, keep=True)

    def drop_dead(self, name: str, task_id: str) -> None:
        self.decide_on_the_dead(name, task_id, keep=False)

    def decide_on_the_dead(self, name: str, task_id: str, *, keep: bool) -> None:
        self.number += 1
        queue = self.queues[name]
        dead = [each for each in queue.tasks if each.task_id == task_id and each.state == "dead"]
        latest = max((each.died for each in dead), default=0)
        if len([each for each in dead if each.died == latest]) > 1:
            return  # they died in one step, so either may be meant
        act = self.client.retry_dead if keep else self.client.drop_dead
        assert act(self.name(name), task_id) == bool(dead)
        for entry in dead:
            if entry.died != latest:
                continue
            if keep:
                entry.lost, entry.suspect = 0, False
                self.put(entry)
            else:
                self.remove(entry)
                queue.counts["dropped"] += 1

    @invariant()
    def counts_agree(self) -> None:
        for name, queue in self.queues.items():
            queue.forget_turns()
            stats = self.client.stats(self.name(name))
            states = [entry.state for entry in queue.tasks]
            for state in ("ready", "scheduled", "leased", "dead"):
                assert getattr(stats, state) == states.count(state), (name, state)
            for count, number in queue.counts.items():
                assert getattr(stats, count) == number, (name, count)
            assert (
                queue.paused - HOUR / 2 < stats.paused <= queue.paused
                or stats.paused == queue.paused
            )
            assert stats.limit == queue.limit
            assert self.client.key_limits(self.name(name)) == queue.key_limits
            assert stats.limited == (0 if queue.most() else stats.ready)
            assert self.client.len(self.name(name)) == stats.ready + stats.scheduled

    @invariant()
    def the_canceled_leases_agree(self) -> None:
        leases = [lease for lease, _ in self.leases]
        assert self.client.canceled(leases) == [each for each in leases if each in self.canceled]

    @invariant()
    def the_schedules_agree(self) -> None:
        found = {
            each.name.removesuffix(self.run): (each.last, each.ran)
            for each in self.client.schedules()
            if each.name.endswith(self.run)
        }
        assert found == self.ticks

    @invariant()
    def the_lists_agree(self) -> None:
        for name, queue in self.queues.items():
            for state in ("dead", "scheduled"):
                expected = [(e.task_id, e.data) for e in queue.tasks if e.state == state]
                ask = self.client.dead_letters if state == "dead" else self.client.scheduled
                found = [(each.task_id, each.data) for each in ask(self.name(name))]
                assert sorted(found) == sorted(expected)


def compare(client: Client, *, examples: int = 100, **more: Any) -> None:
    """Do at random with a store what the model does too; *more* are settings of Hypothesis."""

    class Here(Store):
        pass

    Here.client = client
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples,
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


# PostgreSQL takes long, and Redis runs the scripts that Valkey runs.
FEWER = {"postgres": 30, "redis": 30}


@pytest.mark.timeout(300)
def test_store_does_what_the_model_does(client: Client, request: pytest.FixtureRequest) -> None:
    compare(client, examples=FEWER.get(request.node.callspec.params["dsn"], 100))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_store_does_what_the_model_does_in_many_histories(client: Client) -> None:
    compare(client, examples=300)
