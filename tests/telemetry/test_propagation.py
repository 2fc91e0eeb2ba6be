"""The trace and the id of a request travel with the tasks that it starts, and nothing else does."""

import gc
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alligator import Gator, Task, Transaction, Worker, current_task
from alligator.telemetry.propagation import read_request, trace_id
from alligator.testing import sync
from tests.harness.programs import environment
from tests.harness.sample_tasks import add

ROOT = Path(__file__).parents[2]
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
STATE = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
ENVIRON = {
    "HTTP_X_REQUEST_ID": "r-1",
    "HTTP_TRACEPARENT": PARENT,
    "HTTP_TRACESTATE": STATE,
    "HTTP_COOKIE": "secret",
}
CARRIED = {"request_id": "r-1", "traceparent": PARENT, "tracestate": STATE}


def scope(*headers: tuple[str, str]) -> dict[str, Any]:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"type": "http", "headers": raw}


seen: list[dict[str, str]] = []


def look() -> None:
    """Note the headers of the task that runs."""
    task = current_task()
    assert task is not None
    seen.append(task.headers)


def look_and_fail() -> None:
    look()
    raise RuntimeError("no luck")


def start_another() -> None:
    look()
    gator.task(look)


gator = Gator("locmem://")


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    seen.clear()
    yield
    gator.client.drop_all(gator.queue_name)


def request_of(environ: Any = ENVIRON, gator: Gator = gator) -> Transaction:
    return Transaction(gator, {}, environ)


# What is read of a request.


def test_environ_of_wsgi_is_read() -> None:
    assert read_request(ENVIRON) == CARRIED


def test_scope_of_asgi_is_read() -> None:
    headers = [("x-request-id", "r-1"), ("traceparent", PARENT), ("tracestate", STATE)]

    assert read_request(scope(("cookie", "secret"), *headers)) == CARRIED


def test_request_without_headers_gives_nothing() -> None:
    assert read_request({}) == {}
    assert read_request(scope()) == {}


@pytest.mark.parametrize(
    "value",
    [
        "a",
        "4f1c9a6e-0000-4000-8000-aabbccddeeff",
        "Root=1-67891233-abc",
        "a/b:c+d_e.f~g@h",
        "x" * 128,
    ],
)
def test_request_id_is_taken_unchanged(value: str) -> None:
    assert read_request({"HTTP_X_REQUEST_ID": value}) == {"request_id": value}


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x" * 129,
        "a b",
        "a\nb",
        "a,b",
        'a"b',
        "a\\b",
        "ä",
        "a\x1b[31m",
        "<b>",
        "a;b",
        "a%0a",
        "a\n",
    ],
)
def test_request_id_that_could_do_harm_is_dropped(value: str) -> None:
    assert read_request({"HTTP_X_REQUEST_ID": value}) == {}
    if value.isascii():
        assert read_request(scope(("x-request-id", value))) == {}


def test_correlation_id_is_a_request_id() -> None:
    environ = {"HTTP_X_CORRELATION_ID": "c-1"}

    assert read_request(environ) == {"request_id": "c-1"}
    assert read_request({**environ, "HTTP_X_REQUEST_ID": "r-1"}) == {"request_id": "r-1"}
    assert read_request({**environ, "HTTP_X_REQUEST_ID": "a b"}) == {"request_id": "c-1"}


def test_header_that_comes_twice_is_ignored() -> None:
    assert read_request(scope(("x-request-id", "a"), ("x-request-id", "b"))) == {}
    assert read_request(scope(("traceparent", PARENT), ("traceparent", PARENT))) == {}


def test_tracestate_may_come_in_pieces() -> None:
    pieces = [("tracestate", "a=1"), ("traceparent", PARENT), ("tracestate", "b=2")]

    assert read_request(scope(*pieces))["tracestate"] == "a=1,b=2"


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-00", f"00-{TRACE}-b7ad6b7169203331-00"),
        (f"cc-{TRACE}-b7ad6b7169203331-01", f"00-{TRACE}-b7ad6b7169203331-01"),
        (f"01-{TRACE}-b7ad6b7169203331-08-what-comes", f"00-{TRACE}-b7ad6b7169203331-00"),
    ],
)
def test_traceparent_is_reduced_to_the_known_version(value: str, taken: str) -> None:
    assert read_request({"HTTP_TRACEPARENT": value}) == {"traceparent": taken}


