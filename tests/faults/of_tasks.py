"""What tasks can do to their workers, and what can be wrong with what lies on a queue."""

import json
from contextlib import closing

from alligator import Gator
from alligator.backends.base import Message
from alligator.constants import MAX_LOST
from tests.faults.books import Answer
from tests.faults.catalogue import fault
from tests.faults.house import Broken, House, eventually
from tests.faults.of_bytes import payload

SECRET = "only for these tests"


def check_dead(house: House, reasons: dict[str, str]) -> None:
    """See to it that these tasks, and no others, are dead, each with such a reason."""
    house.doomed.update(reasons)
    letters = {letter.task_id: letter for letter in house.gator.dead_letters(1000)}
    for name, reason in reasons.items():
        if name not in letters:
            raise Broken(f"{name} is not dead")
        if reason not in letters[name].reason:
            raise Broken(f"{name} is dead because of: {letters[name].reason}")
    if letters.keys() != reasons.keys():
        raise Broken(f"these are dead too: {letters.keys() - reasons.keys()}")


@fault(quick=True)
def poison(house: House) -> None:
    """Give workers tasks that exit, crash, never end or take all memory: dead in the end, alone."""
    house.web()
    bad = {
        house.ask(1, task="leave").ids[0]: f"lost {MAX_LOST} times",
        house.ask(1, task="crash").ids[0]: f"lost {MAX_LOST} times",
        house.ask(1, task="spin", timeout=0.2).ids[0]: "TaskTimeout",
        house.ask(1, task="hog").ids[0]: "MemoryError",
        house.ask(1, task="fail").ids[0]: "RuntimeError",
    }
    for _ in range(10):
        house.ask(3)
    with house.kept(2):
        house.mark()
        house.drain()
    check_dead(house, bad)
    for name in bad:
        times = len(house.books.runs()[name])
        if times > MAX_LOST:
            raise Broken(f"I3: {name} ran {times} times")


def renamed(data: str, **fields: object) -> str:
    """Write other fields into a payload."""
    return json.dumps({**json.loads(data), **fields})


@fault(quick=True)
def garbage(house: House) -> None:
    """Put on the queue what is no task, or not whole, or of functions that are not there."""
    good = payload(house.gator, "good")
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
    house.books.answers.append(Answer(("good", "of-1-0"), 201))
    messages = [Message("all", name, data) for name, data in bad.items()]
    messages.insert(3, Message("all", "good", good))
    messages.append(Message("all", "of-1-0", json.dumps({**of_1_0, "task_id": "of-1-0"})))
    house.extra.update(bad)
    house.gator.client.push_many(messages)
    if house.kind != "sqlite":
        bad["bytes"] = ""
        house.extra.add("bytes")
        put_bytes(house)
    house.strikes = len(bad)
    worker = house.worker()
    house.mark()
    house.drain()
    check_dead(house, dict.fromkeys(bad, ""))
    if worker.poll() is not None:
        raise Broken("the worker has ended")


def put_bytes(house: House) -> None:
    """Put what is no text on a queue, past Alligator, and count it as it would."""
    with closing(house.valkey.connect()) as redis:
        redis.hset("{alligator}:all:job", "bytes", b"\xff\xfe\x00{")
        redis.zadd("{alligator}:all:due", {"bytes": 1})
        redis.hincrby("{alligator}:all:cnt", "pushed", 1)


@fault()
def forged(house: House) -> None:
    """Put on the queue what is not signed, signed for another queue or id, or changed since."""
    house.environ["ALLIGATOR_SECRET"] = SECRET
    ours = Gator(house.store.dsn, secret=SECRET)
    with closing(ours.client):
        good = payload(ours, "good")
        task = ours.task_class("elsewhere")
        task.to_call(print)
        bad = {
            "unsigned": payload(house.gator, "unsigned"),
            "other-secret": payload(Gator("locmem://", secret="guessed"), "other-secret"),
            "other-id": good,
            "elsewhere": ours.write(task, "elsewhere"),
            "changed": payload(ours, "changed").replace("record", "leave"),
        }
    house.books.answers.append(Answer(("good",), 201))
    house.extra.update(bad)
    house.strikes = len(bad)
    messages = [Message("all", name, data) for name, data in bad.items()]
    house.gator.client.push_many([*messages, Message("all", "good", good)])
    house.worker()
    house.mark()
    house.drain()
    check_dead(house, dict.fromkeys(bad, ""))


@fault()
def renamed_and_back(house: House) -> None:
    """Let a function be missing for a while: its tasks wait among the dead, and run once retried."""
    house.web()
    house.environ["ALLIGATOR_ALLOW"] = "another.*"
    house.strikes += 1
    ids = house.ask(5).ids
    house.worker()
    eventually(lambda: house.gator.stats().dead == 5, "the tasks are dead")
    house.strike(house.workers.pop(), 15)
    del house.environ["ALLIGATOR_ALLOW"]
    for name in ids:
        house.gator.retry_dead(name)
    house.worker()
    house.mark()
    house.drain()
    if not {*ids} <= house.books.ended():
        raise Broken("I1: tasks are not run that were dead and retried")
