"""The client of SQS, also where SQS cannot keep the contract."""

import re
import time
from pathlib import Path
from random import Random

import pytest

from alligator import Gator, Worker
from alligator.backends.sqs_backend import Client
from alligator.exceptions import BackendError, BackendUnavailable
from alligator.monitoring.health import Health
from tests.backends.conftest import MOTO_LIMITS, PATIENCE, SQS_LIMITS
from tests.harness import sample_tasks
from tests.harness.sqs_proxy import SqsProxy, storm
from tests.harness.sqs_queues import HOUR, denies, push, run_all


def test_lists_of_limits_name_tests_that_exist() -> None:
    here = Path(__file__).parent.parent
    files = [*here.glob("contract/test_*.py"), *here.glob("test_*.py")]
    text = "".join(file.read_text() for file in files)
    listed = [*SQS_LIMITS.values(), *MOTO_LIMITS.values()]
    names = [name.partition("[")[0] for names in listed for name in names]

    assert set(names) <= set(re.findall(r"def (test_\w+)\(", text))
    assert len(names) == len(set(names))


# Queues.


def test_reading_a_queue_does_not_create_it(client: Client) -> None:
    client.stats("mail")
    client.len("mail")
    client.dead_letters("mail")
    client.drop_all("mail")
    client.ping()

    assert client._sqs.names() == []


def test_drop_all_drops_leased_tasks_but_no_dead_ones(client: Client) -> None:
    push(client, "leased", "dead")
    leased, dead = client.reserve("mail", limit=2)
    client.dead_letter(dead, reason="no luck")
    push(client, "ready")
    push(client, "scheduled", delay=HOUR)

    client.drop_all("mail")
    client.ack(leased)

    stats = client.stats("mail")
    assert (stats.ready, stats.scheduled, stats.leased, stats.dead) == (0, 0, 0, 1)


# Leases.


def test_no_task_can_be_found_by_its_id(client: Client) -> None:
    push(client, "a")

    for action in (client.get, client.lease, client.cancel):
        with pytest.raises(BackendError, match="cannot find a task by its id"):
            action("mail", "a")


def test_extend_returns_leases_that_are_lost(client: Client) -> None:
    push(client, "a", "b")
    done, held = client.reserve("mail", limit=2)
    client.ack(done)

    assert client.extend([done, held], HOUR) == [done]


def test_extend_continues_after_a_refused_queue(client: Client, proxy: SqsProxy) -> None:
    push(client, "a")
    push(client, "b", queue="print")
    leases = client.step(["mail", "print"], 2).leases
    extend = "ChangeMessageVisibilityBatch"

    with proxy.rule(denies(extend, queue="mail")), pytest.raises(BackendError, match="IAM"):
        client.extend(leases, HOUR)

    asked = [request.queue for request in proxy.seen if request.operation == extend]
    assert [name.rpartition("-")[2] for name in asked] == ["mail", "print"]


# Waiting.


def test_wait_looks_at_all_queues(client: Client) -> None:
    push(client, "a", queue="print")
    began = time.monotonic()

    client.wait(["mail", "print"], 20)

    assert time.monotonic() - began < 15
    assert [lease.task_id for lease in client.step(["mail", "print"], 1).leases] == ["a"]


def test_wait_continues_after_a_refused_queue(client: Client, proxy: SqsProxy) -> None:
    push(client, "b", queue="print")

    with proxy.rule(denies("ReceiveMessage", queue="mail")):
        client.wait(["mail", "print"], PATIENCE)
        with pytest.raises(BackendError, match="IAM policy"):
            client.wait(["mail"], PATIENCE)

    (lease,) = client.step(["mail", "print"], 1).leases
    assert lease.task_id == "b"


# Worker and health.


def test_worker_runs_the_tasks_of_a_transaction(dsn: str, tmp_path: Path) -> None:
    gator, ran = Gator(dsn), tmp_path / "ran"
    with gator.transaction():
        for n in range(3):
            gator.task(sample_tasks.record, str(ran), str(n))
        gator.task(sample_tasks.fail)

    Worker(gator, burst=True, log_level="CRITICAL").run_forever()

    assert sorted(ran.read_text().split()) == ["0", "1", "2"]
    (letter,) = gator.dead_letters()
    assert "RuntimeError" in letter.reason
    assert "Traceback" in letter.traceback
    assert gator.stats().ready == gator.stats().leased == 0
    gator.client.close()


def test_health_lists_limits_and_no_workers(dsn: str) -> None:
    gator = Gator(dsn)
    gator.task(sample_tasks.add, 1, 2)

    verdict = Health(gator, timeout=20).verdict()

    assert verdict.status == "pass", verdict
    assert "workers:connections" not in verdict.checks
    said = " ".join(entry["output"] for entry in verdict.checks["limits"])
    assert "cannot be taken back" in said
    gator.client.close()


def test_accepted_tasks_survive_a_storm_of_faults(
    client: Client, proxy: SqsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alligator.backends.sqs_backend.unbatching.CHUNK_SECONDS", 2.0)
    push(client, "first")
    accepted = ["first"]

    with proxy.rule(storm(Random(1))):
        for n in range(6):
            names = [f"{n}-{k}" for k in range(12)]
            try:
                push(client, *names)
            except BackendUnavailable:
                continue
            accepted += names
        ran = run_all(client, rounds=40)
    ran += run_all(client)

    assert set(accepted) - set(ran) == set()
