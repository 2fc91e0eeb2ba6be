"""WebSockets over WSGI, with the libraries and servers that people use for them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.harness.programs import eventually
from tests.harness.web_servers import Site, need, serving

simple_websocket: Any = pytest.importorskip("simple_websocket")

SOCK = """
import os

from flask import Flask
from flask_alligator import Alligator
from flask_sock import Sock
from tests.harness.sample_tasks import record

app = in_flask = Flask(__name__)
app.config["ALLIGATOR_CONN"] = os.environ["ALLIGATOR_CONN"]
alligator = Alligator(app)
sock = Sock(app)


@sock.route("/ws")
def ws(ws):
    while True:
        message = ws.receive()
        alligator.task(record, "", message)
        if message == "fail":
            raise RuntimeError("the handler fails")
        ws.send(f"queued {message}")
"""

SOCKETIO = """
import os

from flask import Flask
from flask_alligator import Alligator
from flask_socketio import SocketIO
from tests.harness.sample_tasks import record

app = in_flask = Flask(__name__)
app.config["ALLIGATOR_CONN"] = os.environ["ALLIGATOR_CONN"]
mode = os.environ["MODE"]
first = "first" in mode
alligator = Alligator()
if not first:
    alligator.init_app(app)
socketio = SocketIO(
    app,
    async_handlers="in threads" in mode,
    async_mode="gevent" if "gevent" in mode else "threading",
)
if first:
    alligator.init_app(app)


@socketio.on("order")
def order(name):
    with app.app_context():
        alligator.task(record, "", name)
    return f"queued {name}"
"""


def connect(site: Site, path: str) -> Any:
    return simple_websocket.Client(site.url.replace("http:", "ws:") + path)


@pytest.mark.parametrize("name", ["gunicorn", "gunicorn gevent", "flask run"])
def test_tasks_of_a_socket_go_out_while_it_is_open(name: str, tmp_path: Path) -> None:
    need("flask_sock")
    with serving(name, tmp_path, SOCK) as site:
        socket = connect(site, "/ws")
        depths = []
        for number in range(3):
            socket.send(f"message {number}")
            assert socket.receive(timeout=20) == f"queued message {number}"
            depths.append(site.gator.len())
        socket.send("fail")
        with pytest.raises(simple_websocket.ConnectionClosed):
            socket.receive(timeout=20)

        assert depths == [1, 2, 3]
        assert site.gator.len() == 4


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("handlers", ["in threads", "in the request"])
@pytest.mark.parametrize(
    ("name", "mode"),
    [("gunicorn", "threading"), ("gunicorn gevent", "gevent"), ("flask run", "threading")],
)
def test_tasks_of_socketio_go_out_while_it_is_open(
    name: str, mode: str, handlers: str, order: str, tmp_path: Path
) -> None:
    need("flask_socketio")
    if mode == "gevent":
        need("gevent")
    with serving(name, tmp_path, SOCKETIO, MODE=f"{mode} {handlers} {order}") as site:
        socket = connect(site, "/socket.io/?EIO=4&transport=websocket")
        socket.send("40")  # first: what comes along with the handshake is not seen before an answer
        assert socket.receive(timeout=20)[0] == "0"
        assert socket.receive(timeout=20)[:2] == "40"
        for number in range(3):
            socket.send(f'42{number}["order","message {number}"]')
            acknowledged = f"43{number}" + json.dumps([f"queued message {number}"])
            assert socket.receive(timeout=20) == acknowledged
            eventually(lambda number=number: site.gator.len() == number + 1)  # type: ignore[misc]
        socket.close()
