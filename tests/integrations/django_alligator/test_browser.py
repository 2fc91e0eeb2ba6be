"""The dashboard in a real browser: from the admin's index, for staff and for no other visitor."""

from collections.abc import Iterator
from importlib.util import find_spec
from time import time

import pytest

from alligator import Gator
from tests.harness.browsers import Browser, chromium
from tests.harness.django_files import DjangoProject
from tests.harness.payloads import payload
from tests.harness.programs import eventually
from tests.harness.web_process import WebProcess, web_process

CSP = "django.middleware.csp.ContentSecurityPolicyMiddleware"
"""Django 6 has it."""

SETTINGS = f"""
ALLIGATOR["ACTIONS"] = True
MIDDLEWARE.append("django.contrib.auth.middleware.LoginRequiredMiddleware")
if {find_spec("django.middleware.csp") is not None}:
    MIDDLEWARE.insert(1, {CSP!r})
    SECURE_CSP = {{"default-src": ["'none'"]}}
"""

USERS = """
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore

User.objects.create_user("ann", password="secret", is_staff=True, is_superuser=True)
for name, fields in {"bob": {}, "eve": {"is_staff": True, "is_active": False}}.items():
    user = User.objects.create_user(name, **fields)
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    print(name, session.session_key)
"""

COOKIE = "sessionid"
"""Django's name for that of a session."""


@pytest.fixture
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def sessions(project: DjangoProject) -> dict[str, str]:
    """Create users, and return the session keys of those who cannot log in to the admin."""
    with (project.folder / "shop" / "settings.py").open("a") as settings:
        settings.write(SETTINGS)
    assert project.manage("migrate").returncode == 0
    done = project.manage("shell", "-c", USERS)
    assert done.returncode == 0, done.stderr
    return dict(line.split() for line in done.stdout.splitlines() if line[:4] in ("bob ", "eve "))


@pytest.fixture
def web(project: DjangoProject, sessions: dict[str, str]) -> Iterator[WebProcess]:
    command = ["-m", "gunicorn", "shop.wsgi", "-b", "127.0.0.1:0", "--threads", "4"]
    with web_process(command, project.folder, **project.environ) as web:
        yield web


def test_staff_follows_the_link_of_the_admin_and_cancels_a_task(
    web: WebProcess, browser: Browser, project: DjangoProject
) -> None:
    with Gator(project.dsn) as gator:
        gator.client.push("all", "a-reminder", payload("shop.tasks", "note", "late"), time() + 3600)
    browser.driver.get(f"{web.url}/admin/")
    browser.find("[name=username]").send_keys("ann")
    browser.find("[name=password]").send_keys("secret")
    browser.click("[type=submit]")
    browser.complaints()  # nothing serves the styles of the admin
    browser.click("a[href='/alligator/']")
    assert "Scheduled 1" in browser.text("#overview")

    browser.click("#scheduled button.cancel")

    assert browser.text("#notice") == "The task is canceled."
    assert browser.complaints() == []  # nothing that a content security policy would have stopped


def test_others_are_refused(web: WebProcess, browser: Browser, sessions: dict[str, str]) -> None:
    seen = {}
    for name in ("visitor", *sessions):
        browser.driver.get(f"{web.url}/alligator/health/live")  # a cookie needs a page of the site
        browser.driver.delete_all_cookies()
        if name in sessions:
            browser.driver.add_cookie({"name": COOKIE, "value": sessions[name]})
        browser.driver.get(f"{web.url}/alligator/")
        eventually(lambda: browser.text("body") != "")
        seen[name] = browser.text("body")
        browser.driver.get(f"{web.url}/alligator/stats")
        assert '"schema"' not in browser.text("body")
        browser.driver.get(f"{web.url}/alligator/health")
        assert browser.text("body") in ('{"status":"warn"}', '{"status": "warn"}')

    assert sorted(seen) == ["bob", "eve", "visitor"]
    for text in seen.values():
        assert "Log in as a staff user" in text
        assert "Ready" not in text
