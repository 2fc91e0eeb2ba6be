"""Signatures whose annotations cannot be evaluated, as on Python 3.14 with type-only imports.

These tests stand in for it on older Pythons: what computes its signature raises the same error. On
3.14 the last test evaluates annotations for real.
"""

import sys
from typing import Any

import pytest

from alligator import Gator, Task
from alligator._runtime.signatures import signature
from alligator.exceptions import NotSerializable, WrongArguments
from alligator.payload.functions import callee_of


class NotEvaluable(type):
    """Makes classes whose signature cannot be computed."""

    @property
    def __signature__(cls) -> object:
        raise NameError("name 'Decimal' is not defined")


class Priced(Task, metaclass=NotEvaluable):
    """A task class with an option of its own."""

    def __init__(self, *args: Any, price: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.price = price


def send(order: Any, number: Any) -> None:
    """A task."""


send.__annotations__ = {"order": "NoSuchName[", "number": "1 / 0"}


class Computed:
    """A callable whose signature raises."""

    @property
    def __signature__(self) -> object:
        raise NameError("name 'Decimal' is not defined")

    def __call__(self) -> None:
        """Do nothing."""


def test_options_are_taken_by_a_class_whose_signature_cannot_be_computed() -> None:
    gator = Gator("locmem://", task_class=Priced, defaults={"retries": 1})

    with gator.options(retries=2, price=7) as opts:  # type: ignore[call-arg]
        task = opts.task(send, 1, 2)

    assert isinstance(task, Priced)
    assert (task.retries, task.price) == (2, 7)


def test_argument_that_is_not_json_is_named() -> None:
    with pytest.raises(NotSerializable, match=r"'number' of .*send cannot be written as JSON"):
        Gator("locmem://").task(send, 1, object())


def test_wrong_arguments_are_an_error_of_ours_all_the_same() -> None:
    with pytest.raises(WrongArguments, match=r"send\(order, number\)"):
        Gator("locmem://").task(send, 1)  # type: ignore[call-arg]


def test_callable_whose_signature_cannot_be_computed_takes_anything() -> None:
    callee_of(Computed()).check((1, 2), {"three": 3})


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated at definition")
def test_annotations_are_not_evaluated() -> None:
    scope: dict[str, Any] = {}
    exec("def send(order: Decimal, number: 1 / 0): pass", scope)

    assert list(signature(scope["send"]).parameters) == ["order", "number"]
