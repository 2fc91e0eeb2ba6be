"""A Django project under real web servers, with a worker of manage.py, all of them processes."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
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

    def get_endpoint(self, path: str) -> httpx.Response:
        return self.get_sync(f"/alligator/{path}")


@pytest.fixture(params=SERVERS)
def site(request: pytest.FixtureRequest, project: DjangoProject) -> Iterator[Site]:
    project.create_tables()
    kind: str = request.param
    with web_process(SERVERS[kind], project.folder, **project.environ) as web:
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
    with closing(sqlite3.connect(site.project.folder / "shop.db")) as connection:
        assert connection.execute("SELECT name FROM shop_order ORDER BY name").fetchall() == [
            ("500",),
            ("commit",),
        ]


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
