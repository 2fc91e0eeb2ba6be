"""TLS to Redis: certificates are checked, of a server alone, of Sentinels and of a cluster."""

import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from alligator.backends.base import Commit, Message
from alligator.backends.redis_backend import Client
from alligator.backends.redis_backend.commits import PUSH, Pusher
from alligator.exceptions import BackendError, BackendUnavailable
from tests.harness.certificates import Authority
from tests.harness.programs import eventually
from tests.harness.redis_network import beside, commits, ids, messages
from tests.harness.requirements import needed
from tests.harness.store_servers import Server, redis_server, sentinel


def settings_of(authority: Authority, clients: str = "no") -> dict[str, str]:
    """Configure a server at localhost; *clients* is whether they need a certificate as well."""
    certificate, key = authority.sign("localhost")
    return {
        "tls-cert-file": str(certificate),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(authority.certificate),
        "tls-auth-clients": clients,
        "tls-replication": "yes",
    }


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.found(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[Server]:
    # The Valkey of the wheel is built without TLS.
    with needed(), redis_server(**settings_of(authority)) as server:
        yield server


def test_certificate_of_a_trusted_authority_is_accepted(
    server: Server, authority: Authority
) -> None:
    assert server.startswith("rediss://localhost:")
    with closing(Client(f"{server}?ssl_ca_certs={authority.certificate}")) as client:
        client.push_many(messages("a"))

        assert ids(client.reserve("all")) == ["a"]
        client.wait(["all"], 0.01)
        assert client.conn.ping()


@pytest.mark.usefixtures("either_loop", "no_thread")
def test_loop_makes_the_trip_over_tls(server: Server, authority: Authority) -> None:
    options = f"?ssl_ca_certs={authority.certificate}&ns={uuid4().hex}"
    with closing(Client(f"{server}{options}")) as client:
        client.conn.script_load(PUSH.source)
        trips = [commits("a"), [Commit([Message("all", "b", "x" * 300_000)], "b")], commits("c")]

        assert beside(client, *trips) == [[None]] * 3
        assert ids(client.reserve("all", limit=9)) == ["a", "b", "c"]


@pytest.mark.usefixtures("either_loop")
def test_loop_refuses_the_certificate_of_another_host_or_authority(
    server: Server, authority: Authority, tmp_path: Path
) -> None:
    other = Authority.found(tmp_path / "theirs")
    elsewhere = server.replace("localhost", "127.0.0.1")
    for dsn in (server, f"{server}?ssl_ca_certs={other.certificate}", elsewhere):
        with closing(Client(f"{dsn}{'&' if '?' in dsn else '?'}ns=loop")) as client:
            [[error]] = beside(client, commits("refused"))
        assert isinstance(error, BackendError)
        assert "certificate" in str(error)


@pytest.mark.usefixtures("either_loop", "no_thread")
def test_loop_sends_its_client_certificate(authority: Authority) -> None:
    certificate, key = authority.sign("loop")
    with needed(), redis_server(**settings_of(authority, clients="yes")) as strict:
        dsn = f"{strict}?ssl_ca_certs={authority.certificate}"
        with closing(Client(f"{dsn}&ssl_certfile={certificate}&ssl_keyfile={key}")) as client:
            client.conn.script_load(PUSH.source)

            assert beside(client, commits("a")) == [[None]]


def test_certificate_of_another_authority_is_refused(server: Server, tmp_path: Path) -> None:
    other = Authority.found(tmp_path / "theirs")

    for trusted in (f"?ssl_ca_certs={other.certificate}", ""):
        with (
            closing(Client(server + trusted)) as client,
            pytest.raises(BackendError, match=r"is not trusted here: see ssl_ca_certs") as raised,
        ):
            client.push_many(messages("refused"))
        assert not isinstance(raised.value, BackendUnavailable), "it does not pass by itself"
        assert str(other.certificate) not in "".join(traceback.format_exception(raised.value))


def test_certificate_of_another_host_is_refused(server: Server, authority: Authority) -> None:
    elsewhere = server.replace("localhost", "127.0.0.1")

    with (
        closing(Client(f"{elsewhere}?ssl_ca_certs={authority.certificate}")) as client,
        pytest.raises(BackendError, match=r"(?i)certificate is not valid for '127.0.0.1'"),
    ):
        client.push_many(messages("refused"))


def test_server_without_tls_is_refused(redis: str, authority: Authority) -> None:
    plain = redis.replace("redis://127.0.0.1", "rediss://localhost")

    with (
        closing(Client(f"{plain}?ssl_ca_certs={authority.certificate}")) as client,
        pytest.raises(BackendError, match=r"the DSN (of such a port )?begins with redis\b"),
    ):
        client.push_many(messages("refused"))


def test_plain_dsn_of_a_tls_port_names_the_right_scheme(server: Server) -> None:
    with (
        closing(Client(server.replace("rediss://", "redis://"))) as client,
        pytest.raises(BackendUnavailable, match="the DSN begins with rediss"),
    ):
        client.push_many(messages("refused"))


def test_key_that_cannot_be_read_is_named(server: Server, authority: Authority) -> None:
    certificate, _ = authority.sign("worker")

    for key in ("", f"&ssl_keyfile={certificate}"):
        dsn = f"{server}?ssl_ca_certs={authority.certificate}&ssl_certfile={certificate}{key}"
        with closing(Client(dsn)) as client, pytest.raises(BackendError, match="no key") as raised:
            client.push_many(messages("refused"))
        assert not isinstance(raised.value, BackendUnavailable), "it does not pass by itself"


def test_client_certificate_is_sent(server: Server, authority: Authority) -> None:
    certificate, key = authority.sign("worker")
    with redis_server(**settings_of(authority, clients="yes")) as strict:
        dsn = f"{strict}?ssl_ca_certs={authority.certificate}"
        # With TLS 1.3 the reason arrives after the handshake, or the connection ends before it does.
        with closing(Client(dsn)) as client, pytest.raises(BackendError) as raised:
            client.push_many(messages("refused"))
        if not isinstance(raised.value, BackendUnavailable):
            assert "see ssl_certfile and ssl_keyfile" in str(raised.value)

        with closing(Client(f"{dsn}&ssl_certfile={certificate}&ssl_keyfile={key}")) as client:
            client.push_many(messages("a"))
            assert client.len("all") == 1


def test_sentinels_and_their_master_work_over_tls(
    server: Server, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By their names, which is what the certificates are for.
    by_name = {"sentinel resolve-hostnames": "yes", "sentinel announce-hostnames": "yes"}
    watch = {"sentinel monitor": f"main localhost {server.port} 1"}
    with sentinel(server, **by_name, **watch, **settings_of(authority)) as one:
        place = one.removeprefix("rediss://").removesuffix("/0")
        dsn = f"rediss+sentinel://{place}/main?ssl_ca_certs={authority.certificate}&ns=sentinels"
        with closing(Client(dsn)) as client:
            client.push_many(messages("a"))

            assert ids(client.reserve("all")) == ["a"]
            assert client.conn.ping()
            with monkeypatch.context() as patch:
                patch.setattr(Pusher, "_push_or_undo", None)  # a thread
                assert beside(client, commits("b")) == [[None]]


def test_cluster_works_over_tls(
    server: Server, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_name = {
        "cluster-announce-hostname": "localhost",
        "cluster-preferred-endpoint-type": "hostname",
    }
    settings = {"cluster-enabled": "yes", "tls-cluster": "yes", **settings_of(authority), **by_name}
    with redis_server(**settings) as node:
        place = node.removeprefix("rediss://").removesuffix("/0")
        dsn = f"rediss+cluster://{place}?ssl_ca_certs={authority.certificate}"
        with closing(Client(f"{node}?ssl_ca_certs={authority.certificate}")) as admin:
            admin.conn.cluster("ADDSLOTSRANGE", 0, 16383)
            eventually(lambda: "'ok'" in str(admin.conn.cluster("INFO")))
        with closing(Client(dsn)) as client:
            client.push_many(messages("a"))

            assert ids(client.reserve("all")) == ["a"]
            with monkeypatch.context() as patch:
                patch.setattr(Pusher, "_push_or_undo", None)  # a thread
                assert beside(client, commits("b")) == [[None]]
            # Of client.conn: a RedisCluster calls localhost by its number, which has no certificate.


def test_relative_certificate_is_found_from_another_folder(
    server: Server, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(authority.folder)
    client = Client(f"{server}?ssl_ca_certs=ca.crt")
    monkeypatch.chdir(tmp_path)

    with closing(client):
        assert client.conn.ping()
