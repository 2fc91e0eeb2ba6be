"""Web servers as people run them, a queue in SQLite between them and a worker, all real processes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import httpx
import pytest

from tests.harness.programs import eventually, lines, running
from tests.harness.web_servers import WSGI_SERVERS, Site, serving


@pytest.fixture(params=["gunicorn", "uvicorn", "uvicorn with uvloop"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with serving(request.param, tmp_path) as site:
        yield site


def test_task_of_a_successful_request_is_run_by_a_worker(site: Site, tmp_path: Path) -> None:
    with running(site.dsn, log=tmp_path / "worker.log"):
        assert site.get("/201").status_code == 201
        eventually(lambda: lines(site.out) == ["/201"])

    assert site.gator.len() == 0


@pytest.mark.parametrize(("path", "status"), [("/404", 404), ("/500", 500), ("/raise", 500)])
def test_request_that_fails_queues_nothing(site: Site, path: str, status: int) -> None:
    assert site.get(path).status_code == status
    assert site.gator.len() == 0


def test_files_and_streams_come_through(site: Site) -> None:
    file, stream = site.get("/file"), site.get("/stream")

    assert file.text == (site.out.parent / "site_under_test.py").read_text()
    assert stream.text == "chunk chunk chunk "
    assert site.gator.len() == 2


def test_health_is_visible_from_outside(site: Site) -> None:
    assert site.get("/alligator/health").json() == {"status": "warn"}  # there is no worker


def test_server_that_is_killed_before_the_commit_has_queued_nothing(
    site: Site, tmp_path: Path
) -> None:
    hanging = tmp_path / "out.hanging"
    with httpx.stream("GET", site.url + "/200") as response:
        assert response.status_code == 200
    depth = site.gator.len()
    with pytest.raises(httpx.TransportError):
        _kill_while(site, hanging)

    assert depth == 1
    assert site.gator.len() == depth


def _kill_while(site: Site, hanging: Path) -> None:
    """Ask for a page that hangs, and kill all of the server meanwhile."""

    def kill() -> None:
        eventually(hanging.exists)
        os.killpg(site.process.pid, signal.SIGKILL)

    killer = Thread(target=kill)
    killer.start()
    try:
        site.get("/hang")
    finally:
        killer.join()


def test_unreachable_queue_is_a_503(site: Site, tmp_path: Path) -> None:
    assert site.get("/200").status_code == 200
    for path in tmp_path.glob("queue.db*"):
        path.unlink()
    (tmp_path / "queue.db").mkdir()

    answer = site.get("/200")

    assert answer.status_code == 503, site.log.read_text()
    assert int(answer.headers["retry-after"]) > 0
    assert str(tmp_path) not in answer.text


# Every WSGI server, each started once.


@pytest.mark.parametrize("name", WSGI_SERVERS)
def test_wsgi_server_that_answers_with_a_failure_has_queued_nothing(
    name: str, tmp_path: Path
) -> None:
    with serving(name, tmp_path) as site:
        for path in (
            "/404",
            "/raise",
            "/first-chunk",
            "/latin-1",
            "/name",
            "/newline",
            "/reported",
        ):
            assert (path, status_of(site, path)) == (path, 404 if path == "/404" else 500)
            assert (path, site.gator.len()) == (path, 0)

        status = status_of(site, "/hop-by-hop")  # some servers refuse it, others send or drop it
        assert (status, site.gator.len()) in [(201, 1), (500, 0)]
        before = site.gator.len()

        assert site.get("/201").status_code == 201
        assert site.get("/stream").text == "chunk chunk chunk "
        assert site.get("/file").text == (tmp_path / "site_under_test.py").read_text()
        assert httpx.head(site.url + "/200", timeout=20).status_code == 200
        assert site.gator.len() == before + 4
        assert site.get("/alligator/health").json() == {"status": "warn"}


def status_of(site: Site, path: str) -> int:
    try:
        return site.get(path).status_code
    except httpx.RemoteProtocolError:  # uWSGI closes the connection when an application raises
        return 500
