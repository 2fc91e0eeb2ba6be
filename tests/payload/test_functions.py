"""The function of a task: the name any process can import it by, and the arguments that it takes."""

import functools
import os.path
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, update_wrapper, wraps
from importlib import import_module, invalidate_caches
from pathlib import Path
from threading import Thread
from typing import Any, ParamSpec, TypeVar
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alligator import Gator, Task
from alligator.exceptions import (
    InvalidOption,
    NotImportable,
    UnknownCallableError,
    UnknownModuleError,
    WrongArguments,
)
from alligator.payload.functions import callee_of, load, locate
from alligator.testing import capture, sync
from tests.harness.programs import eventually
from tests.harness.sample_tasks import add

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


# The arguments of a call.


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


def greet(name: str, greeting: str = "hello", *, times: int, loud: bool = False) -> None: ...


def take_names(func: int, self: int, task: int, queue_name: int, options: int) -> tuple[int, ...]:
    return func, self, task, queue_name, options


class Market:
    def __init__(self, name: str) -> None: ...

    @classmethod
    def open_all(cls, hour: int) -> None: ...

    @staticmethod
    def close(hour: int) -> None: ...


def injects(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func("injected", *args, **kwargs)

    return wrapper


@injects
def needs_two(session: str, number: int) -> None: ...


# Whether arguments fit.


@pytest.mark.parametrize(
    ("func", "args", "kwargs", "why"),
    [
        (add, [], {}, "missing a required argument: 'a'"),
        (add, [1], {}, "missing a required argument: 'b'"),
        (add, [1, 2, 3], {}, "too many positional arguments"),
        (add, [1], {"c": 2}, "missing a required argument: 'b'"),
        (add, [1, 2], {"c": 2}, "unexpected keyword argument 'c'"),
        (add, [1, 2], {"a": 2}, "multiple values for argument 'a'"),
        (greet, ["x"], {}, "missing a required argument: 'times'"),
        (greet, [], {"times": 2}, "missing a required argument: 'name'"),
        (Market, [], {}, "missing a required argument: 'name'"),
        (Market.open_all, [], {}, "missing a required argument: 'hour'"),
        (Market.close, [1, 2], {}, "too many positional arguments"),
    ],
)
def test_arguments_that_do_not_fit_are_an_error_at_the_call(
    gator: Gator, func: Any, args: list[Any], kwargs: dict[str, Any], why: str
) -> None:
    with pytest.raises(WrongArguments, match=why):
        gator.task(func, *args, **kwargs)
    with pytest.raises(WrongArguments, match=why):
        gator.push(Task(), func, *args, **kwargs)
    with capture(), pytest.raises(WrongArguments, match=why):
        gator.options(retries=1).task(func, *args, **kwargs)
    with sync(), pytest.raises(WrongArguments, match=why):
        gator.task(func, *args, **kwargs)
    assert gator.len() == 0


def test_error_names_the_function_and_its_parameters(gator: Gator) -> None:
    with pytest.raises(
        WrongArguments, match=r"tests\.harness\.sample_tasks\.add\(a, b\) cannot be called"
    ):
        gator.task(add)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("func", "args", "kwargs"),
    [
        (add, [1], {"b": 2}),
        (greet, ["x"], {"times": 2}),
        (greet, [], {"name": "x", "times": 2, "loud": True}),
        (Market, ["x"], {}),
        (Market.open_all, [7], {}),
        (needs_two, [7], {}),
        (print, ["x", "y"], {"sep": ""}),
        (dict, [], {"a": 1}),
        (int, ["7"], {"base": 8}),
        (take_names, [], {"func": 1, "self": 2, "task": 3, "queue_name": 4, "options": 5}),
    ],
)
def test_arguments_that_fit_are_taken(
    gator: Gator, func: Any, args: list[Any], kwargs: dict[str, Any]
) -> None:
    gator.task(func, *args, **kwargs)
    gator.push(Task(), func, *args, **kwargs)
    gator.options(retries=1).task(func, *args, **kwargs)

    assert gator.len() == 3


parameters = st.lists(st.sampled_from("abcde"), unique=True, max_size=5)


@given(
    parameters,
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)),
    st.booleans(),
    st.booleans(),
    st.integers(0, 6),
    st.sets(st.sampled_from("abcdef")),
    st.booleans(),
)
def test_check_of_a_call_agrees_with_python(
    names: list[str],
    cuts: tuple[int, int, int],
    has_args: bool,
    has_kwargs: bool,
    positional: int,
    by_name: set[str],
    as_method: bool,
) -> None:
    func = make(names, cuts, has_args, has_kwargs, as_method)
    args, kwargs = range(positional), dict.fromkeys(by_name, 0)
    try:
        func(*args, **kwargs)
    except TypeError:
        with pytest.raises(WrongArguments):
            callee_of(func).check(args, kwargs)
    else:
        callee_of(func).check(args, kwargs)


