"""A function has a name that any process can import it by, or an error says what to do."""

import os.path
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial, update_wrapper, wraps
from importlib import import_module, invalidate_caches
from pathlib import Path
from threading import Thread
from typing import Any, ParamSpec, TypeVar

import pytest

from alligator.exceptions import NotImportable, UnknownCallableError, UnknownModuleError
from alligator.payload.functions import load, locate
from tests.harness.programs import eventually

P = ParamSpec("P")
R = TypeVar("R")

ROOT = Path(__file__).parents[2]


def plain() -> None:
    """Do nothing."""


def keeping(func: Callable[P, R]) -> Callable[P, R]:
    @wraps(func)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return func(*args, **kwargs)

    return wrapper


def careless(func: Callable[P, R]) -> Callable[P, R]:
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return func(*args, **kwargs)

    return wrapper


@keeping
def decorated() -> None:
    """Do nothing, behind a decorator."""


@careless
def renamed() -> None:
    """Do nothing, behind a decorator that forgets the name."""


class Shop:
    """Everything that a class may hold."""

    def close(self) -> None: ...

    @classmethod
    def open_all(cls) -> str:
        return cls.__name__

    @staticmethod
    def count() -> int:
        return 1

    class Desk:
        @staticmethod
        def ring() -> None: ...


class Bakery(Shop):
    """A class that inherits its methods."""


class Unhashable:
    """An object that is equal to others, with a method."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]

    def method(self) -> None: ...


class Callable_:  # noqa: N801
    """An object that can be called."""

    def __call__(self) -> None: ...


class Named:
    """A decorator that leaves an object in the function's place."""

    def __init__(self, func: Callable[..., Any]) -> None:
        update_wrapper(self, func)

    def __call__(self) -> str:
        return "called"


nameless = lambda: None  # noqa: E731
bound_early = partial(plain)
disguised = update_wrapper(partial(plain), plain)
instance = Callable_()


@Named
def replaced() -> None: ...


@pytest.mark.parametrize(
    "func",
    [
        plain,
        decorated,
        replaced,
        Shop,
        Shop.Desk,
        Shop.close,
        Shop.count,
        Shop.open_all,
        Shop.Desk.ring,
        Bakery.open_all,
        Bakery.count,
        print,
        os.path.join,
        random.choice,
        random.Random.choice,
    ],
    ids=lambda func: getattr(func, "__qualname__", repr(func)),
)
def test_importable_function_is_found_again(func: Callable[..., Any]) -> None:
    module, name = locate(func)

    assert load(module, name) == func


def test_class_method_keeps_the_class_it_was_taken_from() -> None:
    assert load(*locate(Bakery.open_all))() == "Bakery"
    assert load(*locate(Shop.open_all))() == "Shop"


def nested() -> Callable[[], None]:
    def inner() -> None: ...

    return inner


@pytest.mark.parametrize(
    ("func", "cure"),
    [
        (lambda: None, "lambda: give it a name with def"),
        (nameless, "lambda: give it a name with def"),
        (nested(), "move it to the top of its module"),
        (renamed, "inside a function"),
        (Shop().close, "method of an instance"),
        (Unhashable().method, "method of an instance"),
        ([].append, "Wrap the call in a function"),
        (bound_early, "Wrap the call in a function"),
        (instance, "Wrap the call in a function"),
        (disguised, "Pass the function that the module holds"),
        (decorated.__wrapped__, "Pass the function that the module holds"),  # type: ignore[attr-defined]
    ],
    ids=[
        "lambda",
        "named lambda",
        "nested",
        "decorated without wraps",
        "method",
        "method of an unhashable",
        "method of a builtin",
        "partial",
        "callable instance",
        "partial in disguise",
        "behind the decorator",
    ],
)
def test_function_that_cannot_be_imported_is_refused_with_the_way_out(
    func: Callable[..., Any], cure: str
) -> None:
    with pytest.raises(NotImportable, match=cure):
        locate(func)


