"""The DSN of SQLite."""

import pytest

from alligator.backends.sqlite_backend import Client
from alligator.exceptions import BackendError, ConfigurationError


def test_error_of_an_absolute_path_names_the_relative_one() -> None:
    client = Client("sqlite:///no-such-directory/q.db")

    with pytest.raises(BackendError, match=r"Three slashes .* sqlite://no-such-directory/q\.db"):
        client.ping()


@pytest.mark.parametrize(
    ("dsn", "says"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite://app:s3cret@db/queue", "only the path of a file"),
        ("sqlite:///app:s3cret@db/queue", "only the path of a file"),
        ("sqlite://a@b.db", "begins with ./"),
        ("sqlite://:memory:", "locmem://"),
        ("sqlite:///:memory:", "locmem://"),
        ("sqlite://q.db?timout=3", r"timout=\*\*\*: the only option of sqlite:// is timeout"),
        ("sqlite://q.db?timeout=soon", "timeout must be a number"),
        ("sqlite://q.db?timeout=0", "timeout must be a number"),
    ],
)
def test_invalid_dsn_is_rejected_with_the_reason(dsn: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Client(dsn)


def test_path_with_a_nul_character_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="NUL"):
        Client("sqlite:///tmp/queue\0.db")
