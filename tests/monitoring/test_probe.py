"""Checks in a thread of their own, whose results are reused."""

import os
import subprocess
import sys
import threading
from threading import Barrier, Event, Thread

import pytest

from alligator.monitoring.health import Health
from tests.harness.health import Durable, Frozen, gator_on
from tests.harness.programs import environment, eventually


class Broken(Durable):
    """A store whose library raises something of its own, and talks too much."""

    def ping(self) -> None:
        raise RuntimeError("cannot log in as app with p4ssw0rd")


class Counted(Durable):
    """A store that counts what it is asked."""

    pings = 0

    def ping(self) -> None:
        self.pings += 1


def ping_threads() -> int:
    return sum(thread.name == "alligator-health" for thread in threading.enumerate())


def test_message_of_a_foreign_error_is_not_shown() -> None:
    verdict = Health(gator_on(Broken)).verdict()

    assert verdict.status == "fail"
    assert "RuntimeError" in str(verdict)
    assert "p4ssw0rd" not in str(verdict)


def test_probe_that_hangs_is_not_joined_by_a_second_one(frozen: Frozen) -> None:
    eventually(lambda: ping_threads() == 0)  # those of other tests
    health = Health(gator_on(lambda _: frozen), timeout=0.05, fresh_for=0)

    verdicts = [health.verdict() for _ in range(10)]

    assert {verdict.status for verdict in verdicts} == {"fail"}
    eventually(lambda: frozen.pings > 0)  # its thread may still be starting
    assert frozen.pings == 1
    assert ping_threads() == 1


def test_probe_is_shared_by_twenty_callers(frozen: Frozen) -> None:
    health = Health(gator_on(lambda _: frozen), timeout=10)
    ready = Barrier(21)
    found: list[str] = []

    def ask() -> None:
        ready.wait()
        found.append(health.verdict().status)

    threads = [Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    ready.wait()
    eventually(lambda: frozen.pings)
    frozen.thawed.set()
    for thread in threads:
        thread.join()

    assert found == ["pass"] * 20
    assert frozen.pings == 1


def test_probe_result_is_reused_while_it_is_fresh() -> None:
    gator = gator_on(Counted)
    health = Health(gator, fresh_for=60)

    first, second = health.verdict(), health.verdict()

    assert first == second
    assert gator.backend.pings == 1


def test_probe_runs_again_once_its_result_is_stale() -> None:
    gator = gator_on(Counted)
    health = Health(gator, fresh_for=0)

    health.verdict()
    health.verdict()

    assert gator.backend.pings == 2


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_probes_while_the_ping_of_its_parent_hangs() -> None:
    client = Frozen("locmem://")
    health = Health(gator_on(lambda _: client), timeout=0.05)
    assert health.verdict().status == "fail"

    pid = os.fork()
    if pid == 0:
        client.thawed = Event()
        client.thawed.set()
        os._exit(0 if health.verdict().status == "pass" else 1)
    client.thawed.set()

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


PATCHED_LATE = """
from alligator import Gator
from alligator.monitoring.health import Health

health = Health(Gator("locmem://"))

from gevent import joinall, monkey, spawn

monkey.patch_all()
probes = [spawn(health.verdict) for _ in range(5)]
assert len(joinall(probes, timeout=10, raise_error=True)) == 5
"""


def test_probe_cache_works_when_gevent_patches_after_the_import() -> None:
    pytest.importorskip("gevent", reason="it is not installed: pip install gevent")

    done = subprocess.run(
        [sys.executable, "-c", PATCHED_LATE], env=environment(), timeout=30, check=False
    )

    assert done.returncode == 0
