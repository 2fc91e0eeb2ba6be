"""What can happen to a worker: it is killed, told to stop, or frozen for a while."""

import signal
from pathlib import Path

from tests.faults.catalogue import EVERYWHERE, fault
from tests.faults.house import LEASE_SECONDS, Broken, House, eventually


def begun(house: House, times: int = 1) -> None:
    """Wait until tasks were begun so many times."""
    eventually(
        lambda: sum(map(len, house.books.runs().values())) >= times, "a task is begun", seconds=10
    )


def let_go(house: House, name: str) -> None:
    """Open the gate of a task that is held."""
    Path(f"{house.books.ledger}.{name}").touch()


def check_recovery(house: House) -> None:
    """See to it that a lost task was taken up again once its lease had ended."""
    house.drain()
    assert house.measured is not None
    # SQS hides a message for ten seconds while its tasks are sent on one by one.
    if house.measured > LEASE_SECONDS + (20 if house.kind == "sqs" else 5):
        raise Broken(f"I5: it took {house.measured:.1f} s to recover")


@fault(*EVERYWHERE, "sqs", quick=True)
def worker_killed(house: House) -> None:
    """Kill workers at random moments while clients ask, and start others."""
    house.web()
    house.worker()
    house.worker()
    with house.traffic(task="work"):
        for _ in range(5):
            house.pause(0.1, 0.6)
            victim = house.random.choice(house.workers)
            house.workers.remove(victim)
            house.strike(victim, signal.SIGKILL)
            house.worker()
    check_recovery(house)


@fault()
def worker_told_to_stop(house: House) -> None:
    """Send workers SIGTERM at random moments: no task may be run twice for that."""
    house.web()
    house.worker()
    house.worker()
    with house.traffic(task="work"):
        for _ in range(4):
            house.pause(0.3, 0.8)
            victim = house.workers.pop(0)
            house.strike(victim, signal.SIGTERM)
            house.worker()


@fault(*EVERYWHERE, "sqs", quick=True)
def worker_killed_between_work_and_ack(house: House) -> None:
    """Kill a worker when its task is done and the store does not know it yet."""
    house.web()
    victim = house.worker()
    (name,) = house.ask(1, task="end_and_stop").ids
    eventually(lambda: name in house.books.ended(), "the task ends", seconds=10)
    house.pause(0.05, 0.1)
    house.strike(victim, signal.SIGKILL)
    house.worker()
    check_recovery(house)


@fault()
def worker_killed_in_its_task(house: House) -> None:
    """Kill a worker in the middle of a task, which another must then run."""
    house.web()
    victim = house.worker()
    (name,) = house.ask(1, task="hold").ids
    begun(house)
    house.strike(victim, signal.SIGKILL)
    house.worker()
    begun(house, 2)
    let_go(house, name)
    check_recovery(house)


@fault(*EVERYWHERE, "sqs")
def worker_frozen(house: House) -> None:
    """Freeze workers for longer than a lease at random moments, and let them go on."""
    house.web()
    house.worker()
    house.worker()
    with house.traffic():
        for _ in range(2):
            house.pause(0.2, 0.5)
            victim = house.random.choice(house.workers)
            house.strike(victim, signal.SIGSTOP)
            house.pause(1.5 * LEASE_SECONDS, 2 * LEASE_SECONDS)
            house.strike(victim, signal.SIGCONT)


@fault()
def idle_worker_frozen(house: House) -> None:
    """Freeze a worker that waits for work, and ask for some, which another does: once its lease ends."""
    house.web()
    victim = house.worker()
    house.ask(1)
    house.drain()
    house.pause(0.1, 0.2)  # until it waits
    house.strike(victim, signal.SIGSTOP)
    (name,) = house.ask(1).ids
    if house.kind == "redis":
        eventually(
            lambda: house.store.census()[name] == "leased", "the frozen worker is given it", 10
        )
    house.worker()
    eventually(lambda: name in house.books.ended(), "another worker runs it", seconds=10)
    house.strike(victim, signal.SIGCONT)
    house.drain()
    house.strike(victim, signal.SIGTERM)
    check_runs(house, name, 1)
    lost = house.gator.stats().lost
    if lost != (house.kind == "redis"):
        raise Broken(f"{lost} leases were lost")


@fault(quick=True)
def late_failure_of_a_frozen_worker(house: House) -> None:
    """Let a worker wake up and report a failure when another has run the task: it is not heard."""
    house.web()
    victim = house.worker()
    (name,) = house.ask(1, task="hold_first").ids
    begun(house)
    house.strike(victim, signal.SIGSTOP)
    house.worker()
    eventually(lambda: name in house.books.ended(), "another worker runs it", seconds=10)
    let_go(house, name)
    house.strike(victim, signal.SIGCONT)
    house.drain()
    house.strike(victim, signal.SIGTERM)  # it reports all that it has to say before it ends
    check_runs(house, name, 2)


@fault()
def late_success_of_a_frozen_worker(house: House) -> None:
    """Let a worker wake up and finish while another runs the same task: the work counts, once."""
    house.web()
    victim = house.worker()
    (name,) = house.ask(1, task="hold").ids
    begun(house)
    house.strike(victim, signal.SIGSTOP)
    other = house.worker()
    begun(house, 2)
    house.strike(other, signal.SIGSTOP)
    let_go(house, name)
    house.strike(victim, signal.SIGCONT)
    eventually(lambda: not house.store.census(), "the late acknowledgement counts", seconds=10)
    house.strike(other, signal.SIGCONT)
    house.strike(other, signal.SIGTERM)
    check_runs(house, name, 2)


def check_runs(house: House, name: str, most: int) -> None:
    """See to it that a task did not run more often than that."""
    runs = len(house.books.runs()[name])
    if runs > most:
        raise Broken(f"I3: {name} ran {runs} times")
