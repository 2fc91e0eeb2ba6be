"""Each example as its README has it: one command, which runs a real server and a real worker."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

import httpx
import pytest
from PIL import Image

from examples.processes import PATIENCE, SERVERS, own_environ, running
from tests.harness.programs import environment

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Yield a client of the example whose name is the parameter; its tests share the processes."""
    with client_of(request.param, tmp_path_factory.mktemp(request.param)) as client:
        yield client


def of(*examples: str) -> pytest.MarkDecorator:
    """Run a test with these examples."""
    return pytest.mark.parametrize("client", examples, indirect=True)


@contextmanager
def client_of(example: str, folder: Path) -> Iterator[httpx.Client]:
    environ = {
        **own_environ(),
        "DATA": str(folder / "data"),
        "ALLIGATOR_CONN": f"sqlite://{folder}/queue.db",
        "ALLIGATOR_TOKEN": "the-token-of-the-tests",
    }
    with running(f"examples.run {example} --port 0", folder / "log", environ) as process:
        url = process.wait_for(r"http://127\.0\.0\.1:\d+")
        with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
            yield client


def counters(client: httpx.Client) -> dict[str, int]:
    """Return what the endpoint reports about the tasks of the queue."""
    response = client.get(
        "/alligator/stats", headers={"Authorization": "Bearer the-token-of-the-tests"}
    )
    [store] = response.raise_for_status().json()["stores"]
    [queue] = store["queues"]
    found: dict[str, int] = queue["counters"]
    return found


def have_run(client: httpx.Client, number: int) -> bool:
    return counters(client)["succeeded"] == number


@contextmanager
def queues(client: httpx.Client, tasks: int) -> Iterator[None]:
    """Fail if the block does not queue so many *tasks*; wait until they have run."""
    before = counters(client)
    yield
    assert eventually(lambda: have_run(client, before["succeeded"] + tasks))
    assert counters(client)["pushed"] == before["pushed"] + tasks


def eventually(look: Callable[[], bool]) -> bool:
    deadline = monotonic() + PATIENCE
    while not look():
        if monotonic() > deadline:
            return False
        sleep(0.02)
    return True


def picture(width: int, height: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (width, height), "seagreen").save(file, "PNG")
    return file.getvalue()


@of(*SERVERS)
def test_every_web_example_shows_the_state_of_its_queue(client: httpx.Client) -> None:
    response = client.get("/alligator/health")

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/health+json"


def test_server_and_worker_of_the_social_network_start_at_the_same_time(tmp_path: Path) -> None:
    environ = {
        **own_environ(),
        "DATA": str(tmp_path / "data"),
        "ALLIGATOR_CONN": f"sqlite://{tmp_path}/queue.db",
    }
    command = [sys.executable, "-c", "import examples.social_network.app"]

    started = [subprocess.Popen(command, env=environ, cwd=EXAMPLES.parent) for _ in range(4)]

    assert [process.wait(PATIENCE) for process in started] == [0, 0, 0, 0]


def post(client: httpx.Client, path: str, **data: str) -> httpx.Response:
    """Send a form, with the token that Django's forms have."""
    client.get("/")
    return client.post(
        path, data={**data, "csrfmiddlewaretoken": client.cookies.get("csrftoken", "")}
    )


@of("social_network", "social_django")
def test_social_network_mails_every_follower_of_the_author(client: httpx.Client) -> None:
    for name in ("ann", "bob", "cy"):
        post(client, "/people", name=name, email=f"{name}@example.org")
    for name in ("bob", "cy"):
        post(client, "/follows", follower=name, followed="ann")

    with queues(client, 2):
        response = post(client, "/posts", author="ann", message="Olé <all>", key="1")

    assert response.status_code == 303
    assert "Olé &lt;all&gt;" in client.get("/").text
    outbox = client.get("/outbox").text
    assert outbox.count("A new post by ann") == 2
    assert outbox.count("Olé &lt;all&gt;") == 2
    assert "bob@example.org" in outbox
    assert "cy@example.org" in outbox


@of("social_network", "social_django")
def test_social_network_sends_no_mail_for_a_post_that_fails(client: httpx.Client) -> None:
    for name in ("dan", "eve"):
        post(client, "/people", name=name, email=f"{name}@example.org")
    post(client, "/follows", follower="eve", followed="dan")

    with queues(client, 0):
        response = post(client, "/posts", author="dan", message="Hello @eve and @nobody", key="2")

    assert response.status_code == 422
    assert "2 mails are not sent" in response.text
    assert "Hello" not in client.get("/").text


