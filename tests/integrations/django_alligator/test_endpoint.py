"""The endpoint in a project with Django's users, its admin, and its checks of forms and policies."""

import asyncio
import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.db import connection
from django.http import HttpRequest
from django.test import AsyncClient, Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import include, path

from django_alligator import gator
from tests.harness.sample_tasks import add

urlpatterns = [
    path("admin/", admin.site.urls),
    path("ops/queue/", include("django_alligator.urls")),
]

SECURITY = "django.middleware.security.SecurityMiddleware"
SESSIONS = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

KINDS = {
    "visitor": None,
    "user": {},
    "staff": {"is_staff": True},
    "former staff": {"is_staff": True, "is_active": False},
    "superuser": {"is_staff": True, "is_superuser": True},
}
"""The users, with what distinguishes them."""

SAME = {"origin": "http://testserver", "sec-fetch-site": "same-origin"}
CROSS = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}


@pytest.fixture(scope="module")
def _database() -> None:
    call_command("migrate", verbosity=0)
    for name, fields in KINDS.items():
        if fields is not None:
            User.objects.get_or_create(username=name, defaults=fields)


@pytest.fixture(autouse=True)
def _settings(_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("ALLIGATOR_TOKEN", raising=False)
    with override_settings(
        ALLIGATOR={"CONN": "locmem://", "ASYNC": True, "ACTIONS": True},
        MIDDLEWARE=["django_alligator.Middleware", SECURITY, *SESSIONS],
        ROOT_URLCONF=__name__,
    ):
        yield


def client_of(name: str, **settings: Any) -> Client:
    client = Client(**settings)
    if name != "visitor":
        client.force_login(User.objects.get(username=name))
    return client


# Who sees it.


@pytest.mark.parametrize("page", ["", "stats", "metrics", "openapi.json"])
@pytest.mark.parametrize("name", KINDS)
def test_pages_are_for_active_staff(name: str, page: str) -> None:
    allowed = name in ("staff", "superuser")

    answer = client_of(name).get(f"/ops/queue/{page}")

    assert answer.status_code == (200 if allowed else 403)
    if not allowed:
        assert b"Log in as a staff user" in answer.content


@pytest.mark.parametrize("name", ["visitor", "user"])
def test_health_is_for_everybody_without_its_details(name: str) -> None:
    assert client_of(name).get("/ops/queue/health").json() == {"status": "warn"}
    assert client_of(name).get("/ops/queue/health/live").status_code == 200


def test_health_shows_details_to_staff() -> None:
    assert len(client_of("staff").get("/ops/queue/health").json()) > 1


@override_settings(MIDDLEWARE=["django_alligator.Middleware"])
def test_pages_are_closed_without_users() -> None:
    assert Client().get("/ops/queue/stats").status_code == 403
    assert Client().get("/ops/queue/health/live").status_code == 200


def test_token_of_the_settings_opens_the_pages() -> None:
    token = "t" * 32
    with override_settings(ALLIGATOR={"CONN": "locmem://", "TOKEN": token}):
        get = Client(headers={"authorization": f"Bearer {token}"}).get
        assert get("/ops/queue/stats").status_code == 200
    assert get("/ops/queue/stats").status_code == 403


def only_ann(request: HttpRequest) -> bool:
    return request.GET.get("name") == "ann"


async def only_async_ann(request: HttpRequest) -> bool:
    await asyncio.sleep(0)
    return request.GET.get("name") == "ann"


def refuse(request: HttpRequest) -> bool:
    raise PermissionDenied("not you")


@pytest.mark.parametrize("name", ["only_ann", "only_async_ann"])
def test_function_of_the_settings_decides(name: str) -> None:
    given = {"CONN": "locmem://", "AUTHORIZE": f"{__name__}.{name}"}
    with override_settings(ALLIGATOR=given):
        for each, status in [("ann", 200), ("bob", 403)]:
            url = f"/ops/queue/stats?name={each}"
            assert Client().get(url).status_code == status
            assert asyncio.run(AsyncClient().get(url)).status_code == status


def test_refusal_of_the_function_is_answered_by_django() -> None:
    given = {"CONN": "locmem://", "AUTHORIZE": f"{__name__}.refuse"}
    with override_settings(ALLIGATOR=given):
        assert b"403 Forbidden" in client_of("staff").get("/ops/queue/stats").content
        assert client_of("staff").get("/ops/queue/health/live").status_code == 200
        assert b"Dashboard" not in client_of("superuser").get("/admin/").content


# Django's own middlewares.


def click(client: Client, **headers: str) -> int:
    gator.options(task_id="a", delay_by=60).task(add, 1, 2)
    form = "do=cancel&queue=all&task=a"
    media_type = "application/x-www-form-urlencoded"
    return client.post("/ops/queue/actions", form, media_type, headers=headers).status_code


def test_button_of_the_dashboard_works_with_djangos_check_of_forms() -> None:
    client = client_of("staff", enforce_csrf_checks=True)

    assert click(client, **SAME) == 303
    assert gator.stats().scheduled == 0


@pytest.mark.parametrize("headers", [CROSS, {}, {"origin": "null"}], ids=str)
def test_form_of_another_site_is_refused(headers: dict[str, str]) -> None:
    client = client_of("staff", enforce_csrf_checks=True)

    assert click(client, **headers) == 403
    assert gator.stats().scheduled == 1


@pytest.mark.parametrize("name", ["visitor", "user", "former staff"])
def test_button_does_nothing_for_others(name: str) -> None:
    assert click(client_of(name), **SAME) == 403
    assert gator.stats().scheduled == 1


def test_long_form_is_not_read() -> None:
    media_type = "application/x-www-form-urlencoded"
    answer = client_of("staff").post("/ops/queue/actions", "a" * 100_000, media_type, headers=SAME)

    assert answer.status_code == 413


def test_page_has_its_own_policy() -> None:
    policy = client_of("staff").get("/ops/queue/").headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy


@pytest.mark.skipif(
    importlib.util.find_spec("django.middleware.csp") is None, reason="Django 6.0 has it"
)
def test_policy_of_the_project_does_not_replace_that_of_the_page() -> None:
    csp = "django.middleware.csp.ContentSecurityPolicyMiddleware"
    with override_settings(
        MIDDLEWARE=[csp, *SESSIONS], SECURE_CSP={"default-src": ["https://shop.example"]}
    ):
        policy = client_of("staff").get("/ops/queue/").headers["Content-Security-Policy"]

    assert "shop.example" not in policy
    assert "default-src 'none'" in policy


def test_health_needs_no_log_in_where_all_views_do() -> None:
    required = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    with override_settings(MIDDLEWARE=[*SESSIONS, required]):
        assert Client().get("/ops/queue/health/live").status_code == 200
        assert Client().get("/ops/queue/stats").status_code == 403


def test_health_uses_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)

    with CaptureQueriesContext(connection) as queries:
        assert Client().get("/ops/queue/health").status_code == 200

    assert queries.captured_queries == []