@pytest.mark.parametrize(
    "value",
    [
        "garbage",
        f"ff-{TRACE}-b7ad6b7169203331-01",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-b7ad6b7169203331-01",
        f"00-{TRACE}-b7ad6b7169203331-01-more",
        f"00-{TRACE}-b7ad6b7169203331-01-",
        f"00-{TRACE}-b7ad6b7169203331-01\n",
        f"00-{TRACE}-b7ad6b7169203331",
        f"00-{TRACE[1:]}-b7ad6b7169203331-01",
        f"01-{TRACE}-b7ad6b7169203331-01.more",
        f"01-{TRACE}-b7ad6b7169203331-01-{'x' * 300}",
    ],
)
def test_invalid_traceparent_is_dropped_with_its_state(value: str) -> None:
    assert read_request({"HTTP_TRACEPARENT": value, "HTTP_TRACESTATE": STATE}) == {}


@pytest.mark.parametrize("value", ["a=1", "a@b=1", "a=1, b=2\t,,c=3", "a= !~", "0/*-_=x"])
def test_tracestate_is_taken_unchanged(value: str) -> None:
    found = read_request({"HTTP_TRACEPARENT": PARENT, "HTTP_TRACESTATE": value})

    assert found["tracestate"] == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a",
        "a=",
        "A=1",
        "a=1=2",
        "a=\n",
        "a=ä",
        "a=1,b",
        f"a={'x' * 257}",
        ",".join(f"a{number}=1" for number in range(33)),
        f"a={'x' * 250},b={'x' * 250},c={'x' * 250}",
    ],
)
def test_invalid_tracestate_is_dropped_alone(value: str) -> None:
    found = read_request({"HTTP_TRACEPARENT": PARENT, "HTTP_TRACESTATE": value})

    assert found == {"traceparent": PARENT}


HEADER = st.sampled_from([PARENT, STATE, "r-1", ""]) | st.text(max_size=80)
SAFE = re.compile(r"[ -~\t]{1,512}")


@given(HEADER, HEADER, HEADER)
def test_headers_of_any_text_become_short_printable_ascii(a: str, b: str, c: str) -> None:
    found = read_request({"HTTP_X_REQUEST_ID": a, "HTTP_TRACEPARENT": b, "HTTP_TRACESTATE": c})

    assert all(SAFE.fullmatch(value) for value in found.values())
    assert found.get("request_id") in (None, a)
    assert found.get("tracestate") in (None, c)


@given(st.lists(st.tuples(st.sampled_from([b"x-request-id", b"traceparent"]), st.binary())))
def test_headers_of_any_bytes_become_short_printable_ascii(
    headers: list[tuple[bytes, bytes]],
) -> None:
    found = read_request({"headers": headers})

    assert all(SAFE.fullmatch(value) for value in found.values())


# How it travels.


def test_all_tasks_of_a_request_get_its_headers() -> None:
    with request_of():
        tasks = [gator.task(add, 1, 2), gator.task(add, 3, 4)]

    assert [task.headers for task in tasks] == [CARRIED, CARRIED]


def test_transaction_in_a_request_belongs_to_the_request() -> None:
    with request_of(), Gator("locmem://").transaction(), gator.transaction():
        task = gator.task(add, 1, 2)

    assert task.headers == CARRIED


def test_task_object_of_the_caller_gets_the_headers() -> None:
    task = Task()

    with request_of():
        gator.push(task, add, 1, 2)

    assert task.headers == CARRIED


