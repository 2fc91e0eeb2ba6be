"""A Django project under real web servers, with a worker of manage.py, all of them processes."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Thread

import httpx
import pytest

from alligator import Gator
from tests.harness.django_files import DjangoProject
from tests.harness.programs import eventually, lines
from tests.harness.web_process import WebProcess, web_process

SERVERS = {
    "gunicorn": ["-m", "gunicorn", "shop.wsgi", "-b", "127.0.0.1:0", "--threads", "4"],
    "uvicorn": ["-m", "uvicorn", "shop.asgi:application", "--host", "127.0.0.1", "--port", "0"],
}


class Site:
    """A running server of a project."""

    def __init__(self, project: DjangoProject, web: WebProcess, kind: str) -> None:
        self.project = project
        self.process = web.process
        self.gator = Gator(project.dsn)
        self._url = web.url
        self._views = "/async" if kind == "uvicorn" else ""

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self._url}{self._views}{path}", timeout=30)

    def get_sync(self, path: str) -> httpx.Response:
        """Ask for the page of a view that is no coroutine, under ASGI as well."""
        return httpx.get(f"{self._url}{path}", timeout=30)

    def orders(self) -> list[str]:
        """Return the names of the orders that the database has."""
        with closing(sqlite3.connect(self.project.folder / "shop.db")) as connection:
            found = connection.execute("SELECT name FROM shop_order ORDER BY name").fetchall()
        return [name for (name,) in found]

    def get_endpoint(self, path: str) -> httpx.Response:
        return self.get_sync(f"/alligator/{path}")


@pytest.fixture(params=SERVERS)
def site(request: pytest.FixtureRequest, project: DjangoProject) -> Iterator[Site]:
    with serving(project, request.param) as found:
        yield found


@pytest.fixture(params=SERVERS)
def atomic_site(request: pytest.FixtureRequest, project: DjangoProject) -> Iterator[Site]:
    """A site whose requests are transactions of the database."""
    with serving(project, request.param, ATOMIC_REQUESTS="yes") as found:
        yield found


@contextmanager
def serving(project: DjangoProject, kind: str, **env: str) -> Iterator[Site]:
    project.create_tables()
    with web_process(SERVERS[kind], project.folder, **project.environ, **env) as web:
        yield Site(project, web, kind)


def test_request_queues_its_tasks_only_if_it_succeeds(site: Site, tmp_path: Path) -> None:
    for path, status in [("/404", 404), ("/500", 500), ("/raise", 500)]:
        assert site.get(path).status_code == status
    assert site.gator.len() == 0

    for path, status in [("/201", 201), ("/302", 302)]:
        assert site.get(path).status_code == status
    assert site.get("/stream").text == "chunk chunk chunk "
    assert site.gator.len() == 3

    with site.project.managing("alligator", "worker", log=tmp_path / "worker.log"):
        eventually(lambda: lines(site.project.out) == ["201", "302", "stream"])

    assert site.get_endpoint("health/live").json() == {"status": "pass"}
    assert site.get_endpoint("stats").status_code == 403


def test_transaction_of_the_database_decides_on_its_tasks(site: Site, tmp_path: Path) -> None:
    fates = {"commit": 200, "500": 500, "rollback": 200, "raise": 500}
    for fate, status in fates.items():
        assert site.get_sync(f"/atomic/{fate}").status_code == status

    with site.project.managing("alligator", "worker", log=tmp_path / "worker.log"):
        eventually(lambda: len(lines(site.project.out)) == 4)

    assert sorted(lines(site.project.out)) == ["500", "commit", "stock commit", "stock rollback"]
    assert site.orders() == ["500", "commit"]


def test_atomic_request_keeps_rows_and_tasks_or_neither(atomic_site: Site, tmp_path: Path) -> None:
    fates = {"201": 201, "302": 302, "404": 404, "500": 500, "rollback": 200, "raise": 500}
    for fate, status in fates.items():
        assert atomic_site.get_sync(f"/order/{fate}").status_code == status

    # Django rolls back only after an exception, or if it is asked to.
    assert atomic_site.orders() == ["201", "302", "404", "500"]
    with atomic_site.project.managing("alligator", "worker", log=tmp_path / "worker.log"):
        eventually(lambda: sorted(lines(atomic_site.project.out)) == atomic_site.orders())


@pytest.mark.parametrize("fate", ["exit", "abandon"])
def test_atomic_request_that_a_base_exception_ends_keeps_nothing(
    atomic_site: Site, fate: str
) -> None:
    with suppress(httpx.TransportError):  # the server closes the connection, or ends
        assert atomic_site.get_sync(f"/order/{fate}").status_code == 500

    assert atomic_site.orders() == []
    with Gator(atomic_site.project.dsn) as gator:
        assert gator.len() == 0


@pytest.mark.parametrize("fate", ["exit", "abandon"])
def test_request_that_a_base_exception_ends_queues_no_held_task(site: Site, fate: str) -> None:
    with suppress(httpx.TransportError):
        assert site.get(f"/{fate}").status_code == 500

    with Gator(site.project.dsn) as gator:
        assert gator.len() == 0


def test_server_that_is_killed_before_the_commit_has_queued_nothing(site: Site) -> None:
    def kill() -> None:
        eventually(lambda: "hanging" in lines(site.project.out))
        os.killpg(site.process.pid, signal.SIGKILL)

    killer = Thread(target=kill)
    killer.start()
    with pytest.raises(httpx.TransportError):
        site.get("/hang")
    killer.join()

    assert site.gator.len() == 0


def test_store_that_cannot_be_used_makes_the_response_a_503(site: Site) -> None:
    (site.project.folder / "queue.db").mkdir()

    answer = site.get("/201")

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert str(site.project.folder) not in answer.text
