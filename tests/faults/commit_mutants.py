"""Introduce mistakes into the way of commits to the store: the tests must detect them.

As `tests.faults.mutants`, which does so for the stores.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from types import FunctionType, ModuleType
from typing import NamedTuple

import pytest
from rich.console import Console

from alligator import Gator, transaction
from alligator.backends import locmem_backend, records
from alligator.backends.base import Commit, Message
from alligator.commits import breaker, committer, deferred, trips
from alligator.commits.committer import Committer
from alligator.constants import LONG_COMMIT_MEMORY
from alligator.exceptions import BackendUnavailable
from alligator.web import idempotency, middleware
from tests.backends import test_records
from tests.commits import test_breaker, test_deferred, test_loop_trips, test_trips
from tests.harness.trip_store import TripStore
from tests.harness.web_sites import wsgi
from tests.integrations import test_idempotency as test_requests
from tests.web import test_idempotency

Judge = Callable[[TripStore, Committer], object]


class CommitMutant(NamedTuple):
    """A mistake: in this module, *right* is replaced by *wrong*."""

    name: str
    module: ModuleType
    right: str
    wrong: str
    judge: Judge


class _Impatient(Event):
    """An event for which a test, which fails, does not wait as long as it says."""

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(1.0)


def impatient_store() -> TripStore:
    """Return a store with a mistake on the way to it."""
    store = TripStore()
    store.undone = _Impatient()
    return store


def cancelled_at_any_moment(store: TripStore, committer: Committer) -> None:
    """Check that a push that is cancelled at any moment is queued only if it returns."""
    for turns in range(12):
        fresh = TripStore()
        fresh.undone = type(store.undone)()
        test_loop_trips.test_push_cancelled_at_any_moment_is_queued_only_if_it_returns(
            fresh, Committer(fresh, breaker=False), turns
        )


def interrupted_while_it_waits(store: TripStore, committer: Committer) -> None:
    """Check that the commit of a thread that no longer waits is not sent."""
    with ThreadPoolExecutor() as pool, pytest.MonkeyPatch.context() as patch:

        def push(name: str) -> object:
            return pool.submit(committer.push, Commit([Message("all", name, "{}")], name))

        try:
            test_trips.test_commit_of_a_thread_interrupted_while_waiting_is_not_pushed(
                store,
                committer,
                push,  # type: ignore[arg-type]
                patch,
            )
        finally:
            store.free.set()


def one_error(store: TripStore, committer: Committer) -> None:
    """Check that the error of one coroutine's commit does not affect others."""
    with pytest.MonkeyPatch.context() as patch:
        test_loop_trips.test_error_of_one_coroutine_does_not_affect_others(store, committer, patch)


def trial(
    check: Callable[[Committer, breaker.Breaker, test_breaker.Store, test_breaker.Clock], object],
    *_: object,
) -> None:
    """Check a breaker, with a clock that stands still."""
    store, clock = test_breaker.Store("locmem://"), test_breaker.Clock()
    store.error = BackendUnavailable("away")
    with pytest.MonkeyPatch.context() as patch:
        for module in (breaker, trips):
            patch.setattr(module, "monotonic", clock)
        pushing = Committer(store)
        check(pushing, test_breaker.breaker_of(pushing), store, clock)


def concurrent_failures(*_: object) -> None:
    """Check that commits that fail at the same time count once."""
    store = test_breaker.Store("locmem://")
    store.error = BackendUnavailable("away")
    test_breaker.test_commits_that_fail_concurrently_count_once(store)


def locmem() -> Gator:
    """Return a gator with a store of its own."""
    return Gator("locmem://", backend_class=locmem_backend.Client)


def unknown_client(*_: object) -> None:
    """Check that the key of a request whose client is unknown is ignored."""
    assert test_idempotency.id_of(test_idempotency.line(idempotency_key="1")) is None


