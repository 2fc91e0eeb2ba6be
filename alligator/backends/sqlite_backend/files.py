"""The database file on its disk: creation, identity, size, and file systems that are not safe."""

import os
from contextlib import suppress
from typing import Final

from . import forks

NETWORK: Final = {"9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "nfs", "nfs4", "smb3"}
"""File systems whose locks between machines are not reliable."""

MEMORY: Final = {"ramfs", "tmpfs"}


def create_file(path: str) -> None:
    """Create an empty file that only its owner can read, unless the file exists."""
    # One thread at a time, because closing a file releases every lock that this process has on it.
    with forks.state.create_lock, suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def inode_of(path: str) -> int:
    """Return the inode of a file, or -1 if it does not exist."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return -1


def size_of(path: str) -> int:
    """Return the bytes of a file, or 0 if it does not exist."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def location_warnings(path: str) -> list[str]:
    """Return warnings about a file system that can lose or damage the file."""
    kind = _file_system(path)
    if kind in NETWORK:
        return [
            f"{path} is on a network file system ({kind}): two machines that share it can damage "
            "it. Keep it on a local disk."
        ]
    if kind in MEMORY:
        return [
            f"{path} is in memory ({kind}): a restart of the machine empties the queue. Keep it on "
            "a disk."
        ]
    return []


def _file_system(path: str) -> str:
    """Return the type of the file system of *path*; empty where the system does not show it."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
            mounts = [line.split(" ")[1:3] for line in file]
    except OSError:
        return ""
    here = [(len(at), kind) for at, kind in mounts if f"{path}/".startswith(f"{at.rstrip('/')}/")]
    return max(here, default=(0, ""), key=lambda mount: mount[0])[1]
