"""Errors say what to do, and whether it helps to try again."""

import pytest

from alligator.backends.postgres_backend import Client
from alligator.backends.postgres_backend.errors import explain, is_definite, is_repeatable
from alligator.backends.postgres_backend.wire import Lost, ServerError, TimedOut
from alligator.exceptions import BackendError, BackendUnavailable


@pytest.mark.parametrize(
    ("message", "words", "is_temporary"),
    [
        ('FATAL:  password authentication failed for user "a"', "user name and password", False),
        ('FATAL:  database "x" does not exist', "no such database", False),
        ("FATAL:  sorry, too many clients already", "max_connections", True),
        ("FATAL:  the database system is starting up", "is starting", True),
        ("session is read-only", "standby", True),
        ("connection refused", "cannot be reached", True),
        ("SSL error: certificate verify failed", "sslrootcert", False),
    ],
)
def test_failed_connection_is_explained(message: str, words: str, is_temporary: bool) -> None:
    error = explain(Lost(message), "postgresql://h/shop")

    assert words in str(error)
    assert isinstance(error, BackendUnavailable) == is_temporary


@pytest.mark.parametrize(
    ("code", "words", "is_temporary"),
    [
        ("25006", "standby", True),
        ("42501", "Grant", False),
        ("53100", "disk", False),
        ("53200", "out of resources", True),
        ("55P03", "locked", True),
        ("57P01", "shutting down", True),
        ("XX000", "SQLSTATE XX000", False),
    ],
)
def test_rejected_statement_is_explained(code: str, words: str, is_temporary: bool) -> None:
    error = explain(ServerError("why", code), "postgresql://h/shop")

    assert words in str(error)
    assert isinstance(error, BackendUnavailable) == is_temporary


def test_silence_is_temporary() -> None:
    assert isinstance(explain(TimedOut("x"), "postgresql://h/shop"), BackendUnavailable)


def test_some_errors_leave_no_doubt_and_some_are_worth_a_repetition() -> None:
    assert is_definite(ServerError("", "42501"))
    assert not is_definite(ServerError("", "54000"))  # the queue of notifications was full
    assert is_repeatable(ServerError("", "40P01"))
    assert not is_repeatable(ServerError("", "42501"))


def test_unreachable_server_is_an_error() -> None:
    client = Client("postgresql://127.0.0.1:1/shop")

    with pytest.raises(BackendUnavailable, match="cannot be reached"):
        client.ping()


def test_unknown_database_is_named(client: Client) -> None:
    other = Client(client.conn_string.replace("/postgres?", "/nowhere?"))

    with pytest.raises(BackendError, match='database "nowhere" does not exist'):
        other.ping()
