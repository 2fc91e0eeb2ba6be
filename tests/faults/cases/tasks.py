"""Faults of tasks that harm their workers, and of invalid payloads."""

import json
from contextlib import closing

from alligator import Gator
from alligator.backends.base import Message
from alligator.constants import MAX_LOST
from tests.faults.audit import Answer
from tests.faults.cases.connection_bytes import payload
from tests.faults.catalogue import fault
from tests.faults.harness import Broken, Harness, eventually

SECRET = "only for these tests"


def check_dead(harness: Harness, reasons: dict[str, str]) -> None:
    """Check that exactly these tasks are dead letters, with these reasons."""
    harness.doomed.update(reasons)
    letters = {letter.task_id: letter for letter in harness.gator.dead_letters(1000)}
    for name, reason in reasons.items():
        if name not in letters:
            raise Broken(f"{name} is not dead")
        if reason not in letters[name].reason:
            raise Broken(f"{name} is dead because of: {letters[name].reason}")
    if letters.keys() != reasons.keys():
        raise Broken(f"these are dead too: {letters.keys() - reasons.keys()}")


@fault(quick=True)
def poison_tasks(harness: Harness) -> None:
    """Run tasks that exit, crash, never end or use all memory: only they become dead letters."""
    harness.web()
    bad = {
        harness.ask(1, task="leave").ids[0]: f"lost {MAX_LOST} times",
        harness.ask(1, task="crash").ids[0]: f"lost {MAX_LOST} times",
        harness.ask(1, task="spin", timeout=0.2).ids[0]: "TaskTimeout",
        harness.ask(1, task="hog").ids[0]: "MemoryError",
        harness.ask(1, task="fail").ids[0]: "RuntimeError",
    }
    for _ in range(10):
        harness.ask(3)
    with harness.keep_workers(2):
        harness.mark()
        harness.drain()
    check_dead(harness, bad)
    for name in bad:
        times = len(harness.audit_log.runs()[name])
        if times > MAX_LOST:
            raise Broken(f"I3: {name} ran {times} times")


def renamed(data: str, **fields: object) -> str:
    """Return a payload with other fields."""
    return json.dumps({**json.loads(data), **fields})


@fault(quick=True)
def invalid_payloads(harness: Harness) -> None:
    """Put invalid payloads on the queue: no task, incomplete, or of functions that no worker has."""
    good = payload(harness.gator, "good")
    of_1_0 = {key: value for key, value in json.loads(good).items() if key != "headers"}
    bad = {
        "empty": "",
        "text": "what is this?",
        "list": "[1, 2, 3]",
        "null": "null",
        "deep": "[" * 50_000,
        "truncated": good[: len(good) // 2],
        "no-function": renamed(good, callable=None),
        "renamed": renamed(good, callable="used_to_be_here"),
        "moved": renamed(good, module="tests.faults.used_to_be_there"),
        "not-callable": renamed(good, callable="GIGABYTE"),
        "no-arguments": renamed(good, args="abc"),
        "negative": renamed(good, retries=-1),
        "of-tomorrow": json.dumps(
            {"v": 9, "id": "of-tomorrow", "call": "tests.faults.tasks.record"}
        ),
        "surprising": renamed(good, task_id=["a"]),
    }
    harness.audit_log.answers.append(Answer(("good", "of-1-0"), 201))
    messages = [Message("all", name, data) for name, data in bad.items()]
    messages.insert(3, Message("all", "good", good))
    messages.append(Message("all", "of-1-0", json.dumps({**of_1_0, "task_id": "of-1-0"})))
    harness.extra.update(bad)
    harness.gator.client.push_many(messages)
    if harness.kind != "sqlite":
        bad["bytes"] = ""
        harness.extra.add("bytes")
        put_bytes(harness)
    harness.injections = len(bad)
    worker = harness.worker(UNRUNNABLE_AFTER="2")  # by default, a day
    harness.mark()
    harness.drain()
    unrunnable = dict.fromkeys(["renamed", "moved", "not-callable"], "no worker that took it")
    check_dead(harness, {**dict.fromkeys(bad, ""), **unrunnable})
    if worker.poll() is not None:
        raise Broken("the worker has ended")


def put_bytes(harness: Harness) -> None:
    """Put bytes that are no text on a queue, without Alligator, and count them as it would."""
    if harness.kind == "postgres":
        harness.postgres.query(
            "INSERT INTO alligator.task (queue, id, seq, state, delayed, at, due, data)"
            r" VALUES ('all', 'bytes', 0, 'w', false, now(), now(), '\xfffe007b'::bytea);"
            "INSERT INTO alligator.tally (queue, waiting, pushed) VALUES ('all', 1, 1)"
        )
        return
    with closing(harness.valkey.connect()) as redis:
        redis.hset("{alligator}:all:job", "bytes", b"\xff\xfe\x00{")
        redis.zadd("{alligator}:all:due", {"bytes": 1})
        redis.hincrby("{alligator}:all:cnt", "pushed", 1)


@fault()
def forged_payloads(harness: Harness) -> None:
    """Put payloads on the queue that are unsigned, signed for another queue or id, or changed."""
    harness.environ["ALLIGATOR_SECRET"] = SECRET
    ours = Gator(harness.store.dsn, secret=SECRET)
    with closing(ours.client):
        good = payload(ours, "good")
        task = ours.task_class("elsewhere")
        task.to_call(print)
        bad = {
            "unsigned": payload(harness.gator, "unsigned"),
            "other-secret": payload(Gator("locmem://", secret="guessed"), "other-secret"),
            "other-id": good,
            "elsewhere": ours.guard.write(task, "elsewhere"),
            "changed": payload(ours, "changed").replace("record", "leave"),
        }
    harness.audit_log.answers.append(Answer(("good",), 201))
    harness.extra.update(bad)
    harness.injections = len(bad)
    messages = [Message("all", name, data) for name, data in bad.items()]
    harness.gator.client.push_many([*messages, Message("all", "good", good)])
    harness.worker()
    harness.mark()
    harness.drain()
    check_dead(harness, dict.fromkeys(bad, ""))


@fault()
def function_forbidden_for_a_while(harness: Harness) -> None:
    """Forbid a function (--allow) for a while: its tasks become dead letters, and run after a retry."""
    harness.web()
    harness.environ["ALLIGATOR_ALLOW"] = "another.*"
    harness.injections += 1
    ids = harness.ask(5).ids
    harness.worker()
    eventually(lambda: harness.gator.stats().dead == 5, "the tasks are dead")
    harness.signal_worker(harness.workers.pop(), 15)
    del harness.environ["ALLIGATOR_ALLOW"]
    for name in ids:
        harness.gator.retry_dead(name)
    harness.worker()
    harness.mark()
    harness.drain()
    if not {*ids} <= harness.audit_log.ended():
        raise Broken("I1: tasks are not run that were dead and retried")
