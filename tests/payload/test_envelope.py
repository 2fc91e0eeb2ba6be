"""Fields of a payload, read without an import of its function."""

import json
from typing import Any

import pytest

from alligator import Gator, Task, Worker
from alligator.exceptions import PayloadError
from alligator.payload import envelope
from alligator.payload.encoding import encode
from alligator.payload.envelope import (
    content_in,
    last_error_in,
    name_in,
    note_release,
    read,
    released_in,
    rewrite,
    task_id_in,
    timeout_in,
)
from tests.harness.payloads import DEEP
from tests.harness.sample_tasks import add

DATA = '{"module":"shop.mail","callable":"send","options":{"timeout":2.5},"error":"OSError: no"}'
SIGNED = f"hmac-sha256:00 {DATA}"

OF_1_0 = (
    '{"task_id": "old", "retries": 1, "is_async": true, "module": "tests.harness.sample_tasks", '
    '"callable": "fail", "args": ["no \\u00e9"], "kwargs": {}, "options": {"on_error": {"module": '
    '"tests.payload.test_envelope", "callable": "noted"}}}'
)
OF_A_LATER_VERSION = (
    '{"task_id":"new","retries":1,"is_async":true,"module":"tests.harness.sample_tasks",'
    '"callable":"fail","args":[["no",NaN]],"kwargs":{},"options":{"backoff":0,"horizon":7},'
    '"headers":{"a":"b"},"unique":{"key":["k"]}}'
)


@pytest.mark.parametrize("data", [DATA, SIGNED], ids=["plain", "signed"])
def test_fields_are_read_from_plain_and_signed_payloads(data: str) -> None:
    assert name_in(data) == "shop.mail.send"
    assert timeout_in(data) == 2.5
    assert last_error_in(data) == "OSError: no"
    assert released_in(data) is None


@pytest.mark.parametrize("data", ["", "garbage", "[]", "{", '{"options": 7, "error": null}'])
def test_fields_of_an_unreadable_payload_have_defaults(data: str) -> None:
    assert name_in(data) == "?"
    assert timeout_in(data) is None
    assert released_in(data) is None


def test_releases_are_counted_from_the_first() -> None:
    first, _ = note_release(DATA)
    second, released = note_release(first)

    assert released == released_in(second)
    assert released.times == 2
    assert released.since == json.loads(first)["released"][0]
    assert {**json.loads(second), "released": 0} == {**json.loads(DATA), "released": 0}


def test_releases_are_counted_again_after_a_long_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = note_release(DATA)
    monkeypatch.setattr(envelope, "FORGET_SECONDS", -1.0)

    _, released = note_release(first)

    assert released.times == 1


def test_release_of_garbage_is_a_payload_error() -> None:
    with pytest.raises(PayloadError):
        note_release("garbage")


# A whole payload.


def noted(task: Task, error: BaseException) -> None:
    """Serve as the hook of a payload."""


def test_payload_of_1_0_is_written_again_with_the_same_keys() -> None:
    envelope_ = read(OF_1_0)

    assert encode(envelope_) == json.dumps(json.loads(OF_1_0), separators=(",", ":"))
    assert [str(name) for name in envelope_.functions] == [
        "tests.harness.sample_tasks.fail",
        "tests.payload.test_envelope.noted",
    ]


@pytest.mark.parametrize(
    "data",
    [
        OF_1_0,
        # The previous version: no blanks, and keys of its own.
        OF_1_0.replace(": ", ":").replace(", ", ",")[:-1]
        + ',"headers":{"a":"b"},"attempt":2,"error":"OSError: no","released":[1.0,1,1.0]}',
    ],
    ids=["1.0", "previous"],
)
def test_payload_of_an_older_version_is_run_and_retried(data: str) -> None:
    gator = Gator("locmem://")
    gator.client.push("all", "old", data)

    Worker(gator, burst=True).run_forever()
    [waiting] = gator.client.scheduled("all")

    again = json.loads(waiting.data)
    before = json.loads(data)
    before.pop("released", None)
    attempt, error = before.pop("attempt", 1) + 1, "RuntimeError: no é"
    assert again == {**before, "retries": 0, "attempt": attempt, "error": error}


def test_keys_of_a_later_version_survive_a_retry() -> None:
    gator = Gator("locmem://")
    gator.client.push("all", "new", OF_A_LATER_VERSION)

    Worker(gator, burst=True).run_forever()
    [letter] = gator.dead_letters()

    found = json.loads(letter.data)
    assert found["unique"] == {"key": ["k"]}
    assert found["options"] == {"backoff": 0.0, "horizon": 7}
    assert (found["retries"], found["attempt"], found["headers"]) == (0, 2, {"a": "b"})
    assert str(found["args"]) == "[['no', nan]]"


def test_payload_is_rewritten_with_the_call_that_was_read() -> None:
    before = '{"args":[1,2],"kwargs":{"a":[3]},"typed":{"0":"set"},"later":{}}'
    changed = read(OF_1_0)
    changed.args, changed.retries = ["changed"], 7

    found = json.loads(rewrite(changed, before))

    assert (found["args"], found["kwargs"], found["typed"]) == ([1, 2], {"a": [3]}, {"0": "set"})
    assert (found["retries"], found["later"]) == (7, {})


@pytest.mark.parametrize("data", [DATA, SIGNED, OF_1_0, OF_A_LATER_VERSION])
def test_person_can_read_any_payload(data: str) -> None:
    content = content_in(data)

    assert content is not None
    assert content.callable in ("send", "fail")


@pytest.mark.parametrize(
    "data", ["", "{", "[]", "7", '["{"]', '{"a":' * DEEP, "hmac-sha256:00 7", "\ud800{\ud800"]
)
def test_garbage_has_no_fields(data: str) -> None:
    assert content_in(data) is None
    assert task_id_in(data) == ""
    assert last_error_in(data) == ""
    with pytest.raises(PayloadError):
        read(data)


@pytest.mark.parametrize("options", [{}, {"secret": "s3cret"}])
def test_id_is_read_of_signed_and_unsigned_payloads(options: dict[str, Any]) -> None:
    gator = Gator("locmem://", **options)
    task = gator.task(add, 1, 2)
    lease = gator.client.lease("all", task.task_id)

    assert lease is not None
    assert task_id_in(lease.data) == task.task_id
    assert name_in(lease.data) == "tests.harness.sample_tasks.add"