MUTANTS = [
    CommitMutant(
        "a late commit takes the time of others",
        trips,
        "return other - now <= 2 * max(0.0, first - now)",
        "return True",
        lambda *_: test_trips.test_commits_share_a_trip_if_the_other_has_at_most_twice_the_time(
            1.2, 0.0, can=False
        ),
    ),
    CommitMutant(
        "a commit whose caller is gone stays",
        trips,
        "if commit.is_abandoned and not has_failed:",
        "if False:",
        test_loop_trips.test_cancellation_ends_the_wait_and_the_commit_is_undone,
    ),
    CommitMutant(
        "a commit under a chosen id is undone",
        trips,
        "if commit.commit_id is None or not commit.undo:",
        "if commit.commit_id is None:",
        test_trips.test_interruption_does_not_undo_a_commit_under_a_chosen_id,
    ),
    CommitMutant(
        "the commit of a cancelled coroutine is sent",
        trips,
        "[commit for commit in self.take() if not commit.future.done()]",
        "self.take()",
        test_loop_trips.test_commit_cancelled_before_its_trip_is_left_out,
    ),
    CommitMutant(
        "a coroutine that is cancelled after the trip undoes nothing",
        trips,
        "if commit.is_settled and not isinstance(commit.outcome, BaseException):",
        "if False:",
        cancelled_at_any_moment,
    ),
    CommitMutant(
        "one error is that of all in its trip",
        trips,
        "if len(commits) > 1:\n",
        "if False:\n",
        one_error,
    ),
    CommitMutant(
        "the commit of a thread that was interrupted is sent",
        trips,
        "if not waiter.claim():  # otherwise",
        "if True:  # otherwise",
        interrupted_while_it_waits,
    ),
    CommitMutant(
        "each commit of a trip counts as a failure",
        breaker,
        "if began >= self._failed_at:",
        "if True:",
        concurrent_failures,
    ),
    CommitMutant(
        "a trial that fails does not lengthen the pause",
        breaker,
        "self._pauses + 1 if was_open else 1",
        "1",
        partial(trial, test_breaker.test_pause_is_doubled_up_to_ten_seconds),
    ),
    CommitMutant(
        "everybody may try while the breaker is open",
        breaker,
        "if left <= 0 and monotonic() >= self._trial_ends:",
        "if left <= 0:",
        partial(trial, test_breaker.test_trial_that_never_ends_is_followed_by_another),
    ),
    CommitMutant(
        "the end of a trial is not noticed",
        committer,
        "breaker.end_trial()",
        "pass",
        partial(
            trial,
            lambda pushing, its, store, clock: (
                test_breaker.test_trial_without_a_result_is_followed_by_another(
                    pushing, its, store, clock, KeyboardInterrupt()
                )
            ),
        ),
    ),
    CommitMutant(
        "a commit that is closed twice loses its messages",
        deferred,
        "if not self.closed:  # after the first call",
        "if True:  # after the first call",
        lambda *_: test_deferred.test_commit_keeps_its_messages_when_it_is_closed_again(locmem()),
    ),
    # Idempotency keys.
    CommitMutant(
        "one client's key is that of all",
        idempotency,
        "json.dumps([line.method, line.path, client, key])",
        "json.dumps([line.method, line.path, key])",
        lambda *_: test_idempotency.test_parts_of_a_request_cannot_be_shifted_into_each_other(),
    ),
    CommitMutant(
        "one key is for all paths",
        idempotency,
        "json.dumps([line.method, line.path, client, key])",
        "json.dumps([line.method, client, key])",
        lambda *_: test_idempotency.test_parts_of_a_request_cannot_be_shifted_into_each_other(),
    ),
    CommitMutant(
        "the parts of a request are only joined",
        idempotency,
        "json.dumps([line.method, line.path, client, key])",
        "', '.join([line.method, line.path, *client, key])",
        lambda *_: test_idempotency.test_parts_of_a_request_cannot_be_shifted_into_each_other(),
    ),
    CommitMutant(
        "the key of an unknown client counts",
        idempotency,
        "return credentials if any(credentials) else None",
        "return credentials",
        unknown_client,
    ),
    CommitMutant(
        "a key is remembered for minutes",
        idempotency,
        "return LONG_COMMIT_ID + blake2b(",
        "return blake2b(",
        lambda *_: test_idempotency.test_commit_id_is_remembered_for_long(),
    ),
    CommitMutant(
        "the gators of a request commit under one id",
        middleware,
        'transaction.commit_under(f"{commit_id}-{transaction.depth}")',
        "transaction.commit_under(commit_id)",
        lambda *_: test_requests.test_several_gators_may_share_a_store(wsgi),
    ),
    CommitMutant(
        "a commit under a key is undone",
        transaction,
        "commit.undo = not self._is_chosen",
        "commit.undo = True",
        lambda *_: test_requests.test_commit_stays_when_a_wsgi_server_refuses_the_response(
            locmem()
        ),
    ),
    CommitMutant(
        "a transaction forgets the id that it was given",
        transaction,
        "self._commit_id = commit.commit_id = self._commit_id or new_id()",
        "self._commit_id = commit.commit_id = new_id()",
        lambda *_: test_requests.test_repeated_request_queues_its_tasks_once(wsgi, locmem()),
    ),
    CommitMutant(
        "a failed request uses up its key",
        transaction,
        'self._commit_id = f"{self._commit_id}-always"',
        "pass",
        lambda *_: test_requests.test_always_task_of_a_failed_request_is_queued_once(
            wsgi, locmem()
        ),
    ),
    CommitMutant(
        "a store remembers a key for minutes",
        records,
        "if commit_id.startswith(LONG_COMMIT_ID)",
        "if not commit_id",
        lambda *_: test_records.test_id_of_a_commit_says_for_how_long_it_is_remembered(
            "day-5f1c", LONG_COMMIT_MEMORY
        ),
    ),
]


