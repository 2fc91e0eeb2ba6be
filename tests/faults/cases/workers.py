"""Faults of a worker: killed, terminated or frozen."""

import signal
from pathlib import Path

from tests.faults.catalogue import EVERYWHERE, fault
from tests.faults.harness import LEASE_SECONDS, Broken, Harness, eventually


def begun(harness: Harness, times: int = 1) -> None:
    """Wait until tasks have begun this number of times."""
    eventually(
        lambda: sum(map(len, harness.audit_log.runs().values())) >= times,
        "a task is begun",
        seconds=10,
    )


def let_go(harness: Harness, name: str) -> None:
    """Release a task that waits."""
    Path(f"{harness.audit_log.ledger}.{name}").touch()


def check_recovery(harness: Harness) -> None:
    """Check that a lost task was reclaimed after its lease had ended."""
    harness.drain()
    assert harness.measured is not None
    # SQS hides a message for ten seconds while its tasks are sent on one by one.
    if harness.measured > LEASE_SECONDS + (20 if harness.kind == "sqs" else 5):
        raise Broken(f"I5: it took {harness.measured:.1f} s to recover")


@fault(*EVERYWHERE, "sqs", quick=True)
def worker_killed(harness: Harness) -> None:
    """Kill workers at random moments under load, and start others."""
    harness.web()
    harness.worker()
    harness.worker()
    with harness.traffic(task="work"):
        for _ in range(5):
            harness.pause(0.1, 0.6)
            victim = harness.random.choice(harness.workers)
            harness.workers.remove(victim)
            harness.signal_worker(victim, signal.SIGKILL)
            harness.worker()
    check_recovery(harness)


@fault()
def worker_terminated(harness: Harness) -> None:
    """Send SIGTERM to workers at random moments: no task may run twice."""
    harness.web()
    harness.worker()
    harness.worker()
    with harness.traffic(task="work"):
        for _ in range(4):
            harness.pause(0.3, 0.8)
            victim = harness.workers.pop(0)
            harness.signal_worker(victim, signal.SIGTERM)
            harness.worker()


@fault(*EVERYWHERE, "sqs", quick=True)
def worker_killed_before_ack(harness: Harness) -> None:
    """Kill a worker after its task is done, but before the store has the ack."""
    harness.web()
    victim = harness.worker()
    (name,) = harness.ask(1, task="end_and_stop").ids
    eventually(lambda: name in harness.audit_log.ended(), "the task ends", seconds=10)
    harness.pause(0.05, 0.1)
    harness.signal_worker(victim, signal.SIGKILL)
    harness.worker()
    check_recovery(harness)


@fault()
def worker_killed_during_task(harness: Harness) -> None:
    """Kill a worker during a task: another worker must run the task."""
    harness.web()
    victim = harness.worker()
    (name,) = harness.ask(1, task="hold").ids
    begun(harness)
    harness.signal_worker(victim, signal.SIGKILL)
    harness.worker()
    begun(harness, 2)
    let_go(harness, name)
    check_recovery(harness)


@fault(*EVERYWHERE, "sqs")
def worker_frozen(harness: Harness) -> None:
    """Freeze workers at random moments for longer than a lease, and resume them."""
    harness.web()
    harness.worker()
    harness.worker()
    with harness.traffic():
        for _ in range(2):
            harness.pause(0.2, 0.5)
            victim = harness.random.choice(harness.workers)
            harness.signal_worker(victim, signal.SIGSTOP)
            harness.pause(1.5 * LEASE_SECONDS, 2 * LEASE_SECONDS)
            harness.signal_worker(victim, signal.SIGCONT)


@fault()
def worker_frozen_with_a_batch(harness: Harness) -> None:
    """Freeze workers that have reserved many short tasks: they start none of these when they resume."""
    freeze_with_reserved_tasks(harness)


@fault("redis", "postgres")
def isolating_worker_frozen(harness: Harness) -> None:
    """Freeze workers that run short tasks in other processes, together with these."""
    harness.environ["ISOLATE"] = "1"
    freeze_with_reserved_tasks(harness)


def freeze_with_reserved_tasks(harness: Harness) -> None:
    """Freeze a worker, have another one run all tasks, and resume it; three times."""
    harness.web()
    for _ in range(3):
        harness.drain()
        before = len(harness.audit_log.runs())
        for _ in range(4):
            harness.ask(250)
        victim = harness.workers[-1]
        begun(harness, before + harness.random.randint(1, 100))
        harness.signal_worker(victim, signal.SIGSTOP)
        harness.worker()
        harness.pause(1.5 * LEASE_SECONDS, 2 * LEASE_SECONDS)
        harness.signal_worker(victim, signal.SIGCONT)
        harness.drain()
        harness.signal_worker(victim, signal.SIGTERM)


@fault()
def idle_worker_frozen(harness: Harness) -> None:
    """Freeze an idle worker and push tasks: another worker runs them, once the lease has ended."""
    harness.web()
    victim = harness.worker()
    harness.ask(1)
    harness.drain()
    harness.pause(0.1, 0.2)  # until it waits
    harness.signal_worker(victim, signal.SIGSTOP)
    (name,) = harness.ask(1).ids
    if harness.kind == "redis":
        eventually(
            lambda: harness.store.census()[name] == "leased", "the frozen worker is given it", 10
        )
    harness.worker()
    eventually(lambda: name in harness.audit_log.ended(), "another worker runs it", seconds=10)
    harness.signal_worker(victim, signal.SIGCONT)
    harness.drain()
    harness.signal_worker(victim, signal.SIGTERM)
    check_runs(harness, name, 1)
    lost = harness.gator.stats().lost
    if lost != (harness.kind == "redis"):
        raise Broken(f"{lost} leases were lost")


@fault(quick=True)
def frozen_worker_fails_late(harness: Harness) -> None:
    """Resume a worker whose task another worker has run: its late failure is ignored."""
    harness.web()
    victim = harness.worker()
    (name,) = harness.ask(1, task="hold_first").ids
    begun(harness)
    harness.signal_worker(victim, signal.SIGSTOP)
    harness.worker()
    eventually(lambda: name in harness.audit_log.ended(), "another worker runs it", seconds=10)
    let_go(harness, name)
    harness.signal_worker(victim, signal.SIGCONT)
    harness.drain()
    harness.signal_worker(
        victim, signal.SIGTERM
    )  # it reports all that it has to say before it ends
    check_runs(harness, name, 2)


@fault()
def frozen_worker_succeeds_late(harness: Harness) -> None:
    """Resume a worker whose task another worker is running: its success counts, once."""
    harness.web()
    victim = harness.worker()
    (name,) = harness.ask(1, task="hold").ids
    begun(harness)
    harness.signal_worker(victim, signal.SIGSTOP)
    other = harness.worker()
    begun(harness, 2)
    harness.signal_worker(other, signal.SIGSTOP)
    let_go(harness, name)
    harness.signal_worker(victim, signal.SIGCONT)
    eventually(lambda: not harness.store.census(), "the late acknowledgement counts", seconds=10)
    harness.signal_worker(other, signal.SIGCONT)
    harness.signal_worker(other, signal.SIGTERM)
    check_runs(harness, name, 2)


def check_runs(harness: Harness, name: str, most: int) -> None:
    """Check that a task did not run more often than this."""
    runs = len(harness.audit_log.runs()[name])
    if runs > most:
        raise Broken(f"I3: {name} ran {runs} times")
