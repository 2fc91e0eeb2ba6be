"""The DSN of a Redis, or of a Valkey."""

import traceback

import pytest

from alligator import Gator
from alligator.backends.base import (
    WorkerInfo,
)
from alligator.backends.redis_backend import Client
from alligator.backends.redis_backend.dsn import read_dsn
from alligator.exceptions import (
    ConfigurationError,
)
from tests.harness import sample_tasks
from tests.harness.redis_network import (
    messages,
)
from tests.harness.store_servers import Server

pytestmark = pytest.mark.usefixtures("closed", "note_earlier")


@pytest.mark.parametrize(
    "rest",
    [
        "://app:p4ss@host:6380/3?ns=shop",
        "s://host",
        "+sentinel://one,two:26380/main/1",
        "s+cluster://one,two",
    ],
)
def test_valkey_scheme_means_the_same(rest: str) -> None:
    as_valkey, as_redis = read_dsn(f"valkey{rest}"), read_dsn(f"redis{rest}")

    assert as_valkey._replace(store="") == as_redis._replace(store="")
    assert as_valkey.store.startswith("valkey")


def test_redis_and_valkey_schemes_share_a_queue(server: Server) -> None:
    dsn = str(server)

    Gator(dsn).task(sample_tasks.add, 1, 2)

    assert Gator(dsn.replace("redis:", "valkey:")).len() == 1


def test_namespaces_are_separate(server: Server, client: Client) -> None:
    other = Client(f"{server}?ns=other")

    other.push_many(messages("a"), commit_id="c")
    other.beat(WorkerInfo(name="w"), 60)

    assert client.len("all") == 0
    assert client.queue_names() == []
    assert client.workers() == []
    client.push_many(messages("a"), commit_id="c")
    assert client.len("all") == other.len("all") == 1
    assert {str(key).partition(":")[0] for key in client.conn.scan_iter()} == {
        "{alligator}",
        "{other}",
    }


def test_unix_socket_works(server: Server, client: Client) -> None:
    Client(f"{server.unix_dsn}?db=0").push_many(messages("a"))

    assert client.len("all") == 1


def test_database_number_is_used(server: Server, client: Client) -> None:
    Client(server.replace("/0", "/1")).push_many(messages("a"))

    assert client.len("all") == 0


@pytest.mark.parametrize(
    ("dsn", "says"),
    [
        ("redis://localhost?colour=red", "valid options: ns, timeout"),
        ("redis://localhost?ns=", "ns must not be empty"),
        ("redis://localhost?ns=%7Ba", "braces"),
        ("redis://localhost?timeout=soon", "timeout must be a number"),
        ("redis://localhost?timeout=-1", "timeout must be a positive number"),
        ("redis://localhost?timeout=3600", "timeout must be a positive number .*below 3600"),
        ("redis://localhost?timeout=nan", "timeout must be a positive number"),
        ("redis://localhost?connect_timeout=1e300", "connect_timeout must be a positive number"),
        ("redis://localhost?db=one", "db must be a number"),
        ("redis://localhost/one", "the database must be a number"),
        ("redis://:s3cret/x@localhost", "%2F"),
        ("redis://:s3cret#x@localhost", "%23"),
        ("redis://:s3cret?x@localhost", "valid options"),
        ("unix://", "has no socket path"),
        ("redis+tower://localhost", "have the form redis://"),
        ("redis+sentinel://localhost", "have the form redis\\+sentinel://"),
        ("redis+sentinel://:s3cret/x@localhost/main", "%2F"),
        ("redis+sentinel://h1:one,h2/main", "have the form redis\\+sentinel://"),
        ("unix+sentinel://h1,h2/main", "have the form redis\\+sentinel://"),
        ("redis+sentinel://h1,h2/main/one", "the database must be a number"),
        ("redis+cluster://h1,h2/1", "database 0 only"),
        ("redis+cluster://h1,h2?db=1", "database 0 only"),
        ("redis+cluster://h1,,h2", "have the form redis\\+cluster://"),
        ("redis://h?sentinel_password=s3cret", "no Sentinels"),
        ("http://localhost", "have the form redis://"),
        ("redis://h?ssl_ca_certs=/etc/hostname", "write rediss in place of redis"),
        ("unix:///x?ssl_certfile=/etc/hostname", "write rediss in place of redis"),
        ("rediss://h?ssl_keyfile=/etc/hostname", "add ssl_certfile"),
        ("rediss://h?ssl_ca_certs=/no/such.pem", "ssl_ca_certs: cannot read /no/such.pem: No such"),
        ("rediss+sentinel://h/m?ssl_certfile=/no/such.pem", "ssl_certfile: cannot read"),
        ("rediss://h?ssl_ca_certs=/etc/hostname", "ssl_ca_certs: /etc/hostname is no certificate"),
        ("rediss://h?ssl_certfile=/etc/hostname", "ssl_certfile: /etc/hostname is no certificate"),
    ],
)
def test_dsn_that_cannot_work_is_rejected_with_the_reason(dsn: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as raised:
        Client(dsn)

    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


def test_constructing_a_client_opens_no_connection() -> None:
    for dsn in ("redis://", "redis://nowhere.invalid", "rediss://nowhere.invalid?timeout=3"):
        Client(dsn)
