"""Messages between a worker and the processes of its isolated tasks: JSON objects with a length."""

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

from ...exceptions import TaskTooLarge

MAX_MESSAGE = 64 * 1024 * 1024
"""Maximum length of a message, in bytes."""

_LENGTH = struct.Struct("!I")
"""The length that precedes each message."""

Message = dict[str, Any]


def pack(message: Message) -> bytes:
    """Return *message* as bytes; raise `TaskTooLarge` if it is longer than `MAX_MESSAGE`."""
    data = json.dumps(message).encode()
    if len(data) > MAX_MESSAGE:
        raise TaskTooLarge(
            f"the task and its result take {len(data):,} bytes as a message; --isolate allows "
            f"{MAX_MESSAGE:,}"
        )
    return _LENGTH.pack(len(data)) + data


def send(channel: socket.socket, message: Message) -> None:
    """Send a message; raise `TaskTooLarge` if it is longer than `MAX_MESSAGE`."""
    channel.sendall(pack(message))


def receive(channel: socket.socket) -> Message | None:
    """Wait for a message; return None if the other side has closed the channel."""
    head = _read_exactly(channel, _LENGTH.size)
    length = _LENGTH.unpack(head)[0] if head else 0
    if length > MAX_MESSAGE:
        raise ValueError(f"a message of {length} bytes")
    data = head and _read_exactly(channel, length)
    return json.loads(data) if data else None


def _read_exactly(channel: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = channel.recv(min(size - len(data), 1 << 20))
        if not part:
            return b""
        data += part
    return bytes(data)


class MessageBuffer:
    """Received bytes, which are split into messages when these are complete."""

    def __init__(self) -> None:
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        """Append received bytes."""
        self._data += data

    def messages(self) -> Iterator[Message]:
        """Remove and yield the complete messages; raise `ValueError` if one is not a JSON object."""
        while len(self._data) >= _LENGTH.size:
            length = _LENGTH.unpack_from(self._data)[0]
            if length > MAX_MESSAGE:
                raise ValueError(f"a message of {length} bytes")
            end = _LENGTH.size + length
            if len(self._data) < end:
                break
            message = json.loads(self._data[_LENGTH.size : end])
            if not isinstance(message, dict):
                raise ValueError("a message is a JSON object")
            del self._data[:end]
            yield message