def make(
    names: Sequence[str],
    cuts: tuple[int, int, int],
    has_args: bool,
    has_kwargs: bool,
    as_method: bool,
) -> Callable[..., Any]:
    """Define a function: *cuts* say where its kinds of parameters and its defaults begin."""
    only_positional, keyword_only, defaults = cuts
    keyword_only = max(keyword_only, only_positional)
    parts = [name if i < defaults else f"{name}=0" for i, name in enumerate(names)]
    listed = parts[:only_positional]
    if listed:
        listed.append("/")
    listed += parts[only_positional:keyword_only]
    by_name = parts[keyword_only:]
    if has_args:
        listed.append("*args")
    elif by_name:
        listed.append("*")
    listed += by_name
    if has_kwargs:
        listed.append("**kwargs")
    scope: dict[str, Any] = {}
    if as_method:
        exec(f"class C:\n @classmethod\n def f(cls, {', '.join(listed)}): pass", scope)
        bound: Callable[..., Any] = scope["C"].f
        return bound
    exec(f"def f({', '.join(listed)}): pass", scope)
    func: Callable[..., Any] = scope["f"]
    return func


# Functions that would not run.


def rows() -> Iterator[int]:
    yield 1


async def later_rows() -> AsyncIterator[int]:
    yield 1


class Rows:
    def __call__(self) -> Iterator[int]:
        yield 1

    @classmethod
    def all(cls) -> Iterator[int]:
        yield 1


@contextmanager
def opened() -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    "func",
    [rows, later_rows, Rows(), Rows.all, Rows().all, functools.partial(rows)],
    ids=["generator", "async generator", "object", "class method", "method", "partial"],
)
def test_generator_function_is_refused_at_the_call(gator: Gator, func: Any) -> None:
    with pytest.raises(InvalidOption, match="is a generator function"):
        gator.task(func)
    with sync(), pytest.raises(InvalidOption, match="is a generator function"):
        gator.task(func)


def test_generator_function_is_refused_as_a_hook(gator: Gator) -> None:
    hook: Any = rows

    with pytest.raises(InvalidOption, match="on_start is a generator function"):
        gator.options(on_start=hook)


# Task objects of other libraries, and wrappers.


class Wrapped:
    """What decorators of other libraries put in the place of a function."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func


@Wrapped
def double(number: int) -> int:
    return 2 * number


def triple(number: int) -> int:
    return 3 * number


class Slotted:
    """The same without a dict, as a dataclass with slots has it."""

    __slots__ = ("func",)

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func


slotted = Slotted(triple)


wrapped_triple = Wrapped(triple)


@functools.wraps(triple)
def other_triple(number: int) -> int:
    return -1


@pytest.mark.parametrize(("func", "expected"), [(double, 4), (wrapped_triple, 6), (slotted, 6)])
def test_task_object_of_another_library_is_replaced_by_its_function(
    gator: Gator, func: Any, expected: int
) -> None:
    gator.task(func, 2)

    task = gator.pop()

    assert task is not None
    assert task.result == expected
    with capture() as tasks:
        gator.task(func, 2)
    tasks.assert_pushed(func, args=[2])
    with sync():
        assert gator.task(func, 2).result == expected
    with pytest.raises(WrongArguments):
        gator.task(func)


def test_mock_is_not_unwrapped(gator: Gator) -> None:
    func = Mock(return_value=7)

    with sync():
        task = gator.task(func, 1, a=2)

    func.assert_called_once_with(1, a=2)
    assert task.result == 7


def test_partial_is_not_unwrapped(gator: Gator) -> None:
    with pytest.raises(NotImportable, match="Wrap the call in a function"):
        gator.task(functools.partial(triple, 2))


def test_wrapper_with_the_name_of_its_original_is_kept(gator: Gator) -> None:
    with pytest.raises(NotImportable, match="Pass the function that the module holds"):
        gator.task(other_triple, 2)


def test_object_that_wraps_itself_causes_no_endless_loop(gator: Gator) -> None:
    circle = Wrapped(triple)
    circle.func = circle  # type: ignore[assignment]

    with pytest.raises(InvalidOption, match="A task calls a function"):
        gator.task(circle)  # type: ignore[arg-type]


# Dicts.


def take(prices: Mapping[Any, Any], more: Any = None) -> None: ...


@pytest.mark.parametrize(
    "value",
    [
        {1: 2},
        {1.5: 2},
        {True: 2},
        {None: 2},
        {-3: 2},
        {10**30: 2},
        {"a": [{"b": ({2: 3},)}]},
        {1: "x", "1": "y"},
    ],
    ids=str,
)
def test_keys_that_json_would_change_are_refused(gator: Gator, value: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: gator.task(take, value),
        lambda: gator.task(take, {}, more=value),
        lambda: gator.options(is_async=False).task(take, value),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"'(prices|more)' of .*take has the dict key"):
            call()
    assert gator.len() == 0


@pytest.mark.parametrize(
    "value",
    [{}, {"1": 2}, {"null": 1, "true": {"-3": [{"1e5": 0}]}}, ['{"1":'], {'{"1": 2}': '{"1":2}'}],
    ids=str,
)
def test_keys_that_are_strings_arrive(gator: Gator, value: Any) -> None:
    gator.task(take, value)

    task = gator.pop()

    assert task is not None
    assert task.func_args == (value,)