@contextmanager
def applied(mutant: CommitMutant) -> Iterator[None]:
    """Apply the mistake during the block, to the functions that it changes."""
    source = Path(str(mutant.module.__file__)).read_text("utf-8")
    assert source.count(mutant.right) == 1, f"{mutant.name}: not once: {mutant.right}"
    mistaken: dict[str, object] = {
        "__name__": mutant.module.__name__,
        "__package__": mutant.module.__package__,
    }
    exec(source.replace(mutant.right, mutant.wrong), mistaken)
    changes = 0
    with pytest.MonkeyPatch.context() as patch:
        for name, wrong in mistaken.items():
            right = getattr(mutant.module, name, None)
            if isinstance(right, FunctionType) and isinstance(wrong, FunctionType):
                if _differ(right, wrong):
                    patch.setattr(right, "__code__", wrong.__code__)
                    changes += 1
            elif isinstance(right, type) and right.__module__ == mutant.module.__name__:
                for method, function in vars(wrong).items():
                    own = vars(right).get(method)
                    if isinstance(own, FunctionType) and _differ(own, function):
                        patch.setattr(own, "__code__", function.__code__)
                        changes += 1
        assert changes == 1, f"{mutant.name}: {changes} functions changed"
        yield


def _differ(right: FunctionType, wrong: FunctionType) -> bool:
    # The code without the numbers of lines, which a shorter mistake moves.
    return _content(right) != _content(wrong)


def _content(function: FunctionType) -> tuple[object, ...]:
    code = function.__code__
    constants = tuple(str(each) for each in code.co_consts if not hasattr(each, "co_code"))
    nested = tuple(each.co_code for each in code.co_consts if hasattr(each, "co_code"))
    return code.co_code, code.co_names, constants, nested


def survives(mutant: CommitMutant) -> bool:
    """Return whether no test detects the mistake."""
    store = impatient_store()
    with applied(mutant):
        try:
            mutant.judge(store, Committer(store, breaker=False))
        except (Exception, pytest.fail.Exception):
            return False
    return True


def try_all(console: Console) -> int:
    """Try all mutants, and return how many survive."""
    survivors = 0
    for mutant in MUTANTS:
        alive = survives(mutant)
        survivors += alive
        verdict = "[red]survives[/]" if alive else "[green]is noticed[/]"
        console.print(f"{mutant.module.__name__}: {mutant.name} … {verdict}")
    return survivors
