"""Mistakes in how the stores end the lease of a task that is canceled."""

from alligator.backends import open_client
from alligator.backends.base import Client
from tests.backends.contract import test_canceling, test_limit_keys
from tests.faults.mutant import Mutant


def leased(client: Client) -> None:
    """Check that the lease of a canceled task ends, and is remembered."""
    test_canceling.test_leased_task_can_be_canceled(lambda: open_client(client.conn_string))


CANCEL_MUTANTS = [
    Mutant(
        "a canceled lease goes on",
        "cancel.lua",
        "call('ZREM', queue .. ':run', key)",
        "call('ZREM', queue .. ':due', key)",
        leased,
    ),
    Mutant(
        "a canceled lease is forgotten",
        "cancel.lua",
        "call('ZADD', canceled, now,",
        "call('ZREM', canceled,",
        leased,
    ),
    Mutant(
        "the lease that was canceled is not known",
        "cancel.lua",
        "ALIAS .. fence)",
        "ALIAS .. '0')",
        test_canceling.test_lease_that_expired_was_not_canceled,
    ),
    Mutant(
        "a cancel wakes no worker that waits for a place",
        "cancel.lua",
        "wake(queue)  -- the queue",
        "-- the queue",
        lambda client: test_canceling.test_cancel_wakes_a_worker_that_waits_for_a_place(
            lambda: open_client(client.conn_string)
        ),
    ),
    Mutant(
        "a canceled lease is forgotten",
        "sqlite_backend/writes.py",
        'self._remember(f"canceled {seq * TOKEN_BASE + token}", 0, 0)',
        "pass",
        leased,
    ),
    Mutant(
        "the older of two leases is canceled",
        "sqlite_backend/schema.py",
        "ORDER BY 1 DESC LIMIT 1",
        "ORDER BY 1 LIMIT 1",
        test_canceling.test_last_of_several_leased_tasks_of_an_id_is_canceled,
    ),
    Mutant(
        "a canceled lease counts as one that waited",
        "sqlite_backend/writes.py",
        'self.count(name, **{state: -1, "canceled": 1})',
        "self.count(name, ready=-1, canceled=1)",
        leased,
    ),
    Mutant(
        "a canceled task keeps the place of its key",
        "cancel.lua",
        "end_lease(queue, key, now)\nend\nlocal payload",
        "end\nlocal payload",
        test_limit_keys.test_canceled_lease_frees_a_place_of_its_key,
    ),
]
