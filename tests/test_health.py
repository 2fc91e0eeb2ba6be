"""What a probe is told."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from threading import Barrier, Event, Thread
from time import monotonic

import pytest

from alligator import Gator
from alligator.backends import locmem_backend
from alligator.backends.base import QueueStats, WorkerInfo
from alligator.exceptions import BackendError, BackendUnavailable, ConfigurationError
from alligator.health import Health
from tests import sample_tasks
from tests.programs import SLACK, environment, eventually


class Durable(locmem_backend.Client):
    """A store of which nothing would be lost."""

    def warnings(self) -> list[str]:
        return []


class Frozen(Durable):
    """A store that accepts a question and never answers it, until it is thawed."""

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.thawed = Event()
        self.pings = 0

    def ping(self) -> None:
        self.pings += 1
        self.thawed.wait(30)


class Away(Durable):
    """A store that cannot be reached."""

    def ping(self) -> None:
        raise BackendUnavailable("redis://app:***@db cannot be reached")


class Broken(Durable):
    """A store whose library raises something of its own, and talks too much."""

    def ping(self) -> None:
        raise RuntimeError("cannot log in as app with p4ssw0rd")


class Mute(Durable):
    """A store that answers, but says nothing about itself."""

    def stats(self, queue_name: str) -> QueueStats:
        raise BackendError("no permission to run INFO")

    def warnings(self) -> list[str]:
        raise BackendError("no permission to run INFO")


class Forgetful(Durable):
    """A store that says what is wrong with it."""

    def warnings(self) -> list[str]:
        return ["it would forget accepted tasks when it restarts"]


class Counted(Durable):
    """A store that counts what it is asked."""

    pings = 0

    def ping(self) -> None:
        self.pings += 1


@pytest.fixture
def gator() -> Gator:
    """A gator with a worker on its queue."""
    return with_worker(Gator("locmem://", backend_class=Durable))


@pytest.fixture
def frozen() -> Iterator[Frozen]:
    client = Frozen("locmem://")
    yield client
    client.thawed.set()


def with_worker(gator: Gator) -> Gator:
    gator.client.beat(WorkerInfo(name="host:1:ab", queues=[gator.queue_name]), 60)
    return gator


def gator_on(make_client: Callable[[str], locmem_backend.Client]) -> Gator:
    return with_worker(Gator("locmem://", backend_class=make_client))


def ping_threads() -> int:
    return sum(thread.name == "alligator-health" for thread in threading.enumerate())


def test_a_store_that_answers_with_a_worker_on_the_queue_passes(gator: Gator) -> None:
    verdict = Health(gator).verdict()

    assert verdict.status == "pass"
    (answer,) = verdict.checks["backend:responseTime"]
    assert answer["observedUnit"] == "ms"
    assert answer["observedValue"] < 500
    assert verdict.checks["delivery"][0]["observedValue"] == "at-least-once"
    assert verdict.checks["workers:connections"][0]["observedValue"] == 1


def test_the_document_has_the_shape_of_the_draft(gator: Gator) -> None:
    document = Health(gator).verdict().document()

    assert document["status"] == "pass"
    for key, entries in document["checks"].items():
        for entry in entries:
            assert entry["status"] in ("pass", "warn", "fail"), key
            assert entry["time"].endswith("Z")
            assert "output" not in entry or entry["status"] != "pass"


def test_a_store_that_cannot_be_reached_fails() -> None:
    verdict = Health(gator_on(Away)).verdict()

    assert verdict.status == "fail"
    (answer,) = verdict.checks["backend:responseTime"]
    assert answer["output"] == "redis://app:***@db cannot be reached"
    assert "observedValue" not in answer


def test_the_words_of_an_error_that_is_not_ours_are_kept_back() -> None:
    verdict = Health(gator_on(Broken)).verdict()

    assert verdict.status == "fail"
    assert "RuntimeError" in str(verdict)
    assert "p4ssw0rd" not in str(verdict)


def test_a_store_that_hangs_fails_within_the_time_of_a_probe(frozen: Frozen) -> None:
    health = Health(gator_on(lambda _: frozen))

    began = monotonic()
    verdict = health.verdict()

    assert monotonic() - began < 0.5 + SLACK
    assert verdict.status == "fail"
    assert verdict.checks["backend:responseTime"][0]["output"] == "no answer within 500 ms"


def test_a_ping_that_hangs_is_not_joined_by_others(frozen: Frozen) -> None:
    eventually(lambda: ping_threads() == 0)  # those of other tests
    health = Health(gator_on(lambda _: frozen), timeout=0.05, fresh_for=0)

    verdicts = [health.verdict() for _ in range(10)]

    assert {verdict.status for verdict in verdicts} == {"fail"}
    eventually(lambda: frozen.pings > 0)  # its thread may still be starting
    assert frozen.pings == 1
    assert ping_threads() == 1


def test_a_store_that_thaws_is_well_again(frozen: Frozen) -> None:
    health = Health(gator_on(lambda _: frozen), timeout=0.05, fresh_for=0)
    assert health.verdict().status == "fail"

    frozen.thawed.set()

    eventually(lambda: health.verdict().status == "pass")


def test_twenty_callers_at_once_cost_one_ping(frozen: Frozen) -> None:
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


def test_an_answer_stands_for_a_second() -> None:
    gator = gator_on(Counted)
    health = Health(gator, fresh_for=60)

    first, second = health.verdict(), health.verdict()

    assert first == second
    assert gator.backend.pings == 1


def test_the_store_is_asked_again_when_its_answer_is_stale() -> None:
    gator = gator_on(Counted)
    health = Health(gator, fresh_for=0)

    health.verdict()
    health.verdict()

    assert gator.backend.pings == 2


def test_an_answer_that_comes_too_late_is_none(frozen: Frozen) -> None:
    health = Health(gator_on(lambda _: frozen), timeout=0.05, fresh_for=60)
    health.verdict()

    frozen.thawed.set()
    eventually(lambda: not ping_threads())

    (answer,) = health.verdict().checks["backend:responseTime"]
    assert answer["status"] == "fail"
    assert answer["output"].startswith("the answer took")


def test_a_queue_without_a_worker_is_a_warning() -> None:
    verdict = Health(Gator("locmem://", "mail", backend_class=Durable)).verdict()

    assert verdict.status == "warn"
    (workers,) = verdict.checks["workers:connections"]
    assert workers["observedValue"] == 0
    assert "mail" in workers["output"]


def test_a_worker_for_another_queue_does_not_count() -> None:
    gator = with_worker(Gator("locmem://", "mail", backend_class=Durable))
    other = Gator("locmem://", "video", backend_class=Durable)
    other.client.beat(WorkerInfo(name="host:1:ab", queues=["mail"]), 60)

    assert Health(gator).verdict().status == "pass"
    assert Health(other).verdict().status == "warn"


def test_tasks_that_have_waited_for_long_are_a_warning(gator: Gator) -> None:
    gator.task(sample_tasks.add, 1, 2)

    patient = Health(gator, backlog_after=60).verdict()
    strict = Health(gator, backlog_after=0).verdict()

    assert patient.status == "pass"
    assert patient.checks["queue/all:depth"][0]["observedValue"] == 1
    assert strict.status == "warn"
    assert strict.checks["queue/all:oldestAge"][0]["status"] == "warn"


def test_a_store_that_would_forget_is_a_warning() -> None:
    verdict = Health(gator_on(Forgetful)).verdict()

    assert verdict.status == "warn"
    (durability,) = verdict.checks["durability"]
    assert durability["output"] == "it would forget accepted tasks when it restarts"


def test_what_a_store_does_not_tell_is_a_warning() -> None:
    verdict = Health(gator_on(Mute)).verdict()

    assert verdict.status == "warn"
    assert verdict.checks["backend:responseTime"][0]["status"] == "pass"
    assert verdict.checks["workers:connections"][0]["status"] == "pass"
    assert verdict.checks["durability"][0]["status"] == "warn"
    assert verdict.checks["queue/all:depth"][0]["status"] == "warn"


def test_a_store_that_nobody_uses_is_not_asked() -> None:
    gator = Gator("locmem://", backend_class=Away, is_async=False)

    verdict = Health(gator).verdict()

    assert verdict.status == "pass"
    assert verdict.checks == {}
    assert "in this process" in verdict.notes[0]


def test_a_backend_of_five_methods_is_judged_by_what_it_can_know() -> None:
    class Five:
        def __init__(self, conn_string: str) -> None:
            pass

        def len(self, queue_name: str) -> int:
            return 3

    verdict = Health(Gator("five://", backend_class=Five)).verdict()

    assert verdict.status == "warn"
    assert verdict.checks["delivery"][0]["observedValue"] == "at-most-once"
    assert verdict.checks["queue/all:depth"][0]["observedValue"] == 3
    assert "workers:connections" not in verdict.checks


def test_the_worst_of_several_stores_decides(gator: Gator) -> None:
    verdict = Health([gator, gator_on(Away)]).verdict()

    assert verdict.status == "fail"
    found = [entry["status"] for entry in verdict.checks["backend:responseTime"]]
    assert found == ["pass", "fail"]


def test_several_stores_that_hang_are_waited_for_together(frozen: Frozen) -> None:
    gators = [gator_on(Frozen) for _ in range(10)]
    health = Health(gators)

    began = monotonic()
    verdict = health.verdict()

    assert monotonic() - began < 0.5 + SLACK  # one after the other it would be five seconds
    assert verdict.status == "fail"
    for gator in gators:
        gator.backend.thawed.set()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_asks_for_itself_while_the_parents_ping_hangs() -> None:
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


# What a project adds.


def test_a_check_of_the_project_is_asked_as_well(gator: Gator) -> None:
    asked = []
    health = Health(gator)
    health.check("db", lambda: asked.append("db"))

    verdict = health.verdict()

    assert verdict.status == "pass"
    assert asked == ["db"]
    assert verdict.checks["db:responseTime"][0]["observedUnit"] == "ms"


@pytest.mark.parametrize("critical", [True, False])
def test_a_check_that_raises_or_says_no_fails_if_it_is_critical(
    gator: Gator, critical: bool
) -> None:
    def broken() -> None:
        raise RuntimeError("cannot log in as app with p4ssw0rd")

    for call in (broken, lambda: False):
        health = Health(gator)
        health.check("db", call, critical=critical)
        verdict = health.verdict()

        assert verdict.status == ("fail" if critical else "warn")
        assert "p4ssw0rd" not in str(verdict.document())


def test_a_check_may_be_async_and_has_a_loop_of_its_own(gator: Gator) -> None:
    async def connects() -> bool:
        await asyncio.sleep(0)
        return threading.current_thread().name == "alligator-health"

    health = Health(gator)
    health.check("cache", connects)

    assert health.verdict().status == "pass"


def test_a_check_that_hangs_fails_in_time_and_is_not_asked_again(gator: Gator) -> None:
    thawed = Event()
    asked = []

    def hang() -> None:
        asked.append("once")
        thawed.wait(30)

    health = Health(gator, timeout=0.1, fresh_for=0)
    health.check("db", hang)
    try:
        began = monotonic()
        verdicts = [health.verdict() for _ in range(3)]
    finally:
        thawed.set()

    assert {verdict.status for verdict in verdicts} == {"fail"}
    assert monotonic() - began < 5
    assert asked == ["once"]
    eventually(lambda: health.verdict().status == "pass")


def test_a_name_has_one_check(gator: Gator) -> None:
    health = Health(gator)
    health.check("db", print)

    for name in ("db", ""):
        with pytest.raises(ConfigurationError):
            health.check(name, print)


def test_each_queue_may_have_limits_of_its_own() -> None:
    gators = [with_worker(Gator("locmem://limits", name)) for name in ("mail", "video")]
    for gator in gators:
        gator.task(sample_tasks.add, 1, 2)

    checks = (
        Health(gators, backlog_after={"mail": 3600, "video": -1}, backlog_depth={"mail": 0})
        .verdict()
        .checks
    )

    assert checks["queue/mail:depth"][0]["status"] == "warn"
    assert checks["queue/video:depth"][0]["status"] == "pass"
    assert checks["queue/mail:oldestAge"][0]["status"] == "pass"
    assert checks["queue/video:oldestAge"][0]["status"] == "warn"


# What else is known of the store.


def test_workers_are_shown_with_their_last_sign_of_life(gator: Gator) -> None:
    (seen,) = Health(gator).verdict().checks["workers:lastSeen"]

    assert seen["componentId"] == "host:1:ab"
    assert 0 <= seen["observedValue"] < 60


def test_tasks_that_were_refused_lately_are_a_reason_to_look() -> None:
    class Full(Durable):
        def push_many(self, messages: object, *, commit_id: str | None = None) -> None:
            raise BackendError("full")

    gator = gator_on(Full)
    before = Health(gator).verdict()
    with pytest.raises(BackendError), gator.transaction():
        gator.task(sample_tasks.add, 1, 2)

    after = Health(gator).verdict()

    assert before.checks["commits:failed"][0]["status"] == "pass"
    assert after.checks["commits:failed"][0]["status"] == after.status == "warn"


PATCHED_LATE = """
from alligator import Gator
from alligator.health import Health

health = Health(Gator("locmem://"))

from gevent import joinall, monkey, spawn

monkey.patch_all()
probes = [spawn(health.verdict) for _ in range(5)]
assert len(joinall(probes, timeout=10, raise_error=True)) == 5
"""


def test_greenlets_may_probe_at_once_when_gevent_came_after_the_import() -> None:
    pytest.importorskip("gevent", reason="it is not installed: pip install gevent")

    done = subprocess.run(
        [sys.executable, "-c", PATCHED_LATE], env=environment(), timeout=30, check=False
    )

    assert done.returncode == 0
