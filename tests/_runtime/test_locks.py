"""A lock is created at its first use, once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from alligator._runtime.locks import LazyDict


def test_value_is_created_at_its_first_use_and_kept() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(len(made))
        return made[-1]

    values = LazyDict[str, int](make)

    assert made == []
    assert (values["a"], values["a"], values["b"]) == (0, 0, 1)
    assert made == [0, 1]


def test_threads_that_look_up_a_key_at_once_get_one_value() -> None:
    both = threading.Barrier(2)

    def make() -> object:
        both.wait(20)
        return object()

    values = LazyDict[str, object](make)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(values.__getitem__, ["a", "a"])

    assert first is second


def test_lock_created_after_a_patch_of_threading_is_patched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from alligator.backends.locmem_backend import Client
    from alligator.commits.committer import Committer

    committer = Committer(Client("locmem://"))
    made: list[object] = []
    plain = threading.Lock

    def patched() -> object:
        made.append(plain())
        return made[-1]

    monkeypatch.setattr(threading, "Lock", patched)

    assert committer._threads["threads"]._trip_lock in made
