"""TLS to PostgreSQL: the certificate of the server is checked, and one of ours is accepted."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from alligator.backends.base import Commit, Message
from alligator.backends.postgres_backend import Client
from alligator.exceptions import BackendError
from tests.harness.certificates import Authority
from tests.harness.postgres_servers import (
    PostgresServer,
    find_with_tls,
    postgres_server,
)
from tests.harness.requirements import needed

HBA = """\
hostssl all all all cert clientcert=verify-full
"""
"""Only clients with a certificate of our authority, in the name of their user."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    with needed():
        return Authority.found(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[PostgresServer]:
    """Run a server whose certificate is for localhost."""
    with needed(), postgres_server(find_with_tls()) as server:
        server.stop()
        certificate, key = authority.sign("localhost")
        files = {"server.crt": certificate, "server.key": key, "ca.crt": authority.certificate}
        for name, path in files.items():
            server.put(name, path.read_bytes())
        server.put("pg_hba.conf", HBA.encode())
        server.configure(ssl="on", ssl_ca_file="ca.crt")
        server.start()
        yield server


@pytest.fixture
def parameters(authority: Authority) -> dict[str, str]:
    """Return the options of a DSN whose user has a certificate."""
    certificate, key = authority.sign("postgres")
    key.chmod(0o600)
    return {
        "sslmode": "verify-full",
        "sslrootcert": str(authority.certificate),
        "sslcert": str(certificate),
        "sslkey": str(key),
        "timeout": "20",
    }


def client(server: PostgresServer, parameters: dict[str, str], host: str = "localhost") -> Client:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return Client(f"postgresql://postgres@{host}:{server.port}/postgres?{query}")


def test_tasks_pass_over_tls_in_both_directions(
    server: PostgresServer, parameters: dict[str, str]
) -> None:
    large = '"' + "x" * 200_000 + '"'  # more than a record of TLS, and than the buffer of a socket
    with closing(client(server, parameters)) as opened:
        opened.push_many([Message("mail", "a", "{}"), Message("mail", "b", large)])
        asyncio.run(opened.apush_commits([Commit([Message("mail", "c", large)])]))
        leases = opened.step(["mail"], 10).leases
        [session] = opened._sessions._idle

        assert [lease.data for lease in leases] == ["{}", large, large]
        assert session.wire.pgconn.ssl_in_use


def test_waiting_ends_with_a_push_over_tls(
    server: PostgresServer, parameters: dict[str, str]
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with (
        closing(client(server, parameters)) as worker,
        closing(client(server, parameters)) as web,
        ThreadPoolExecutor() as pool,
    ):
        found = pool.submit(worker.wait_then_step, ["print"], 60.0, 1)
        web.push_many([Message("print", "a", "{}")])

        assert len(found.result(60).leases) == 1


def test_certificate_for_another_host_is_refused(
    server: PostgresServer, parameters: dict[str, str]
) -> None:
    with (
        closing(client(server, parameters, host="127.0.0.1")) as opened,
        pytest.raises(BackendError, match="does not match host name"),
    ):
        opened.ping()


def test_certificate_of_another_authority_is_refused(
    server: PostgresServer, parameters: dict[str, str], tmp_path: Path
) -> None:
    other = Authority.found(tmp_path / "other")
    with (
        closing(client(server, {**parameters, "sslrootcert": str(other.certificate)})) as opened,
        pytest.raises(
            BackendError, match="has a certificate that is not trusted here: see sslroot"
        ),
    ):
        opened.ping()


def test_client_without_a_certificate_is_refused(
    server: PostgresServer, authority: Authority
) -> None:
    parameters = {"sslmode": "verify-full", "sslrootcert": str(authority.certificate)}
    with (
        closing(client(server, parameters)) as opened,
        pytest.raises(BackendError, match="requires a valid client certificate"),
    ):
        opened.ping()


def test_connection_without_tls_is_refused(server: PostgresServer) -> None:
    with (
        closing(client(server, {"sslmode": "disable"})) as opened,
        pytest.raises(BackendError, match="does not let this host, user and database in"),
    ):
        opened.ping()
