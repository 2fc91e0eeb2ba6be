"""manage.py check: each wrong setting is an error or a warning that says what to do."""

import sys
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from django_alligator import Middleware

OURS = "django_alligator.Middleware"
SECURITY = "django.middleware.security.SecurityMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"


class OwnMiddleware(Middleware):
    """That of a project, which passes arguments."""


def messages(deploy: bool = False, **settings: Any) -> dict[str, str]:
    """Return the messages about Alligator, by their ids."""
    given = {"ALLIGATOR": {"CONN": "locmem://"}, "MIDDLEWARE": [OURS], **settings}
    with override_settings(**given):
        found = run_checks(include_deployment_checks=deploy)
    return {
        str(each.id).removeprefix("django_alligator."): f"{each.msg} {each.hint}"
        for each in found
        if str(each.id).startswith("django_alligator.")
    }


def test_project_that_is_set_up_well_has_no_messages() -> None:
    assert messages() == {}
    assert messages(MIDDLEWARE=[SECURITY, OURS, SESSIONS]) == {}
    assert messages(MIDDLEWARE=[f"{__name__}.OwnMiddleware"]) == {}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ALLIGATOR_CONN", "'CONN'"),
        ("commit_at", "'COMMIT_AT'"),
        ("SECRETS", "'SECRET'"),
        ("xyzzy", "There are ACTIONS, ALLOW, "),
    ],
)
def test_unknown_setting_is_an_error(name: str, hint: str) -> None:
    found = messages(ALLIGATOR={"CONN": "locmem://", name: "x"})

    assert list(found) == ["E002"]
    assert repr(name) in found["E002"]
    assert hint in found["E002"]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "add ALLIGATOR ="),
        ("locmem://", "must be a dict"),
        ({"CONN": "pigeon://x"}, "pigeon"),
        ({"CONN": 7}, "must be a str"),
        ({"CONN": "locmem://", "SECRET": ""}, "SECRET"),
        ({"CONN": "locmem://", "LIFESPAN": "shop.nothing"}, "'shop.nothing', which cannot"),
    ],
    ids=str,
)
def test_setting_that_makes_no_gator_is_an_error(
    given: Any, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ALLIGATOR_CONN", raising=False)

    found = messages(ALLIGATOR=given)

    assert list(found) == ["E001"]
    assert text in found["E001"]


def test_missing_extra_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith("alligator.backends.redis")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)

    found = messages(ALLIGATOR={"CONN": "redis://localhost"})

    assert "pip install 'alligator[redis]'" in found["E001"]


@pytest.mark.parametrize(
    "given",
    [
        {"COMMIT_AT": "begin"},
        {"OPTIONS": {"retires": 3}},
        {"COMMIT_VETO": "shop.nothing"},
        {"AUTHORIZE": "shop.nothing"},
        {"AUTHORIZE": True},
        {"TOKEN": " "},
        {"ACTIONS": "maybe"},
    ],
    ids=str,
)
def test_setting_that_cannot_be_used_is_an_error(given: dict[str, Any]) -> None:
    assert list(messages(ALLIGATOR={"CONN": "locmem://", **given})) == ["E003"]


async def veto(status: int, headers: Any) -> bool:
    return False


def test_coroutine_function_is_allowed_for_projects_with_an_event_loop() -> None:
    assert messages(ALLIGATOR={"CONN": "locmem://", "COMMIT_VETO": f"{__name__}.veto"}) == {}


def test_missing_middleware_is_a_warning() -> None:
    assert "queued at once" in messages(MIDDLEWARE=[SECURITY])["W001"]


def test_middleware_behind_another_is_a_warning() -> None:
    found = messages(MIDDLEWARE=[SECURITY, SESSIONS, OURS])

    assert list(found) == ["W002"]
    assert SESSIONS in found["W002"]
    assert SECURITY not in found["W002"]


def test_store_in_memory_is_a_warning_for_a_deployment() -> None:
    assert list(messages(deploy=True)) == ["W003"]
    assert messages(deploy=True, ALLIGATOR={"CONN": "sqlite:///var/lib/queue.db"}) == {}
