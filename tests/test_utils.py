"""The helpers of Alligator 1.0 under their old names."""

import os

import pytest

from alligator import Task
from alligator.exceptions import UnknownCallableError, UnknownModuleError
from alligator.utils import determine_module, determine_name, import_attr, import_module


def test_determine_module_and_name_describe_a_callable() -> None:
    assert determine_module(os.path.join) == os.path.join.__module__
    assert determine_name(os.path.join) == "join"
    assert determine_name(Task()) == "Task"  # type: ignore[arg-type]


def test_import_module_and_attr_return_what_they_import() -> None:
    assert import_module("random").__name__ == "random"
    assert import_attr("random", "choice").__name__ == "choice"


def test_import_of_an_unknown_name_is_an_alligator_exception() -> None:
    with pytest.raises(UnknownModuleError):
        import_module("no_such_module")
    with pytest.raises(UnknownModuleError):
        import_attr("no_such_module", "x")
    with pytest.raises(UnknownCallableError):
        import_attr("random", "no_such_name")
