"""A password is in no message, however its DSN is written."""

import logging
import re
import traceback

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alligator import Gator
from alligator.backends.base import redact
from alligator.backends.redaction import SHOWN
from alligator.exceptions import AlligatorException, BackendError

TOKEN = "Hunter2Secret"

SHAPES = [
    "redis://u:{}@h",
    "redis://u:{}@h:6379/0?timeout=2",
    "redis://:{}@h/0",
    "redis://{}@h/0",
    "redis://h/0?password={}&db=1",
    "rediss://u:{}@[::1]:6379/0",
    "unix://u:{}@/run/redis.sock?db=1",
    "redis+sentinel://u:{}@h1,h2:26379/main/0",
    "redis+sentinel://h1,h2/main?sentinel_password={}",
    "redis+cluster://u:{}@h1:7000,h2",
    "sqs://u:{}@eu-west-1/?prefix=shop",
    "sqs+http://u:{}@localhost:9324/",
    "sqlite://u:{}@/../q.db",
    "sqlite:///u:{}@h/q.db?timeout=2",
    "postgres://u:{}@h/db",
    "postgresql://u:{}@h1:5432,h2/db?schema=jobs&sslmode=require",
    "postgresql://h/db?user=u&password={}&schema=jobs",
    "postgresql:///db?service=shop&sslpassword={}",
    "host=h user=u password={} dbname=db",
    "locmem://u:{}@h",
]

DELIMITERS = ":/@?=&#"
ODD = st.text("/?#[]@:%+=&é !", max_size=3)


@st.composite
def dsns(draw: st.DrawFn) -> str:
    """Write a DSN with the password in it, and a slip of the keyboard among its delimiters."""
    shape = draw(st.sampled_from(SHAPES))
    places = [place for place, char in enumerate(shape) if char in DELIMITERS]
    place = draw(st.sampled_from([*places, None]))
    if place is not None:
        typed = draw(st.sampled_from(["", shape[place] * 2, *DELIMITERS, " ", ";", "\\", "\n"]))
        shape = shape[:place] + typed + shape[place + 1 :]
    password = f"{draw(ODD)}{TOKEN}{draw(ODD)}"
    return draw(st.sampled_from(["", " ", "'"])) + shape.replace("{}", password)


REPORTED = [
    "redis:/u:{}@h",
    "redis:u:{}",
    "redis//u:{}@h",
    "//u:{}@h",
    "u:{}@h",
    "redis://{}@h/0x",
    "sqlite://u:{}@/..",
    "redis://u:{}",
    "redis://u:{}/0",
    "u:{}@redis://h",
    "redis://{}:@h",
    "redis://{}::@h",
]


def is_a_host(dsn: str) -> bool:
    """Whether what was typed says that the password is the name of a host, a file or a database."""
    rest = dsn.partition("://")[2].partition("?")[0].rpartition("@")[2]
    rest = re.sub(r":\d+(?=[/,]|$)", "", rest)  # without its port
    return TOKEN in rest and not set(rest) & set(":=&#;")


def is_a_path(dsn: str) -> bool:
    """Whether what was typed says that the password is in the absolute path of a file."""
    path = dsn.removeprefix("sqlite://").partition("?")[0]
    return path != dsn and path.startswith("/") and TOKEN in path and ":" not in path


@settings(max_examples=500)
@given(dsns())
def test_password_is_hidden_in_any_dsn(dsn: str) -> None:
    if not is_a_host(dsn):
        assert TOKEN not in redact(dsn)


@pytest.mark.parametrize("dsn", REPORTED)
def test_password_is_hidden_in_dsns_that_people_have_typed(dsn: str) -> None:
    assert TOKEN not in redact(dsn.format(TOKEN))


