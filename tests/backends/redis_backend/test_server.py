"""A Redis server: what a DSN says of it, and how a connection to it begins."""

import os
import socket
import ssl
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest
from redis import exceptions as errors

from alligator.backends.redis_backend.dsn import read_dsn
from alligator.backends.redis_backend.server import Server
from tests.harness.programs import SLACK


def server_of(dsn: str) -> Server:
    return Server.from_dsn(read_dsn(dsn))


@pytest.mark.parametrize(
    ("dsn", "login"),
    [
        ("redis://h", []),
        ("redis://:p%2Fw@h/0", [("AUTH", "p/w")]),
        ("redis://me:pw@h/2", [("AUTH", "me", "pw"), ("SELECT", 2)]),
        ("redis://me@h?db=3&password=pw", [("AUTH", "me", "pw"), ("SELECT", 3)]),
        ("unix:///run/redis.sock?db=1", [("SELECT", 1)]),
    ],
)
def test_login_is_what_the_dsn_says(dsn: str, login: list[tuple[object, ...]]) -> None:
    assert server_of(dsn).login == login


def test_place_is_named_without_secrets() -> None:
    assert server_of("redis://me:pw@h:1234/2").place == "h:1234"
    assert server_of("unix:///run/redis.sock").place == "/run/redis.sock"
    assert server_of("redis://h").at(("other", 7)).address == ("other", 7)


def test_socket_is_kept_alive_and_sends_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with closing(server_of("redis://h").at(address).dial(monotonic() + SLACK)) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_failure_to_connect_names_the_place(tmp_path: Path) -> None:
    for dsn in ("redis://127.0.0.1:1", f"unix://{tmp_path}/none"):
        with pytest.raises(errors.ConnectionError, match=r"(127.0.0.1:1|none)\b"):
            server_of(dsn).dial(monotonic() + SLACK)


def test_tls_context_is_made_again_when_a_file_is_renewed(tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    system = Path(ssl.get_default_verify_paths().openssl_cafile)
    if not system.exists():
        pytest.skip("there are no certificates of the system")
    authority.write_bytes(system.read_bytes())
    server = server_of(f"rediss://h?ssl_ca_certs={authority}")

    first = server.tls_context()
    assert server.tls_context() is first
    os.utime(authority, (1, 1))
    assert server.tls_context() is not first


def test_certificate_and_host_name_are_verified() -> None:
    context = server_of("rediss://h").tls_context()

    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
