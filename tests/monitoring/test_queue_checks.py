"""What health reports of every queue of a store."""

from collections.abc import Sequence

import pytest

from alligator import Gator
from alligator.backends.base import KeyStats, Message, QueueStats
from alligator.exceptions import BackendUnavailable
from alligator.monitoring import queue_checks
from alligator.monitoring.health import Health
from tests.harness import sample_tasks
from tests.harness.health import Durable, bury, outputs, push, with_worker, work_on


def test_task_that_has_waited_for_long_is_a_warning(gator: Gator) -> None:
    gator.task(sample_tasks.add, 1, 2)

    patient = Health(gator, backlog_after=60).verdict()
    strict = Health(gator, backlog_after=0).verdict()

    assert patient.status == "pass"
    assert patient.checks["queue/mail:depth"][0]["observedValue"] == 1
    assert strict.status == "warn"
    assert strict.checks["queue/mail:oldestAge"][0]["status"] == "warn"


def test_queue_may_have_limits_of_its_own() -> None:
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


def test_oldest_task_of_every_queue_is_checked(gator: Gator) -> None:
    push(gator, "video")
    work_on(gator, "mail", "video")

    # -1: a task that has just come has waited for longer.
    every = Health(gator, backlog_after=-1).verdict()
    by_name = Health(gator, backlog_after={"video": -1}).verdict()
    patient = Health(gator, backlog_after={"video": 60}).verdict()

    assert every.checks["queue/video:oldestAge"][0]["status"] == "warn"
    assert by_name.checks["queue/video:oldestAge"][0]["status"] == "warn"
    assert by_name.checks["queue/mail:oldestAge"][0]["status"] == "pass"
    assert patient.status == "pass"


def test_depth_of_every_queue_is_checked(gator: Gator) -> None:
    push(gator, "video", 3)
    work_on(gator, "video")

    verdict = Health(gator, backlog_depth={"video": 2}).verdict()

    assert outputs(verdict) == ["video has 3 ready tasks, more than 2"]


def test_many_dead_tasks_are_a_warning(gator: Gator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_checks, "MAX_DEAD", 2)
    bury(gator, "film", 2)
    few = Health(gator).verdict()
    bury(gator, "video", 3)

    many = Health(gator).verdict()

    assert few.status == "pass"
    assert many.checks["queue/video:dead"][0]["observedValue"] == 3
    assert outputs(many) == ["video has 3 dead tasks: retry or drop them"]


def test_recently_dropped_tasks_are_a_warning(gator: Gator) -> None:
    bury(gator, "mail", 3)
    push(gator, "mail", 2)
    gator.client.note({}, ["mail"])
    gator.client.cancel("mail", "mail-0")
    before = Health(gator).verdict()

    for letter in gator.client.dead_letters("mail"):
        gator.client.drop_dead("mail", letter.task_id)
    after = Health(gator).verdict()

    assert before.status == "pass"
    assert after.checks["queue/mail:dropped"][0]["observedValue"] == 3
    assert outputs(after) == ["3 tasks of mail dropped in the last 15 minutes"]


def test_tasks_dropped_before_the_first_sample_are_no_warning(gator: Gator) -> None:
    push(gator, "mail", 2)
    gator.client.drop_all("mail")
    gator.client.note({}, ["mail"])

    assert Health(gator).verdict().status == "pass"


def test_number_that_cannot_be_read_is_a_warning() -> None:
    class Changed(Durable):
        def stats(self, queue_name: str) -> QueueStats:
            return QueueStats(unreadable=["pushed"])

    gator = Gator("locmem://", "mail", backend_class=Changed)
    work_on(gator, "mail")

    assert outputs(Health(gator).verdict()) == [
        "mail: the store has something that is not a number for pushed"
    ]


