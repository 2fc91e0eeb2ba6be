"""DSNs: libpq's in all their forms, and what is refused."""

from pathlib import Path
from traceback import format_exception

import pytest
from psycopg.conninfo import conninfo_to_dict

from alligator.backends.postgres_backend import Client
from alligator.backends.postgres_backend.dsn import read_dsn
from alligator.exceptions import ConfigurationError
from tests.harness.postgres_servers import PostgresServer

SECRET = "s3cret"


def parts(dsn: str) -> list[dict[str, object]]:
    return [dict(conninfo_to_dict(each.decode())) for each in read_dsn(dsn).conninfos]


def test_options_of_alligator_are_kept_from_libpq() -> None:
    dsn = read_dsn(
        "postgresql://u:p%40ss@db.example:5433/shop?schema=jobs&timeout=5&sslmode=require"
    )

    assert (dsn.schema, dsn.timeout) == ("jobs", 5.0)
    [found] = parts("postgresql://u:p%40ss@db.example:5433/shop?schema=jobs&sslmode=require")
    assert (found["user"], found["password"], found["port"]) == ("u", "p@ss", "5433")
    assert found["sslmode"] == "require"
    assert "schema" not in found


def test_server_must_accept_writes_unless_the_dsn_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PGTARGETSESSIONATTRS", raising=False)

    assert parts("postgresql:///shop")[0]["target_session_attrs"] == "read-write"
    assert parts("postgresql:///shop?target_session_attrs=any")[0]["target_session_attrs"] == "any"
    assert "target_session_attrs" not in parts("postgresql:///?service=shop")[0]
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "primary")
    assert "target_session_attrs" not in parts("postgresql:///shop")[0]


def test_idle_connections_are_kept_alive() -> None:
    assert parts("postgresql:///shop")[0]["keepalives_idle"] == "30"
    assert parts("postgresql:///shop?keepalives_idle=7")[0]["keepalives_idle"] == "7"
    assert "keepalives_idle" not in parts("postgresql:///?service=shop")[0]


def test_hosts_are_tried_one_by_one() -> None:
    found = parts("postgresql://a:1,b:2/shop")

    assert [(each["host"], each["port"]) for each in found] == [("a", "1"), ("b", "2")]
    assert [each["port"] for each in parts("postgresql://a,b/shop?port=7")] == ["7", "7"]


def test_number_of_ports_must_be_that_of_the_hosts() -> None:
    with pytest.raises(ConfigurationError, match="one port"):
        read_dsn("postgresql:///shop?host=a,b,c&port=1,2")


def test_scope_names_the_database_and_the_schema() -> None:
    assert read_dsn("postgresql://u:p@h/shop?schema=jobs").scope == "postgresql/shop/jobs"
    assert read_dsn("postgres://other/shop?schema=jobs").scope == "postgresql/shop/jobs"


@pytest.mark.parametrize(
    "schema", ["", "a b", "1a", "x" * 64, "a.b", 'a"b', "pg_temp", "information_schema", "a%22b"]
)
def test_schema_must_be_a_name(schema: str) -> None:
    with pytest.raises(ConfigurationError, match="schema"):
        read_dsn(f"postgresql:///shop?schema={schema}")


@pytest.mark.parametrize("timeout", ["", "0", "-1", "nan", "soon", "3600"])
def test_timeout_must_be_a_number_of_seconds(timeout: str) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        read_dsn(f"postgresql:///shop?timeout={timeout}")


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://u:{SECRET}@h:port/shop",
        f"postgresql://u:{SECRET}@h/shop?no_option={SECRET}",
        f"postgresql://u:{SECRET}%zz@h/shop",
        f"postgresql://h/shop?password={SECRET}&password",
        f"postgresql://u:{SECRET}@[h/shop",
    ],
)
def test_unreadable_dsn_is_an_error_without_its_password(dsn: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_dsn(dsn)

    assert SECRET not in str(caught.value)
    assert SECRET not in "".join(format_exception(caught.value)).replace(dsn, "")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("sslmode=nonsense", 'invalid sslmode value: "nonsense"'),
        ("target_session_attrs=any%20", "invalid target_session_attrs value"),
        ("port=99999", "the port must be a number"),
        ("sslmode=verify-full&sslrootcert=/no/ca.pem", "sslrootcert: cannot read /no/ca.pem: No"),
    ],
)
def test_value_that_cannot_work_is_rejected_with_the_reason(options: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        read_dsn(f"postgresql://u:{SECRET}@h/shop?{options}")

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "options", ["sslmode=verify-full&sslrootcert=system", "sslcert=/no/file", "service=shop"]
)
def test_value_that_may_work_is_accepted(options: str) -> None:
    read_dsn(f"postgresql://u:{SECRET}@h/shop?{options}")


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://u:{SECRET}@h/shop",
        f"postgresql://h/shop?user=u&password={SECRET}",
        f"postgresql://h/shop?sslpassword={SECRET}",
        f"postgres://u:{SECRET}@h1:1,h2:2/shop?options=-c%20x%3D{SECRET}",
    ],
)
def test_password_is_never_shown(dsn: str) -> None:
    client = Client(dsn)

    assert SECRET not in f"{client!r} {client.address} {client.scope} {client._sessions.store}"


def test_service_file_names_the_server(
    server: PostgresServer, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pg_service.conf"
    path.write_text(
        f"[shop]\nhost=127.0.0.1,127.0.0.1\nport=1,{server.port}\nuser=postgres\ndbname=postgres\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(path))
    client = Client(f"postgresql:///?service=shop&schema={schema}&timeout=20")

    client.ping()

    client.close()
