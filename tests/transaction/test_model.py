"""Nested transactions at random, against a model of the result."""

from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from alligator import CANCELED, DEFERRED, WAITING, Gator, Task, Transaction
from tests.harness.sample_tasks import add
from tests.harness.transactions import Boom, ids


class Nesting(RuleBasedStateMachine):
    """Transactions inside of one another, begun, doomed and ended in every order that `with` allows."""

    def __init__(self) -> None:
        super().__init__()
        self.gator = Gator("locmem://")
        self.stack: list[tuple[Transaction, dict[str, Any]]] = []
        self.tasks: dict[str, Task] = {}
        self.queued: list[str] = []
        self.dropped: set[str] = set()
        self.seen: list[str] = []

    @initialize()
    def begin_with_nothing(self) -> None:
        assert self.gator.len() == 0

    @precondition(lambda self: len(self.stack) < 5)
    @rule()
    def begin(self) -> None:
        transaction = self.gator.transaction()
        transaction.__enter__()
        self.stack.append((transaction, {"held": [], "always": set(), "doomed": False}))

    @rule()
    def start(self) -> None:
        self._start()

    @rule()
    def start_always(self) -> None:
        self._start(always=True)

    @rule()
    def start_immediately(self) -> None:
        self._start(immediate=True)

    @precondition(lambda self: self.stack)
    @rule()
    def doom(self) -> None:
        transaction, model = self.stack[-1]
        transaction.doom()
        model["doomed"] = True

    @precondition(lambda self: self.stack)
    @rule()
    def end_well(self) -> None:
        transaction, model = self.stack.pop()
        transaction.__exit__(None, None, None)
        self._end(model, commits=not model["doomed"])

    @precondition(lambda self: self.stack)
    @rule()
    def end_with_an_error(self) -> None:
        transaction, model = self.stack.pop()
        error = Boom()
        transaction.__exit__(Boom, error, None)
        self._end(model, commits=False)

    @invariant()
    def the_queue_holds_what_it_should_in_order(self) -> None:
        self.seen += ids(self.gator)
        assert self.seen == self.queued

    @invariant()
    def each_status_says_where_the_task_is(self) -> None:
        held = {name for _, model in self.stack for name in model["held"]}
        for name, task in self.tasks.items():
            expected = DEFERRED if name in held else CANCELED if name in self.dropped else WAITING
            assert task.status == expected

    def teardown(self) -> None:
        while self.stack:
            self.end_well()
        self.the_queue_holds_what_it_should_in_order()
        self.each_status_says_where_the_task_is()
        assert self.gator.current is None

    def _start(self, *, always: bool = False, immediate: bool = False) -> None:
        with self.gator.options(always=always, immediate=immediate) as opts:
            task = opts.task(add, 1, 2)
        self.tasks[task.task_id] = task
        if immediate or not self.stack:
            self.queued.append(task.task_id)
            return
        model = self.stack[-1][1]
        model["held"].append(task.task_id)
        if always:
            model["always"].add(task.task_id)

    def _end(self, model: dict[str, Any], *, commits: bool) -> None:
        kept = [name for name in model["held"] if commits or name in model["always"]]
        self.dropped |= set(model["held"]) - set(kept)
        if self.stack:
            self.stack[-1][1]["held"] += kept
            self.stack[-1][1]["always"] |= model["always"]
        else:
            self.queued += kept


test_nested_transactions_do_what_a_simple_model_does = Nesting.TestCase
