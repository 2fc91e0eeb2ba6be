"""Subclasses that override a method of Alligator 1.0 which is no longer called."""

import pytest

from alligator import Gator
from alligator.backends import locmem_backend, redis_backend, sqlite_backend
from alligator.backends.base import Client
from alligator.exceptions import ConfigurationError


@pytest.mark.parametrize("name", ["pop", "execute"])
def test_gator_that_overrides_an_uncalled_method_is_refused(name: str) -> None:
    kind = type("Own", (Gator,), {name: lambda self, *args: None})

    with pytest.raises(ConfigurationError, match=f"Own overrides {name}, .* [Oo]verride") as caught:
        kind("locmem://")
    assert ("Gator.run" in str(caught.value)) == (name == "execute")


@pytest.mark.parametrize(
    ("base", "name"),
    [
        (locmem_backend.Client, "push"),
        (locmem_backend.Client, "pop"),
        (locmem_backend.Client, "queues"),
        (redis_backend.Client, "get_connection"),
        (redis_backend.Client, "get"),
        (sqlite_backend.Client, "_run_query"),
    ],
)
def test_client_that_overrides_an_uncalled_method_is_refused(base: type[Client], name: str) -> None:
    kind = type("Own", (base,), {name: lambda self, *args: None})
    dsn = {"locmem": "locmem://", "redis_": "redis://localhost", "sqlite": "sqlite://q.db"}
    scheme = base.__module__.rpartition(".")[2][:6]

    with pytest.raises(ConfigurationError, match=f"Own overrides {name}, which Alligator 1.0 used"):
        Gator(dsn[scheme], backend_class=kind)


def test_client_that_overrides_a_called_method_is_accepted() -> None:
    class Counting(locmem_backend.Client):
        def len(self, queue_name: str) -> int:
            return 7 + super().len(queue_name)

    assert Gator("locmem://", backend_class=Counting).len() == 7
