"""What a process holds is told that it finds itself in a forked child."""

import gc
import os
import weakref
from signal import alarm
from threading import Event, Thread

import pytest

from alligator.backends.base import Message
from alligator.backends.locmem_backend import Client
from alligator.forks import tell_of_forks

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


class Holder:
    """Holds something that is to begin anew."""

    told = False

    def after_fork_in_child(self) -> None:
        self.told = True


def test_a_holder_is_told_in_the_child_and_not_in_the_parent() -> None:
    holder = Holder()
    tell_of_forks(holder)

    child = os.fork()
    if not child:
        os._exit(0 if holder.told else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not holder.told


def test_to_be_told_keeps_nothing_alive() -> None:
    holder = Holder()
    tell_of_forks(holder)
    known = weakref.ref(holder)

    del holder
    gc.collect()

    assert known() is None


def test_a_store_in_memory_can_be_used_in_a_child_that_was_forked_while_it_was_held() -> None:
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
        alarm(5)  # it would wait for a thread that is not here
        os._exit(0 if client.len("all") == 1 else 1)
    let_go.set()
    holder.join()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
