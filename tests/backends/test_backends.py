"""How a DSN or a backend class becomes a client."""

from pathlib import Path
from typing import Any

import pytest

from alligator import Gator
from alligator.backends.locmem_backend import Client as Locmem
from alligator.exceptions import ConfigurationError, UnknownBackend


@pytest.mark.parametrize("dsn", ["pigeon://coop", "pigeon", "", "redis:/localhost", "://"])
def test_unknown_dsn_names_the_backends(dsn: str) -> None:
    with pytest.raises(UnknownBackend, match=r"locmem://, sqlite://, redis://.*backend_class="):
        Gator(dsn)


@pytest.mark.parametrize("dsn", [None, 7, b"locmem://", Path("queue.db")])
def test_dsn_that_is_no_text_is_an_error_that_names_its_type(dsn: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"conn_string is a DSN, .*{type(dsn).__name__}"):
        Gator(dsn)


@pytest.mark.parametrize(
    "dsn", ["pigeon://app:s3cret@host", "redis:/app:s3cret@host", "app:s3cret@host", "p?x=s3cret"]
)
def test_error_for_an_unknown_dsn_hides_the_password(dsn: str) -> None:
    with pytest.raises(UnknownBackend) as caught:
        Gator(dsn)

    assert "s3cret" not in str(caught.value)


def test_backend_class_can_be_a_client() -> None:
    gator = Gator("locmem://", backend_class=Locmem)

    assert gator.client is gator.backend