@of("thumbnails")
def test_thumbnail_service_shows_a_picture_made_small(client: httpx.Client) -> None:
    response = client.post("/pictures", files={"picture": ("a.png", picture(960, 480))})

    assert response.status_code == 303
    assert eventually(lambda: "/thumbnails/" in client.get("/").text)
    path = client.get("/").text.partition('src="')[2].partition('"')[0]
    with Image.open(BytesIO(client.get(path).raise_for_status().content)) as thumbnail:
        assert thumbnail.size == (240, 120)


@of("thumbnails")
def test_thumbnail_service_queues_nothing_for_a_file_that_is_no_picture(
    client: httpx.Client,
) -> None:
    with queues(client, 0):
        response = client.post("/pictures", files={"picture": ("a.txt", b"words")})

    assert response.status_code == 415


@of("orders_fastapi")
def test_order_has_a_receipt_that_names_its_request(client: httpx.Client) -> None:
    with queues(client, 2):
        response = client.post(
            "/orders",
            json={"item": "apples", "pieces": 6, "email": "ann@example.org"},
            headers={"X-Request-ID": "req-1"},
        )

    assert response.status_code == 201
    letters = client.get("/letters").text
    assert "[req-1] to ann@example.org: thank you for order 1, 6 apples" in letters
    assert "[req-1] to the supplier: 4 apples left" in letters


def test_tasks_of_an_order_share_an_http_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[bytes] = []

    class Supplier(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Supplier) as supplier:
        Thread(target=supplier.serve_forever, daemon=True).start()
        monkeypatch.setenv("SUPPLIER_URL", f"http://127.0.0.1:{supplier.server_port}")
        with client_of("orders_fastapi", tmp_path) as client:
            for pieces, done in ((7, 2), (1, 4)):
                order = {"item": "apples", "pieces": pieces, "email": "ann@example.org"}
                assert client.post("/orders", json=order).status_code == 201
                eventually(partial(have_run, client, done))
        supplier.shutdown()

    assert len(received) == 2
    assert b'{"item":"apples","left":2}' in received


@of("orders_fastapi")
@pytest.mark.parametrize(
    ("item", "pieces", "status"),
    [("apples", 11, 409), ("bricks", 1, 404), ("apples", 0, 422)],
    ids=["too many", "not sold", "not valid"],
)
def test_order_that_fails_queues_nothing(
    client: httpx.Client, item: str, pieces: int, status: int
) -> None:
    with queues(client, 0):
        response = client.post(
            "/orders", json={"item": item, "pieces": pieces, "email": "ann@example.org"}
        )

    assert response.status_code == status


@of("plain_wsgi")
def test_plain_wsgi_service_counts_the_words_of_a_text(client: httpx.Client) -> None:
    response = client.post("/", content="To be or not to be")

    assert response.status_code == 202
    result = response.headers["location"]
    assert eventually(lambda: client.get(result).status_code == 200)
    assert client.get(result).json() == {"to": 2, "be": 2, "or": 1, "not": 1}


@of("plain_wsgi")
def test_plain_wsgi_service_queues_nothing_for_a_body_that_is_no_text(
    client: httpx.Client,
) -> None:
    with queues(client, 0):
        response = client.post("/", content=b"\xff")

    assert response.status_code == 422


@pytest.mark.parametrize("store", ["locmem://", "sqlite://{}/queue.db"])
def test_script_does_the_work_of_the_valid_file(tmp_path: Path, store: str) -> None:
    environ = {**own_environ(), "ALLIGATOR_CONN": store.format(tmp_path)}
    with running("examples.plain_script.app", tmp_path / "log", environ) as process:
        status = process.wait()

    assert status == 0
    assert "tuesday: 3 tasks are on the queue" in process.said()
    assert "to the warehouse: 8 apples less" in process.said()
    assert "cy@example.org" not in process.said()


@pytest.mark.parametrize("example", [*SERVERS, "plain_script"])
def test_every_example_uses_the_store_that_the_environment_names(
    tmp_path: Path, example: str
) -> None:
    dsn = f"sqlite://{tmp_path}/of-the-environment.db"
    code = (
        f"from examples.{example} import app as it\n"
        "gator = it.app.extensions['alligator'] if hasattr(it.app, 'extensions') else it.gator"
        if example in SERVERS
        else "from examples.plain_script.app import gator"
    )

    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(gator.conn_string)"],
        env=environment({"ALLIGATOR_CONN": dsn, "DATA": str(tmp_path)}),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.strip() == dsn, done.stderr


@pytest.mark.parametrize("example", [*SERVERS, "plain_script"])
def test_every_example_has_a_short_readme_with_its_command(example: str) -> None:
    readme = (EXAMPLES / example / "README.md").read_text("utf-8")

    assert len(readme.splitlines()) <= 25
    assert f"python -m examples.run {example}" in readme or "examples.plain_script.app" in readme
