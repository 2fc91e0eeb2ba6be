"""A worker reports to its store what it runs."""

import asyncio
from threading import Event

from alligator import Gator, Worker
from tests.harness.programs import eventually
from tests.harness.workers import gates, note_and_wait, ran, workers_running


async def wait_at_gate(name: str) -> None:
    ran.append(name)
    while not gates[name].is_set():
        await asyncio.sleep(0.005)


def test_running_tasks_of_both_kinds_are_reported(gator: Gator) -> None:
    gates.update({"plain": Event(), "coroutine": Event()})
    gator.task(note_and_wait, "plain")
    gator.task(wait_at_gate, "coroutine")

    with workers_running(Worker(gator, concurrency=2, lease_for=0.2)):
        eventually(lambda: len(ran) == 2)
        eventually(
            lambda: (
                {
                    (each.function.rpartition(".")[2], each.queue_name)
                    for worker in gator.client.workers()
                    for each in worker.running
                }
                == {("note_and_wait", "all"), ("wait_at_gate", "all")}
            )
        )


def test_only_the_oldest_coroutines_are_reported(gator: Gator) -> None:
    gates["many"] = Event()
    for _ in range(250):
        gator.task(wait_at_gate, "many")

    with workers_running(Worker(gator, concurrency=250, lease_for=0.2)):
        eventually(lambda: len(ran) == 250)
        eventually(lambda: [len(each.running) for each in gator.client.workers()] == [100])
        assert gator.stats().leased == 250
