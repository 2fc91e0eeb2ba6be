"""The contract of every store: threads, forks and processes."""

import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from alligator.backends.base import (
    Client,
    Message,
    Outcome,
)
from tests.harness.contract import (
    drain,
    ids,
    push,
    take,
)
from tests.harness.programs import ROOT


def test_threads_reserve_every_task_once(client: Client) -> None:
    push(client, *(f"t{n}" for n in range(200)))

    def work() -> list[str]:
        done: list[str] = []
        outcomes: list[Outcome] = []
        while leases := client.step(["mail"], 3, outcomes=outcomes).leases:
            done += ids(leases)
            outcomes = [Outcome("ack", lease) for lease in leases]
        client.step((), 0, outcomes=outcomes)
        return done

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(work) for _ in range(8)]
        runs = Counter(task_id for future in futures for task_id in future.result())

    assert len(runs) == 200
    assert set(runs.values()) == {1}
    assert client.stats("mail").succeeded == 200


def test_threads_push_at_the_same_time(client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: push(client, f"t{n}"), range(100)))

    assert sorted(drain(client)) == sorted(f"t{n}" for n in range(100))


def test_repeated_commit_from_several_threads_is_queued_once(client: Client) -> None:
    def commit(n: int) -> None:
        client.push_many([Message("mail", f"t{n}", "1")], commit_id="c1")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(commit, range(16)))

    assert client.len("mail") == 1


def test_closed_client_opens_again(client: Client) -> None:
    push(client, "a")
    client.close()

    assert take(client).task_id == "a"


def test_forked_child_and_its_parent_continue(shared_dsn: str, client: Client) -> None:
    push(client, "before")
    client.wait(["mail"], 0.01)

    child = os.fork()
    if not child:
        code = 1
        with suppress(BaseException):
            push(client, *(f"child {n}" for n in range(50)))
            client.wait(["mail"], 1)
            code = len(client.reserve("mail")) != 1
            client.close()
        os._exit(code)
    for n in range(50):
        push(client, f"parent {n}")
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert client.stats("mail").pushed == 101
    assert len(drain(client)) == 100


CHILD = """
import time, sys
from alligator.backends import open_client
from alligator.backends.base import Message, Outcome

client = open_client(sys.argv[1])
"""


def start(code: str, dsn: str) -> "subprocess.Popen[str]":
    # An older botocore calls it, of which Python warns since 3.12.
    warnings = ["-W", "error", "-W", "ignore:datetime.datetime.utcnow"]
    return subprocess.Popen(
        [sys.executable, *warnings, "-c", CHILD + code, dsn],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def test_waiting_process_is_woken_by_the_push_of_another(shared_dsn: str, client: Client) -> None:
    worker = start(
        """
for _ in range(3):
    while not client.step(["ready"], 1).leases:
        print("waiting", flush=True)
        client.wait(["ready"], 20)
    print(time.time(), flush=True)
client.close()
""",
        shared_dsn,
    )
    took: list[float] = []
    with worker:
        assert worker.stdout is not None
        for task_id in "abc":
            assert worker.stdout.readline() == "waiting\n"
            time.sleep(0.2)
            pushed = time.time()
            push(client, task_id, queue="ready")
            while (line := worker.stdout.readline()) == "waiting\n":
                pass
            took.append(float(line) - pushed)

    assert min(took) < 0.8


def test_processes_run_every_task_once(shared_dsn: str, client: Client) -> None:
    push(client, *(f"t{n}" for n in range(200)))
    code = """
outcomes = []
while leases := client.step(["mail"], 3, outcomes=outcomes).leases:
    outcomes = [Outcome("ack", lease) for lease in leases]
    print(*(lease.task_id for lease in leases), sep="\\n", flush=True)
client.step((), 0, outcomes=outcomes)
client.close()
"""

    workers = [start(code, shared_dsn) for _ in range(3)]
    runs = Counter(line for worker in workers for line in worker.communicate(timeout=30)[0].split())

    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert len(runs) == 200
    assert set(runs.values()) == {1}
    assert client.stats("mail").succeeded == 200
