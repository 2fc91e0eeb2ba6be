"""Each example as its README has it: one command, which runs a real server and a real worker."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest
from PIL import Image

from examples.processes import PATIENCE, SERVERS, own_environ, running

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(params=SERVERS)
def anything(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[httpx.Client]:
    """Give a client of every example in turn."""
    with client_of(request.param, tmp_path) as client:
        yield client


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
    """Ask the endpoint what became of the tasks of the queue."""
    response = client.get(
        "/alligator/stats", headers={"Authorization": "Bearer the-token-of-the-tests"}
    )
    [store] = response.raise_for_status().json()["stores"]
    [queue] = store["queues"]
    found: dict[str, int] = queue["counters"]
    return found


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


def test_every_web_example_tells_how_its_queue_is(anything: httpx.Client) -> None:
    response = anything.get("/alligator/health")

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/health+json"


def test_the_social_network_mails_every_follower_of_who_posts(tmp_path: Path) -> None:
    with client_of("social_network", tmp_path) as client:
        for name in ("ann", "bob", "cy"):
            client.post("/people", data={"name": name, "email": f"{name}@example.org"})
        for name in ("bob", "cy"):
            client.post("/follows", data={"follower": name, "followed": "ann"})

        response = client.post("/posts", data={"author": "ann", "message": "Olé <all>", "key": "1"})

        assert response.status_code == 303
        assert "Olé &lt;all&gt;" in client.get("/").text
        assert eventually(lambda: counters(client)["succeeded"] == 2)
        outbox = client.get("/outbox").text
        assert outbox.count("A new post by ann") == 2
        assert outbox.count("Olé &lt;all&gt;") == 2
        assert "bob@example.org" in outbox
        assert "cy@example.org" in outbox


def test_the_social_network_mails_nobody_of_a_post_that_fails(tmp_path: Path) -> None:
    with client_of("social_network", tmp_path) as client:
        for name in ("ann", "bob"):
            client.post("/people", data={"name": name, "email": f"{name}@example.org"})
        client.post("/follows", data={"follower": "bob", "followed": "ann"})

        response = client.post(
            "/posts", data={"author": "ann", "message": "Hello @bob and @nobody", "key": "1"}
        )

        assert response.status_code == 422
        assert "2 mails are not sent" in response.text
        assert "Hello" not in client.get("/").text
        assert counters(client)["pushed"] == 0


def test_the_thumbnail_service_shows_a_picture_made_small(tmp_path: Path) -> None:
    with client_of("thumbnails", tmp_path) as client:
        response = client.post("/pictures", files={"picture": ("a.png", picture(960, 480))})

        assert response.status_code == 303
        assert eventually(lambda: "/thumbnails/" in client.get("/").text)
        path = client.get("/").text.partition('src="')[2].partition('"')[0]
        with Image.open(BytesIO(client.get(path).raise_for_status().content)) as thumbnail:
            assert thumbnail.size == (240, 120)


def test_the_thumbnail_service_queues_nothing_for_what_is_not_a_picture(tmp_path: Path) -> None:
    with client_of("thumbnails", tmp_path) as client:
        response = client.post("/pictures", files={"picture": ("a.txt", b"words")})

        assert response.status_code == 415
        assert counters(client)["pushed"] == 0


def test_an_order_has_a_receipt_that_names_its_request(tmp_path: Path) -> None:
    with client_of("orders_fastapi", tmp_path) as client:
        response = client.post(
            "/orders",
            json={"item": "apples", "pieces": 6, "email": "ann@example.org"},
            headers={"X-Request-ID": "req-1"},
        )

        assert response.status_code == 201
        assert eventually(lambda: counters(client)["succeeded"] == 2)
        letters = client.get("/letters").text
        assert "[req-1] to ann@example.org: thank you for order 1, 6 apples" in letters
        assert "[req-1] to the supplier: 4 apples left" in letters


@pytest.mark.parametrize(
    ("item", "pieces", "status"),
    [("apples", 11, 409), ("bricks", 1, 404), ("apples", 0, 422)],
    ids=["too many", "not sold", "not valid"],
)
def test_an_order_that_fails_queues_nothing(
    tmp_path: Path, item: str, pieces: int, status: int
) -> None:
    with client_of("orders_fastapi", tmp_path) as client:
        response = client.post(
            "/orders", json={"item": item, "pieces": pieces, "email": "ann@example.org"}
        )

        assert response.status_code == status
        assert counters(client)["pushed"] == 0


def test_the_plain_wsgi_service_counts_the_words_of_a_text(tmp_path: Path) -> None:
    with client_of("plain_wsgi", tmp_path) as client:
        response = client.post("/", content="To be or not to be")

        assert response.status_code == 202
        result = response.headers["location"]
        assert eventually(lambda: client.get(result).status_code == 200)
        assert client.get(result).json() == {"to": 2, "be": 2, "or": 1, "not": 1}


def test_the_plain_wsgi_service_queues_nothing_for_what_is_not_text(tmp_path: Path) -> None:
    with client_of("plain_wsgi", tmp_path) as client:
        response = client.post("/", content=b"\xff")

        assert response.status_code == 422
        assert counters(client)["pushed"] == 0


@pytest.mark.parametrize("store", ["locmem://", "sqlite://{}/queue.db"])
def test_the_script_does_the_work_of_the_file_that_is_right(tmp_path: Path, store: str) -> None:
    environ = {**own_environ(), "ALLIGATOR_CONN": store.format(tmp_path)}
    with running("examples.plain_script.app", tmp_path / "log", environ) as process:
        status = process.wait()

    assert status == 0
    assert "tuesday: 3 tasks are on the queue" in process.said()
    assert "to the warehouse: 8 apples less" in process.said()
    assert "cy@example.org" not in process.said()


@pytest.mark.parametrize("example", [*SERVERS, "plain_script"])
def test_every_example_has_a_short_readme_with_its_command(example: str) -> None:
    readme = (EXAMPLES / example / "README.md").read_text("utf-8")

    assert len(readme.splitlines()) <= 25
    assert f"python -m examples.run {example}" in readme or "examples.plain_script.app" in readme
