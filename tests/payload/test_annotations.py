"""Annotations that cannot be evaluated, such as names that are imported for type checkers only.

From Python 3.14 on they are written like that. Older Pythons have them as strings.
"""

import importlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from alligator import SUCCESS, WAITING, Gator
from alligator.backends.base import Lease
from alligator.exceptions import NotSerializable, WrongArguments
from alligator.payload.functions import callee_of
from alligator.testing import capture, sync
from alligator.web.middleware import Middleware

MODULE = """
from typing import TYPE_CHECKING, Literal
from alligator import Task

if TYPE_CHECKING:
    from decimal import Decimal
    from nowhere import Order

def send(order: Order, number: Decimal | None = None, *, size: 1 / 0 = 0) -> Order:
    seen.append(order)

def label(kind: Literal[f"{Order}x"], size: [1, 2][7] = 0) -> (lambda: 1 / 0)():
    seen.append(kind)

class Sender:
    @classmethod
    def send_all(cls, order: f"{Order}", size: Decimal = 0) -> Order:
        seen.append(order)

    def __call__(self, order: Order, size: Decimal = 0) -> Order:
        seen.append(order)

class Priced(Task):
    def __init__(self, *args, price: Decimal | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.price = price

def veto(status: Order, headers: 1 / 0) -> Decimal:
    return status == 201

def choose(environ: Order) -> Decimal:
    return {"retries": 7}

seen: list[Order] = []
"""


@pytest.fixture
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of a project."""
    lazily = "" if sys.version_info >= (3, 14) else "from __future__ import annotations\n"
    (tmp_path / "orders_to_annotate.py").write_text(lazily + MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("orders_to_annotate")
    del sys.modules["orders_to_annotate"]


@pytest.mark.parametrize("name", ["send", "label", "Sender.send_all"])
def test_function_is_queued_and_run(orders: Any, name: str) -> None:
    func = orders.Sender.send_all if "." in name else getattr(orders, name)
    queue, here = Gator("locmem://", secret="s" * 32), Gator("locmem://", is_async=False)

    task = queue.task(func, 1, size=2)
    [lease] = queue.client.reserve("all")
    with here.transaction():
        here.task(func, 2)
    with sync():
        queue.task(func, 3)

    assert task.status == WAITING
    assert queue.read(Lease("all", lease.task_id, lease.data)).run().status == SUCCESS
    assert orders.seen == [2, 3, 1]


@pytest.mark.parametrize("name", ["send", "label", "Sender.send_all"])
def test_mistake_in_a_call_is_named(orders: Any, name: str) -> None:
    func = orders.Sender.send_all if "." in name else getattr(orders, name)
    gator = Gator("locmem://")

    with pytest.raises(WrongArguments, match=r"\(\w+,.* size\).*: missing a required argument"):
        gator.task(func)
    with pytest.raises(WrongArguments, match="unexpected keyword argument 'colour'"):
        gator.task(func, 1, colour="red")
    with pytest.raises(NotSerializable, match=r"'size' of .* cannot be written as JSON"):
        gator.task(func, 1, size=object())


def test_callable_object_is_checked(orders: Any) -> None:
    for func in (orders.Sender(), partial(orders.send, size=3)):
        callee_of(func).check((1,), {})
        with pytest.raises(WrongArguments):
            callee_of(func).check((1,), {"colour": "red"})


def test_task_class_can_have_its_own_options(orders: Any) -> None:
    gator = Gator("locmem://", task_class=orders.Priced, defaults={"retries": 1})

    with gator.options(price=7, retries=2) as opts:  # type: ignore[call-arg]
        task: Any = opts.task(orders.send, 1)

    assert (task.price, task.retries) == (7, 2)


def test_request_calls_a_veto_and_a_function_of_options(orders: Any) -> None:
    gator = Gator("locmem://")
    middleware = Middleware(None, gator, options=orders.choose, commit_veto=orders.veto)

    with capture() as tasks:
        for status in (200, 201):
            transactions = middleware.begin({})
            gator.task(orders.send, status)
            middleware.leave(transactions)
            assert middleware.end(transactions, status, []) is None

    [task] = tasks.assert_pushed(orders.send, args=[200], times=1)
    assert task.retries == 7
    tasks.assert_not_pushed(orders.send, args=[201])
