"""Hooks run in a forked child, and its signal handlers are reset."""

import gc
import os
import signal
import weakref
from signal import alarm
from threading import Event, Thread

import pytest

from alligator._runtime import forks
from alligator._runtime.forks import register_fork_hooks, run_in_forked_child
from alligator.backends.base import Message
from alligator.backends.locmem_backend import Client
from alligator.workers.isolation import forkserver

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


class Holder:
    """An object with a hook."""

    was_called = False

    def after_fork_in_child(self) -> None:
        self.was_called = True


def test_hook_of_an_object_runs_only_in_the_child() -> None:
    holder = Holder()
    register_fork_hooks(holder)

    child = os.fork()
    if not child:
        os._exit(0 if holder.was_called else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not holder.was_called


def test_function_is_called_only_in_the_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("alligator._runtime.forks._functions", [])
    calls: list[int] = []

    @run_in_forked_child
    def note() -> None:
        calls.append(1)

    child = os.fork()
    if not child:
        os._exit(0 if calls == [1] else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert calls == []


def test_process_id_is_that_of_the_child() -> None:
    before = forks.pid

    child = os.fork()
    if not child:
        os._exit(0 if before != forks.pid == os.getpid() else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert before == forks.pid == os.getpid()


def test_registration_keeps_no_object_alive() -> None:
    holder = Holder()
    register_fork_hooks(holder)
    known = weakref.ref(holder)

    del holder
    gc.collect()

    assert known() is None


def test_memory_store_works_in_a_child_forked_while_it_was_locked() -> None:
    client = Client("locmem://")
    client.push_many([Message("all", "a", "{}")])

    held, let_go = Event(), Event()

    def hold() -> None:
        with client._store.changed:
            held.set()
            let_go.wait(10)

    holder = Thread(target=hold)
    holder.start()
    held.wait(10)
    child = os.fork()
    if not child:
        alarm(5)  # otherwise it would wait for a thread of the parent
        os._exit(0 if client.len("all") == 1 else 1)
    let_go.set()
    holder.join()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_signal_handler_of_the_program_stays_in_a_child() -> None:
    def handle(number: int, frame: object) -> None:
        pass

    before = signal.signal(signal.SIGTERM, handle)
    try:
        child = os.fork()
        if not child:
            os._exit(0 if signal.getsignal(signal.SIGTERM) is handle else 1)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_signal_handled_by_alligator_has_its_default_in_a_child() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, forkserver._do_nothing) for number in numbers]
    try:
        child = os.fork()
        if not child:
            found = [signal.getsignal(number) for number in numbers]
            os._exit(0 if found == [signal.SIG_DFL, signal.default_int_handler] else 1)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