def test_refusals_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    def late() -> None: ...

    late.__qualname__ = "late"
    with pytest.raises(NotImportable):
        locate(late)

    monkeypatch.setattr(sys.modules[__name__], "late", late, raising=False)

    assert locate(late) == (__name__, "late")


def test_function_of_the_main_program_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "from alligator import Gator\n"
        "def mine(): return 7\n"
        "gator = Gator('locmem://')\n"
        "with gator.options(is_async=False) as here: print(here.task(mine).result)\n"
        "try: gator.task(mine)\n"
        "except TypeError as error: print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert done.stdout.startswith("7\nmine was defined in the program that was started (__main__)")
    assert "module of its own" in done.stdout
    assert done.stderr == ""


def test_missing_module_is_named() -> None:
    with pytest.raises(UnknownModuleError, match="cannot import no_such_module"):
        load("no_such_module", "anything")


@pytest.mark.parametrize("name", ["", ".relative", "a..b", "tests.nothing.here", "\0", "\ud800"])
def test_module_with_an_impossible_name_is_unknown(name: str) -> None:
    with pytest.raises(UnknownModuleError):
        load(name, "anything")


@pytest.mark.parametrize("name", ["nothing", "Shop.nothing", "", ".", "Shop..count"])
def test_missing_function_is_named(name: str) -> None:
    with pytest.raises(UnknownCallableError, match="has no"):
        load(__name__, name)


@pytest.mark.parametrize("statement", ["1 / 0", "import sys; sys.exit(3)", "(", "raise Exception"])
def test_module_that_fails_when_imported_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    (tmp_path / "breaks_when_imported.py").write_text(statement)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(UnknownModuleError, match="breaks_when_imported"):
        load("breaks_when_imported", "anything")


SLOW = """
from threading import Event
began, go_on = Event(), Event()
def work(): return helper()
began.set()
assert go_on.wait(30)
def helper(): return "whole"
"""


@pytest.fixture
def slow_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Thread]:
    """Import a module in another thread, which is in the middle of it during the block."""
    (tmp_path / "slow_module.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    thread = Thread(target=import_module, args=("slow_module",))
    thread.start()
    eventually(lambda: hasattr(sys.modules.get("slow_module"), "began"))
    sys.modules["slow_module"].began.wait(10)
    yield thread
    sys.modules["slow_module"].go_on.set()
    thread.join(10)
    del sys.modules["slow_module"]


def test_module_that_another_thread_is_importing_is_waited_for(slow_module: Thread) -> None:
    results: list[Any] = []
    loader = Thread(target=lambda: results.append(load("slow_module", "work")()))
    loader.start()
    loader.join(0.1)
    assert loader.is_alive()

    sys.modules["slow_module"].go_on.set()
    loader.join(10)

    assert results == ["whole"]


def test_function_of_a_module_that_is_being_imported_has_its_name(slow_module: Thread) -> None:
    func = sys.modules["slow_module"].work

    assert locate(func) == ("slow_module", "work")


def test_slow_import_that_fails_is_not_repeated_for_each_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fails_slowly.py").write_text(
        "import sys, time\n"
        "sys.imports_that_failed = getattr(sys, 'imports_that_failed', 0) + 1\n"
        "time.sleep(0.5)\n"
        "import no_such_dependency"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(3):
        with pytest.raises(UnknownModuleError, match="No module named 'no_such_dependency'"):
            load("fails_slowly", "anything")

    assert vars(sys)["imports_that_failed"] == 1
    delattr(sys, "imports_that_failed")


def test_module_may_appear_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownModuleError):
        load("appears_later", "func")
    (tmp_path / "appears_later.py").write_text("def func(): return 7")
    invalidate_caches()

    def is_there() -> bool:
        try:
            return bool(load("appears_later", "func")() == 7)
        except UnknownModuleError:
            return False

    eventually(is_there)