def test_paused_queue_is_a_warning_that_names_its_end(gator: Gator) -> None:
    work_on(gator, "mail")
    gator.task(sample_tasks.add, 1, 2)
    gator.pause()

    endless = Health(gator, backlog_after=-1).verdict()
    gator.pause(until=7200)
    timed = Health(gator).verdict()
    gator.resume()
    resumed = Health(gator).verdict()

    (entry,) = endless.checks["queue/mail:paused"]
    assert entry["output"] == "mail is paused until it is resumed; ready tasks: 1"
    assert (entry["status"], entry["observedValue"]) == ("warn", 1)
    # That its tasks wait needs no further warning.
    assert endless.checks["queue/mail:oldestAge"][0]["status"] == "pass"
    assert "mail is paused for 7,200 s more" in timed.checks["queue/mail:paused"][0]["output"]
    assert (resumed.status, "queue/mail:paused" in resumed.checks) == ("pass", False)


def test_limit_is_shown_with_how_many_tasks_wait_for_it(gator: Gator) -> None:
    work_on(gator, "mail")
    for _ in range(3):
        gator.task(sample_tasks.add, 1, 2)
    gator.limit(at_once=1)
    gator.client.reserve("mail", lease_for=3600)

    patient = Health(gator, backlog_after=60).verdict()
    strict = Health(gator, backlog_after=-1).verdict()
    gator.unlimit()
    unlimited = Health(gator).verdict()

    (entry,) = patient.checks["queue/mail:limited"]
    assert (patient.status, entry["status"], entry["observedValue"]) == ("pass", "pass", 2)
    assert strict.checks["queue/mail:oldestAge"][0]["output"].endswith("; 2 wait for its limit")
    assert "queue/mail:limited" not in unlimited.checks


def test_queue_that_waits_for_the_limits_of_its_keys_names_them(gator: Gator) -> None:
    work_on(gator, "mail")
    gator.options(limit_key="tenant-0").task(sample_tasks.add, 1, 2)
    gator.options(limit_key="tenant-0").task(sample_tasks.add, 1, 2)
    gator.limit(at_once=1, limit_key="*")
    gator.client.reserve("mail", limit=100, lease_for=3600)

    one = Health(gator, backlog_after=-1).verdict().checks["queue/mail:oldestAge"]
    for n in range(1, 12):
        gator.options(limit_key=f"tenant-{n:02}").task(sample_tasks.add, 1, 2)
        gator.options(limit_key=f"tenant-{n:02}").task(sample_tasks.add, 1, 2)
    gator.client.reserve("mail", limit=100, lease_for=3600)
    many = Health(gator, backlog_after=-1).verdict().checks["queue/mail:oldestAge"]

    assert one[0]["output"].endswith("; 1 key waits for its limit: tenant-0")
    names = "tenant-0, tenant-01, tenant-02, tenant-03, tenant-04 and 7 more"
    assert many[0]["output"].endswith(f"; 12 keys wait for their limits: {names}")


def test_limit_keys_that_cannot_be_read_hide_no_warning() -> None:
    class Changed(Durable):
        def key_stats(self, queue_names: Sequence[str]) -> dict[str, KeyStats]:
            raise BackendUnavailable("away")

    gator = Gator("locmem://", "mail", backend_class=Changed)
    gator.task(sample_tasks.add, 1, 2)
    work_on(gator, "mail")

    (found,) = outputs(Health(gator, backlog_after=-1).verdict())

    assert found.startswith("the oldest ready task of mail has waited")


def test_queues_with_a_warning_are_listed_first(gator: Gator) -> None:
    names = [f"q{number:05}" for number in range(2_000)]
    gator.client.push_many([Message(name, name, "{}") for name in names])
    work_on(gator, "mail", *names)
    push(gator, "q01999", 5)

    verdict = Health(gator, timeout=60, backlog_depth=3).verdict()

    assert "q01999 has 6 ready tasks, more than 3" in outputs(verdict)
    assert verdict.checks["queues:measured"][0]["observedValue"] == 2_001
    listed = [key for key in verdict.checks if key.endswith(":depth")]
    assert len(listed) == queue_checks.MAX_QUEUES
