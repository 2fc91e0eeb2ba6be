"""What may come off a queue: signed by us, and a function that may run here."""

import json
import subprocess  # noqa: F401 - what this module has imported
import sys  # noqa: F401 - is not to be lent out
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alligator import Gator, Lease, Task, Worker
from alligator.backends.base import Message
from alligator.exceptions import BadSignature, ConfigurationError, NotAllowed, PayloadError
from alligator.guard import Guard
from tests.sample_tasks import add, fail


def note(task: Task, *about: object) -> None:
    """Be a hook."""


def payload(module: str, name: str, **options: Any) -> str:
    """Write a task as somebody else might."""
    return json.dumps(
        {
            "task_id": "a",
            "retries": 0,
            "is_async": True,
            "module": module,
            "callable": name,
            "args": [],
            "kwargs": {},
            "options": options,
        }
    )


def read(data: str, *allow: str) -> Task:
    return Guard(allow=allow).read("all", "a", data, Task)


# Which functions.


@pytest.mark.parametrize(
    "pattern", ["*", "tests.*", "tests.sample_tasks.*", "tests.sample_tasks.add", "*.add", "*.?dd"]
)
def test_a_function_that_a_pattern_matches_may_run(pattern: str) -> None:
    assert read(payload("tests.sample_tasks", "add"), "nothing.*", pattern).func is add


@pytest.mark.parametrize(
    "pattern", ["", "tests", "sample_tasks.*", "tests.sample_tasks", "TESTS.*"]
)
def test_a_function_that_none_matches_may_not(pattern: str) -> None:
    with pytest.raises(NotAllowed, match=r"tests\.sample_tasks\.add is not among"):
        read(payload("tests.sample_tasks", "add"), pattern)


def test_a_module_that_is_not_allowed_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "has_side_effects.py").write_text("raise SystemError('imported')")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(NotAllowed):
        read(payload("has_side_effects", "anything"), "tests.*")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("tests.test_guard", "subprocess.run"),
        ("tests.test_guard", "sys.exit"),
        ("tests.test_guard", "Guard"),
        ("tests.test_guard", "json.loads"),
        ("tests.test_guard", "Path.unlink"),
        ("tests.test_guard", "note.__globals__.clear"),
        ("tests.test_guard", "note.__class__"),
        ("tests.test_guard", "sys.modules.clear"),
        ("tests.test_guard.subprocess", "run"),
    ],
)
def test_an_allowed_module_does_not_lend_out_what_it_has_imported(module: str, name: str) -> None:
    with pytest.raises(PayloadError):
        read(payload(module, name), "tests.*")


@pytest.mark.parametrize("hook", ["on_start", "on_success", "on_error"])
def test_hooks_are_held_to_the_same(hook: str) -> None:
    mine = {"module": __name__, "callable": "note"}
    theirs = {"module": "os", "callable": "system"}
    data = payload("tests.sample_tasks", "add", **{hook: mine})

    assert getattr(read(data, "tests.*", f"{__name__}.*"), hook) is not None
    with pytest.raises(NotAllowed, match=r"os\.system"):
        read(data.replace(json.dumps(mine), json.dumps(theirs)), "tests.*", f"{__name__}.*")


def test_a_worker_buries_what_is_not_allowed_and_lives_on() -> None:
    gator = Gator("locmem://", allow="tests.sample_tasks.add")
    gator.client.push("all", "bad", payload("os", "getpid"))
    good = gator.task(add, 1, 2)

    Worker(gator, burst=True).run_forever()

    [letter] = gator.dead_letters()
    assert letter.task_id == "bad"
    assert letter.reason.startswith("NotAllowed: os.getpid")
    assert (gator.stats().succeeded, good.status) == (1, 0)


# Signatures.


def test_what_was_sealed_is_opened() -> None:
    guard = Guard(["secret"])

    sealed = guard.seal("all", "a", "data with spaces")

    assert sealed != "data with spaces"
    assert guard.open("all", "a", sealed) == "data with spaces"