def test_task_after_the_response_gets_the_headers() -> None:
    with request_of() as transaction:
        transaction.commit()
        tasks = [gator.task(add, 1, 2)]
        with gator.transaction():
            tasks.append(gator.task(add, 1, 2))

    assert [task.headers for task in tasks] == [CARRIED, CARRIED]


def test_headers_are_empty_without_a_request() -> None:
    with gator.transaction():
        task = gator.task(add, 1, 2)

    assert task.headers == {}


def test_headers_are_kept_over_retries_and_in_the_dead_letters() -> None:
    with request_of(), gator.options(retries=1, backoff=0) as opts:
        task = opts.task(look_and_fail)

    Worker(gator, burst=True).run_forever()
    gator.retry_dead(task.task_id)
    Worker(gator, burst=True).run_forever()

    assert seen == [CARRIED] * 3


def test_task_passes_its_headers_to_the_tasks_that_it_starts() -> None:
    with request_of(), gator.options(headers={"tenant": "blue"}) as opts:
        opts.task(start_another)

    Worker(gator, burst=True).run_forever()

    assert seen == [{**CARRIED, "tenant": "blue"}, CARRIED]


def test_inline_task_passes_its_headers_to_the_tasks_that_it_starts() -> None:
    with sync(), request_of():
        gator.task(start_another)
    with request_of(), gator.options(is_async=False) as opts:
        opts.task(look)

    assert seen == [CARRIED] * 3


# What is said at the call, and the switch.


def test_headers_of_the_call_take_precedence() -> None:
    with request_of(), gator.options(headers={"request_id": "mine", "tenant": "blue"}) as opts:
        task = opts.task(add, 1, 2)

    assert task.headers == {**CARRIED, "request_id": "mine", "tenant": "blue"}


def test_trace_of_the_call_gets_no_state_of_another() -> None:
    own = f"00-{'1' * 32}-{'2' * 16}-01"

    with request_of(), gator.options(headers={"traceparent": own}) as opts:
        task = opts.task(add, 1, 2)

    assert task.headers == {"request_id": "r-1", "traceparent": own}


def test_propagation_can_be_switched_off() -> None:
    quiet = Gator("locmem://", tracing=False)

    with request_of(gator=quiet):
        task = quiet.task(look)
    Worker(quiet, burst=True).run_forever()

    assert task.headers == {}
    assert seen == [{}]


@pytest.mark.parametrize(
    ("headers", "found"),
    [({"traceparent": PARENT}, TRACE), ({}, ""), ({"traceparent": "garbage"}, "")],
)
def test_id_of_the_trace_is_in_its_traceparent(headers: Mapping[str, str], found: str) -> None:
    assert trace_id(Task(headers=headers)) == found


# What it costs.


class Unread(dict[str, str]):
    """A request whose headers must not be read."""

    def __contains__(self, key: object) -> bool:
        raise AssertionError(f"{key} was looked at")

    __getitem__ = get = __contains__  # type: ignore[assignment]


def test_request_that_starts_no_task_is_not_read() -> None:
    with request_of(Unread()):
        pass


def test_second_task_does_not_read_the_request_again() -> None:
    request = dict(ENVIRON)

    with request_of(request):
        gator.task(add, 1, 2)
        request.clear()
        task = gator.task(add, 1, 2)

    assert task.headers == CARRIED


def test_request_leaves_nothing_for_the_garbage_collector() -> None:
    environ: dict[str, Any] = {}
    gc.disable()
    try:
        environ["alligator.transaction"] = transaction = request_of(environ)
        with transaction:
            pass
        reference = weakref.ref(transaction)
        del environ, transaction
        assert reference() is None
    finally:
        gc.enable()


def test_program_without_opentelemetry_does_not_load_it() -> None:
    code = (
        "import sys\n"
        "from alligator import Gator, Worker\n"
        "from tests.harness.sample_tasks import add\n"
        "gator = Gator('locmem://')\n"
        "gator.task(add, 1, 2)\n"
        "Worker(gator, burst=True).run_forever()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, cwd=ROOT
    )

    assert done.stdout == "[]\n", done.stderr
