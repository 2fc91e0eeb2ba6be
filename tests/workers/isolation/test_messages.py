"""What an isolated task writes to the channel of its worker harms no other task."""

import gc
import json
import os
import socket
import struct
import sys
import time
from pathlib import Path
from types import FrameType

import pytest

from alligator import Gator
from alligator.workers.isolation import child
from tests.harness.isolation import burst
from tests.harness.programs import eventually, lines
from tests.harness.sample_tasks import fail, record

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc"),
]


def channel_of_worker() -> int:
    """Return the descriptor of the line to the worker, which the function that serves it knows."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not child._serve_all.__code__:
        frame = frame.f_back
    assert frame is not None
    channel: socket.socket = frame.f_locals["channel"]
    return channel.fileno()


def write_to_worker(message: str) -> None:
    """Write text to the line to the worker."""
    os.write(channel_of_worker(), message.encode("latin-1"))
    time.sleep(0.05)


def answer_in_part() -> None:
    """Send an answer with the right nonce, and nothing in it."""
    requests = [
        found
        for found in gc.get_objects()
        if isinstance(found, dict) and {"nonce", "lease"} <= found.keys()
    ]
    answer = json.dumps({"nonce": requests[0]["nonce"]}).encode()
    os.write(channel_of_worker(), struct.pack("!I", len(answer)) + answer)
    time.sleep(0.05)


@pytest.mark.parametrize(
    "message",
    ["\0\0\0\5hello", "\0\0\0\4true", "\xff\xff\xff\xff", "\0\0\0\1\xff", "\0\1\0\0" + 65536 * "["],
    ids=["no JSON", "no object", "too long", "no text", "too deep"],
)
def test_message_that_is_invalid_is_a_lost_delivery(gator: Gator, out: Path, message: str) -> None:
    bad = gator.task(write_to_worker, message)
    for number in range(3):
        gator.task(record, str(out), str(number))

    def is_over() -> bool:
        burst(gator, lease_for=0.4, max_lost=2)
        return gator.stats().dead == 1

    eventually(is_over)
    assert sorted(lines(out)) == ["0", "1", "2"]
    [letter] = gator.dead_letters()
    assert letter.task_id == bad.task_id
    assert "lost 2 times" in letter.reason


def test_message_without_an_outcome_is_a_lost_delivery(gator: Gator, out: Path) -> None:
    gator.task(answer_in_part)
    gator.task(record, str(out), "next")

    def is_over() -> bool:
        burst(gator, lease_for=0.4, max_lost=1)
        return gator.stats().dead == 1

    eventually(is_over)
    assert lines(out) == ["next"]


def test_message_with_another_nonce_is_ignored(gator: Gator) -> None:
    answer = json.dumps({"nonce": "0" * 16, "outcome": ["ack"]})
    gator.task(write_to_worker, f"\0\0\0{chr(len(answer))}{answer}" * 3)
    gator.task(fail)

    burst(gator)

    assert (gator.stats().succeeded, gator.stats().dead) == (1, 1)
