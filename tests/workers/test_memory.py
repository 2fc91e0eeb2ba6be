"""The memory that a worker reports."""

import sys

import pytest

from alligator.workers.announcements import memory_used


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows it")
def test_memory_grows_with_what_is_allocated() -> None:
    before = memory_used()
    held = bytearray(64 * 1024 * 1024)
    held[::4096] = b"x" * len(held[::4096])  # a page counts once it is written to
    after = memory_used()

    assert before is not None
    assert after is not None
    assert after - before > 32 * 1024 * 1024
