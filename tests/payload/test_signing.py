"""Payloads are accepted if they are signed and their function is allowed."""

import json
import subprocess  # noqa: F401 - what this module has imported
import sys  # noqa: F401 - is not to be lent out
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alligator import Gator, Lease, Task, Worker
from alligator.backends.base import Message
from alligator.exceptions import BadSignature, NotAllowed, PayloadError
from alligator.payload.signing import Guard
from tests.harness.payloads import payload
from tests.harness.sample_tasks import add, fail


def note(task: Task, *about: object) -> None:
    """A hook."""


def read(data: str, *allow: str) -> Task:
    return Guard(allow=allow).read("all", "a", data, Task)


# Which functions.


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "tests.*",
        "tests.harness.sample_tasks.*",
        "tests.harness.sample_tasks.add",
        "*.add",
        "*.?dd",
    ],
)
def test_function_that_a_pattern_matches_may_run(pattern: str) -> None:
    assert read(payload("tests.harness.sample_tasks", "add"), "nothing.*", pattern).func is add


@pytest.mark.parametrize(
    "pattern", ["tests", "sample_tasks.*", "tests.harness.sample_tasks", "TESTS.*"]
)
def test_function_that_no_pattern_matches_may_not_run(pattern: str) -> None:
    with pytest.raises(NotAllowed, match=r"tests\.harness\.sample_tasks\.add is not among"):
        read(payload("tests.harness.sample_tasks", "add"), pattern)


def test_module_that_is_not_allowed_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "has_side_effects.py").write_text("raise SystemError('imported')")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(NotAllowed):
        read(payload("has_side_effects", "anything"), "tests.*")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("tests.payload.test_signing", "subprocess.run"),
        ("tests.payload.test_signing", "sys.exit"),
        ("tests.payload.test_signing", "Guard"),
        ("tests.payload.test_signing", "json.loads"),
        ("tests.payload.test_signing", "Path.unlink"),
        ("tests.payload.test_signing", "note.__globals__.clear"),
        ("tests.payload.test_signing", "note.__class__"),
        ("tests.payload.test_signing", "sys.modules.clear"),
        ("tests.payload.test_signing.subprocess", "run"),
    ],
)
def test_allowed_module_does_not_allow_functions_it_has_imported(module: str, name: str) -> None:
    with pytest.raises(PayloadError):
        read(payload(module, name), "tests.*")


@pytest.mark.parametrize("hook", ["on_start", "on_success", "on_error"])
def test_hooks_are_held_to_the_same(hook: str) -> None:
    mine = {"module": __name__, "callable": "note"}
    theirs = {"module": "os", "callable": "system"}
    data = payload("tests.harness.sample_tasks", "add", **{hook: mine})

    assert getattr(read(data, "tests.*", f"{__name__}.*"), hook) is not None
    with pytest.raises(NotAllowed, match=r"os\.system"):
        read(data.replace(json.dumps(mine), json.dumps(theirs)), "tests.*", f"{__name__}.*")


def test_worker_buries_a_forbidden_function_and_continues() -> None:
    gator = Gator("locmem://", allow="tests.harness.sample_tasks.add")
    gator.client.push("all", "bad", payload("os", "getpid"))
    good = gator.task(add, 1, 2)

    Worker(gator, burst=True).run_forever()

    [letter] = gator.dead_letters()
    assert letter.task_id == "bad"
    assert letter.reason.startswith("NotAllowed: os.getpid")
    assert (gator.stats().succeeded, good.status) == (1, 0)


# Signatures.


def test_signed_payload_can_be_read() -> None:
    guard = Guard(["secret"])

    sealed = guard.seal("all", "a", "data with spaces")

    assert sealed != "data with spaces"
    assert guard.open("all", "a", sealed) == "data with spaces"


@pytest.mark.parametrize(
    ("queue_name", "task_id"), [("other", "a"), ("all", "b"), ("alla", ""), ("al", "la")]
)
def test_payload_is_valid_for_its_own_queue_and_id_only(queue_name: str, task_id: str) -> None:
    guard = Guard(["secret"])

    sealed = guard.seal("all", "a", "data")

    with pytest.raises(BadSignature):
        guard.open(queue_name, task_id, sealed)


@given(st.text(max_size=20), st.integers(0, 200), st.characters())
def test_payload_that_was_tampered_with_is_refused(data: str, place: int, new: str) -> None:
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
def test_payload_without_a_signature_is_refused(sealed: str) -> None:
    with pytest.raises(BadSignature):
        Guard(["secret"]).open("all", "a", sealed)


def test_secret_can_be_replaced_without_losing_a_task() -> None:
    old, both, new = Guard(["old"]), Guard(["new", "old"]), Guard(["new"])
    before, during = old.seal("all", "a", "1"), both.seal("all", "a", "2")

    assert both.open("all", "a", before) == "1"
    assert new.open("all", "a", during) == "2"
    with pytest.raises(BadSignature):
        new.open("all", "a", before)


def test_worker_without_a_secret_runs_signed_tasks() -> None:
    sealed = Guard(["secret"]).seal("all", "a", "data")

    assert Guard().open("all", "a", sealed) == "data"


