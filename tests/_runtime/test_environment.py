"""The arguments of a gator from environment variables."""

from typing import Any

import pytest

from alligator import (
    Gator,
    Task,
)
from alligator.exceptions import (
    ConfigurationError,
)
from tests.harness.payloads import payload
from tests.harness.sample_tasks import add


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


def test_environment_sets_all_arguments() -> None:
    gator = Gator.from_env(
        {
            "ALLIGATOR_CONN": "locmem://",
            "ALLIGATOR_PREFIX": "test",
            "ALLIGATOR_ASYNC": "False",
            "ALLIGATOR_SECRET": "new, old",
            "ALLIGATOR_ALLOW": "tests.*, myapp.*",
        }
    )

    assert (gator.queue_name, gator.is_async) == ("test_all", False)
    assert gator.guard.open("all", "a", gator.guard.seal("all", "a", "data")) == "data"
    assert gator.task(add, 1, 2).result == 3


def test_environment_with_only_a_dsn_suffices() -> None:
    gator = Gator.from_env({"ALLIGATOR_CONN": "locmem://", "ALLIGATOR_PREFIX": ""})

    assert (gator.queue_name, gator.is_async) == ("all", True)
    assert gator.guard.seal("all", "a", "data") == "data"


def test_environment_without_a_dsn_names_the_variable() -> None:
    with pytest.raises(ConfigurationError, match=r"ALLIGATOR_CONN is not set.*sqlite:///"):
        Gator.from_env({})


def test_arguments_override_the_environment() -> None:
    environ = {"ALLIGATOR_CONN": "locmem://", "ALLIGATOR_PREFIX": "a", "ALLIGATOR_ASYNC": "0"}

    gator = Gator.from_env(environ, queue_name="mine", is_async=True, defaults={"retries": 2})

    assert (gator.queue_name, gator.is_async, gator.task(add, 1, 2).retries) == ("mine", True, 2)


def test_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLIGATOR_CONN", "locmem://")
    monkeypatch.setenv("ALLIGATOR_PREFIX", "here")

    assert Gator.from_env().queue_name == "here_all"


BLANK: list[Any] = ["", " ", [], (), ["new", ""], ["", "old"], [" \t"]]


@pytest.mark.parametrize("value", BLANK, ids=repr)
@pytest.mark.parametrize("name", ["secret", "allow"])
def test_empty_or_blank_setting_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name} .*ALLIGATOR_{name.upper()}.* is empty"):
        Gator("locmem://", **{name: value})


@pytest.mark.parametrize("value", [b"secret", 7, ["new", b"old"], [None], {"a": 1}, True], ids=repr)
@pytest.mark.parametrize("name", ["secret", "allow"])
def test_setting_that_is_not_text_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} .* is a string or a list of strings"):
        Gator("locmem://", **{name: value})


@pytest.mark.parametrize("value", ["", " ", ",", " , ,", "new,", ",old", "new,,old"])
@pytest.mark.parametrize("name", ["ALLIGATOR_SECRET", "ALLIGATOR_ALLOW"])
def test_empty_or_blank_variable_is_refused(name: str, value: str) -> None:
    environ = {"ALLIGATOR_CONN": "locmem://", name: value}

    with pytest.raises(ConfigurationError, match=rf"^{name} is empty"):
        Gator.from_env(environ)


def test_allowed_functions_can_be_a_set() -> None:
    assert Gator("locmem://", allow={"tests.*"}).guard.read(  # type: ignore[arg-type]
        "all", "a", payload("tests.harness.sample_tasks", "add"), Task
    )


def test_overridden_variable_is_not_read() -> None:
    environ = {"ALLIGATOR_CONN": "locmem://", "ALLIGATOR_SECRET": "", "ALLIGATOR_ALLOW": ""}

    gator = Gator.from_env(environ, secret="secret", allow=["tests.*"])

    assert gator.guard.signs