@pytest.mark.parametrize(
    ("queue_name", "task_id"), [("other", "a"), ("all", "b"), ("alla", ""), ("al", "la")]
)
def test_a_payload_is_good_for_its_own_queue_and_id_only(queue_name: str, task_id: str) -> None:
    guard = Guard(["secret"])

    sealed = guard.seal("all", "a", "data")

    with pytest.raises(BadSignature):
        guard.open(queue_name, task_id, sealed)


@given(st.text(max_size=20), st.integers(0, 200), st.characters())
def test_a_payload_that_was_tampered_with_is_refused(data: str, place: int, new: str) -> None:
    guard = Guard(["secret"])
    sealed = guard.seal("all", "a", data)
    place %= len(sealed)
    forged = sealed[:place] + new + sealed[place + 1 :]

    try:
        opened = guard.open("all", "a", forged)
    except BadSignature:
        return

    assert opened == data
    assert forged[len("hmac-sha256:") :] == sealed[len("hmac-sha256:") :] or forged == sealed


@pytest.mark.parametrize(
    "sealed", ["", " ", "{}", "hmac-sha256: {}", "hmac-sha256:", "é {}", "\ud800"]
)
def test_a_payload_that_was_never_signed_is_refused(sealed: str) -> None:
    with pytest.raises(BadSignature):
        Guard(["secret"]).open("all", "a", sealed)


def test_a_secret_is_replaced_without_losing_a_task() -> None:
    old, both, new = Guard(["old"]), Guard(["new", "old"]), Guard(["new"])
    before, during = old.seal("all", "a", "1"), both.seal("all", "a", "2")

    assert both.open("all", "a", before) == "1"
    assert new.open("all", "a", during) == "2"
    with pytest.raises(BadSignature):
        new.open("all", "a", before)


def test_a_worker_without_a_secret_runs_what_is_signed() -> None:
    sealed = Guard(["secret"]).seal("all", "a", "data")

    assert Guard().open("all", "a", sealed) == "data"


def test_a_retried_task_is_signed_again() -> None:
    gator = Gator("locmem://", secret="secret")
    gator.options(retries=2, backoff=0).task(fail)

    Worker(gator, burst=True).run_forever()

    [letter] = gator.dead_letters()
    assert letter.reason == "RuntimeError: no luck"
    assert gator.stats().retried == 2


def test_a_dead_letter_that_is_retried_is_still_good() -> None:
    gator = Gator("locmem://", secret="secret")
    task = gator.task(fail)
    Worker(gator, burst=True).run_forever()

    gator.retry_dead(task.task_id)

    with pytest.raises(RuntimeError, match="no luck"):
        gator.pop()


def test_a_worker_buries_what_is_not_signed_and_lives_on() -> None:
    gator = Gator("locmem://", secret="secret")
    gator.client.push("all", "bad", payload("tests.sample_tasks", "add"))
    gator.client.push("all", "worse", "\ud800")
    gator.task(add, 1, 2)

    Worker(gator, burst=True).run_forever()

    assert {letter.reason.split(":")[0] for letter in gator.dead_letters()} == {"BadSignature"}
    assert (gator.stats().dead, gator.stats().succeeded) == (2, 1)


def test_a_signed_task_in_a_transaction_goes_where_it_was_signed_for() -> None:
    gator = Gator("locmem://", secret="secret")

    with gator.transaction():
        task = gator.task(add, 1, 2)
        task.queue_name = "elsewhere"

    assert gator.pop() is not None


def test_an_empty_secret_is_a_mistake() -> None:
    with pytest.raises(ConfigurationError, match="secret"):
        Gator("locmem://", secret="")
    with pytest.raises(ConfigurationError, match="secret"):
        Gator("locmem://", secret=["new", ""])


def test_a_lease_that_is_read_is_checked_against_its_own_queue() -> None:
    gator = Gator("locmem://", secret="secret")
    gator.task(add, 1, 2)
    [lease] = gator.client.reserve("all")

    assert gator.read(lease).func is add
    with pytest.raises(BadSignature):
        gator.read(Lease("other", lease.task_id, lease.data))


def test_a_replayed_payload_is_refused_under_another_id() -> None:
    gator = Gator("locmem://", secret="secret")
    gator.task(add, 1, 2)
    [lease] = gator.client.reserve("all")

    gator.client.push_many([Message("all", "again", lease.data)])

    with pytest.raises(BadSignature):
        gator.pop()