def test_retried_task_is_signed_again() -> None:
    gator = Gator("locmem://", secret="secret")
    gator.options(retries=2, backoff=0).task(fail)

    Worker(gator, burst=True).run_forever()

    [letter] = gator.dead_letters()
    assert letter.reason == "RuntimeError: no luck"
    assert gator.stats().retried == 2


def test_dead_letter_that_is_retried_is_still_valid() -> None:
    gator = Gator("locmem://", secret="secret")
    task = gator.task(fail)
    Worker(gator, burst=True).run_forever()

    gator.retry_dead(task.task_id)

    with pytest.raises(RuntimeError, match="no luck"):
        gator.pop()


def test_worker_buries_unsigned_tasks_and_continues() -> None:
    gator = Gator("locmem://", secret="secret")
    gator.client.push("all", "bad", payload("tests.harness.sample_tasks", "add"))
    gator.client.push("all", "worse", "\ud800")
    gator.task(add, 1, 2)

    Worker(gator, burst=True).run_forever()

    assert {letter.reason.split(":")[0] for letter in gator.dead_letters()} == {"BadSignature"}
    assert (gator.stats().dead, gator.stats().succeeded) == (2, 1)


def test_signed_task_of_a_transaction_reaches_the_queue_it_was_signed_for() -> None:
    gator = Gator("locmem://", secret="secret")

    with gator.transaction():
        task = gator.task(add, 1, 2)
        task.queue_name = "elsewhere"

    assert gator.pop() is not None


@pytest.mark.parametrize(("secret", "said"), [(None, "are not"), ("secret", "must be")])
def test_worker_logs_at_its_start_whether_tasks_are_signed(
    secret: str | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    Worker(Gator("locmem://", secret=secret), burst=True).run_forever()

    lines = [record.getMessage() for record in caplog.records if "signed" in record.getMessage()]
    assert len(lines) == 1
    assert f"tasks {said} signed" in lines[0]


# Which store.


def scope_of(dsn: str) -> str:
    pytest.importorskip("redis" if dsn.startswith(("redis", "unix")) else "alligator")
    if dsn.startswith("sqs"):
        pytest.importorskip("boto3")
    return Gator(dsn, secret="secret").client.scope


@pytest.mark.parametrize(
    ("dsn", "other"),
    [
        ("redis://localhost", "redis://:pass@127.0.0.1:6379/0"),
        ("redis://a/2?ns=shop&timeout=2", "rediss://u:p@b:7000?timeout=3&db=2&ns=shop"),
        ("redis://a/2", "unix:///run/redis.sock?db=2"),
        ("redis+sentinel://a,b/main/2", "redis+sentinel://u:p@b:7000,c/main/2"),
        ("redis://a/2", "redis+sentinel://b/main/2"),
        ("redis+cluster://a:1,b:2", "redis+cluster://:p@b:2/0"),
        ("sqlite:///srv/app/queue.db", "sqlite:///data/queue.db?timeout=5"),
        ("sqs://eu-west-1/?prefix=shop", "sqs://?prefix=shop&poll=2&region=eu-west-1"),
        ("locmem://shop", "locmem://shop"),
    ],
)
def test_dsns_of_one_store_have_one_scope(dsn: str, other: str) -> None:
    assert scope_of(dsn) == scope_of(other)


@pytest.mark.parametrize(
    ("dsn", "other"),
    [
        ("redis://localhost/0", "redis://localhost/1"),
        ("redis://localhost/0", "redis://localhost/0?ns=staging"),
        ("sqlite:///srv/live.db", "sqlite:///srv/staging.db"),
        ("sqs://eu-west-1/?prefix=live", "sqs://eu-west-1/?prefix=staging"),
        ("locmem://live", "locmem://staging"),
    ],
)
def test_task_is_valid_for_the_store_it_was_signed_for(dsn: str, other: str) -> None:
    live, staging = (Guard("secret", scope=scope_of(each)) for each in (dsn, other))

    sealed = staging.seal("all", "a", "data")

    assert staging.open("all", "a", sealed) == "data"
    with pytest.raises(BadSignature):
        live.open("all", "a", sealed)


def test_task_that_is_copied_to_another_store_is_refused(tmp_path: Path) -> None:
    staging, live = (
        Gator(f"sqlite://{tmp_path}/{name}.db", secret="secret") for name in ("staging", "live")
    )
    task = staging.task(add, 1, 2)
    [lease] = staging.client.reserve("all")

    live.client.push("all", task.task_id, lease.data)
    Worker(live, burst=True).run_forever()

    [letter] = live.dead_letters()
    assert letter.reason.startswith("BadSignature")


def test_lease_that_is_read_is_checked_against_its_own_queue() -> None:
    gator = Gator("locmem://", secret="secret")
    gator.task(add, 1, 2)
    [lease] = gator.client.reserve("all")

    assert gator.read(lease).func is add
    with pytest.raises(BadSignature):
        gator.read(Lease("other", lease.task_id, lease.data))


def test_replayed_payload_is_refused_under_another_id() -> None:
    gator = Gator("locmem://", secret="secret")
    gator.task(add, 1, 2)
    [lease] = gator.client.reserve("all")

    gator.client.push_many([Message("all", "again", lease.data)])

    with pytest.raises(BadSignature):
        gator.pop()