@settings(max_examples=300)
@given(dsns())
@example(f"sqlite://u:{TOKEN}@/..")
@example(f"sqlite://u{TOKEN}/@/../q.db")
@example(f"sqlite:///q.db?timeout={TOKEN}")
@example(f"sqlite:///q.db?{TOKEN}=1")
@example(f"sqlite:///u:{TOKEN}")
@example(f"redis://{TOKEN}@h/0x")
def test_errors_and_reprs_show_no_password(dsn: str) -> None:
    if is_a_host(dsn) or is_a_path(dsn):
        return
    pytest.importorskip("redis")
    pytest.importorskip("boto3")
    records: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.getMessage())

    handler = Handler()
    logging.getLogger("alligator").addHandler(handler)
    try:
        gator = Gator(dsn)
        shown = f"{gator!r} {gator.client!r}"
    except AlligatorException as error:
        shown = "".join(traceback.format_exception(error))
    finally:
        logging.getLogger("alligator").removeHandler(handler)

    assert TOKEN not in shown
    assert not any(TOKEN in record for record in records)


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("redis://localhost:6379/0?timeout=2", "redis://localhost:6379/0?timeout=2"),
        ("valkey://h?ns=shop.eu&db=1&password=x", "valkey://h?ns=shop.eu&db=1&password=***"),
        (
            "redis+sentinel://h/m?sentinel_username=app&sentinel_password=x&connect_timeout=.5",
            "redis+sentinel://h/m?sentinel_username=app&sentinel_password=***&connect_timeout=.5",
        ),
        ("sqs://eu-west-1/?prefix=shop-&create=no", "sqs://eu-west-1/?prefix=shop-&create=no"),
        ("sqs+http://h/?region=eu-west-1&poll=20", "sqs+http://h/?region=eu-west-1&poll=20"),
        ("sqlite://queue.db?timeout=1.5", "sqlite://queue.db?timeout=1.5"),
        ("redis://app:x@db.example/0", "redis://app:***@db.example/0"),
        ("redis://:x@db", "redis://:***@db"),
        ("redis+sentinel://a:1,b:2/main/0", "redis+sentinel://a:1,b:2/main/0"),
        ("rediss://[::1]:6379", "rediss://[::1]:6379"),
        ("sqlite:///var/my app/q=1.db", "sqlite:///var/my app/q=1.db"),
        ("sqlite://queue.db", "sqlite://queue.db"),
        ("stats", "stats"),
        ("var/queue.db", "var/queue.db"),
        ("", ""),
    ],
)
def test_public_parts_are_shown(dsn: str, shown: str) -> None:
    assert redact(dsn) == shown


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("redis://h?prefix=shop", "redis://h?prefix=***"),
        ("sqs://eu-west-1/?ns=shop", "sqs://eu-west-1/?ns=***"),
        ("sqlite:///q.db?ns=shop", "sqlite:///q.db?ns=***"),
        ("locmem://?timeout=2", "locmem://?timeout=***"),
        ("mine://h?ns=shop", "mine://h?ns=***"),
        ("redis://h?timeout=soon", "redis://h?timeout=***"),
        ("redis://h?ns=a%20b", "redis://h?ns=***"),
        ("redis://h?PASSWORD=x&ns", "redis://h?***&***"),
        ("sqs://eu-west-1/?create=maybe", "sqs://eu-west-1/?create=***"),
    ],
)
def test_unknown_and_malformed_options_are_hidden(dsn: str, shown: str) -> None:
    assert redact(dsn) == shown


def test_options_are_shown_except_passwords_and_files() -> None:
    pytest.importorskip("redis")
    pytest.importorskip("boto3")
    from alligator.backends.redis_backend import dsn as redis_dsn
    from alligator.backends.sqs_backend import dsn as sqs_dsn

    hidden = {name for name in redis_dsn.OPTIONS if name.endswith("password")}
    hidden |= {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
    assert SHOWN["redis"].keys() == redis_dsn.OPTIONS.keys() - hidden
    assert SHOWN["sqs"].keys() == {*sqs_dsn.OPTIONS}


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("redis://app:x@h?ns=shop&password=x", "redis://app:***@h?ns=shop&password=***"),
        ("sqs+http://h:9324/?prefix=shop-&poll=0", "sqs+http://h:9324/?prefix=shop-&poll=0"),
    ],
)
def test_gator_and_its_client_show_the_options_of_their_store(dsn: str, shown: str) -> None:
    pytest.importorskip("redis")
    pytest.importorskip("boto3")
    with Gator(dsn) as gator:
        assert f" on {shown}>" in repr(gator)
        assert f" {shown}>" in repr(gator.client)


def test_error_shows_the_options_of_its_store() -> None:
    pytest.importorskip("redis")
    with (
        Gator("redis://:x@127.0.0.1:1/0?ns=shop&password=x") as gator,
        pytest.raises(
            BackendError, match=re.escape("redis://:***@127.0.0.1:1/0?ns=shop&password=*** ")
        ),
    ):
        gator.client.ping()
