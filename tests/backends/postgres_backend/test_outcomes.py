"""Outcomes as parameters, and leases as they come back."""

import psycopg

from alligator.backends.base import Lease, Message, Outcome
from alligator.backends.postgres_backend import Client
from alligator.backends.postgres_backend.outcomes import (
    TOKEN_BASE,
    new_token,
    pack_acks,
    pack_outcomes,
    read_data,
    read_lease,
    text,
)
from tests.backends.postgres_backend.conftest import Query
from tests.harness.contract import elsewhere
from tests.harness.postgres_servers import PostgresServer
from tests.harness.programs import eventually

LEASE = Lease("mail", "a", "{}", 7 * TOKEN_BASE + 5)


def test_token_names_the_task_and_the_run() -> None:
    lease = read_lease(("mail", "a", b"{}", 7, 0, 0.0), 5)

    assert lease.token == LEASE.token
    assert pack_acks([Outcome("ack", lease), Outcome("retry", lease)]) == [["mail"], ["a"], [7]]
    assert pack_outcomes([Outcome("retry", lease)])[3:5] == [[7], [5]]


def test_tokens_are_random_and_positive() -> None:
    tokens = {new_token() for _ in range(1000)}

    assert len(tokens) == 1000
    assert all(0 < token < 2**62 for token in tokens)


def test_acks_alone_need_no_other_outcomes() -> None:
    assert pack_outcomes([Outcome("ack", LEASE)]) == [None] * 9


def test_text_loses_what_the_server_cannot_store() -> None:
    assert text("a\0b\ud800c") == "a?b?c"


def test_payload_that_is_no_text_is_described() -> None:
    assert read_data(b"{}") == "{}"
    assert read_data(b"\xff").startswith("unreadable record")


def test_reason_with_a_nul_is_kept_without_it(client: Client) -> None:
    client.push_many([Message("mail", "a", "{}")])
    (lease,) = client.reserve("mail")

    client.dead_letter(lease, reason="no\0luck", traceback="line\ud800\0")

    (letter,) = client.dead_letters("mail")
    assert (letter.reason, letter.traceback) == ("no?luck", "line??")


def test_ack_that_waits_for_a_heartbeat_counts(
    client: Client, server: PostgresServer, schema: str, query: Query
) -> None:
    client.push_many([Message("mail", "a", "{}"), Message("mail", "b", "{}")])
    leases = client.reserve("mail", limit=2)

    with psycopg.connect(server.dsn) as heartbeat:
        heartbeat.execute(f"UPDATE {schema}.task SET at = at + interval '1 s'".encode())
        acks = [Outcome("ack", lease) for lease in leases]
        with elsewhere(lambda: client.step((), 0, outcomes=acks)):
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            eventually(lambda: query(waits) != [(0,)])
            heartbeat.commit()

    assert client.stats("mail").succeeded == 2
    assert client.stats("mail").leased == 0