def test_pages_work_on_an_event_loop() -> None:
    async def main() -> list[int]:
        client = AsyncClient()
        paths = ("health", "health/live", "stats")
        return [(await client.get(f"/ops/queue/{each}")).status_code for each in paths]

    assert asyncio.run(main()) == [200, 200, 403]


# The link in the admin.

LINK = b'<a href="/ops/queue/"'


def test_admin_has_a_link_to_the_dashboard() -> None:
    client = client_of("superuser")

    for address in ("/admin/", "/admin/auth/user/"):  # in the list of apps, and at the side
        page = client.get(address).content
        assert LINK in page
        assert page.count(b"Dashboard") >= 1


def test_link_is_shown_to_those_who_may_follow_it() -> None:
    given = {"CONN": "locmem://", "AUTHORIZE": f"{__name__}.only_ann"}

    assert LINK in client_of("staff").get("/admin/").content
    with override_settings(ALLIGATOR=given):
        assert LINK not in client_of("superuser").get("/admin/").content


@override_settings(ROOT_URLCONF=(path("admin/", admin.site.urls),))
def test_admin_of_a_project_without_the_endpoint_has_no_link() -> None:
    page = client_of("superuser").get("/admin/")

    assert page.status_code == 200
    assert b"Dashboard" not in page.content
