"""Use standard output and standard error, which may be closed, broken or None.

Python sets `sys.stdout` to None when a program is started with a closed descriptor (``>&-``). A
task may close the stream later, and the process that reads the other end may have ended.
"""

import logging
import os
import sys
from contextlib import suppress
from typing import NoReturn


def open_missing() -> None:
    """Open the null device in place of each standard stream that is missing.

    Call it before the program opens a file: that file would get the number of the missing stream,
    and would receive what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            with suppress(OSError):
                stream = open(number, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
                setattr(sys, name, stream)


def escape_unencodable() -> None:
    """Make standard output escape characters that its encoding lacks, as standard error does.

    A store may hold any text, and the encoding of a terminal may be Latin-1.
    """
    with suppress(Exception):  # None, closed, or replaced by the program
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def flush() -> None:
    """Flush both streams; do nothing where that is not possible."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # None, closed, or broken in any way
            stream.flush()


def is_terminal(stream: object) -> bool:
    """Return whether *stream* is open and a terminal."""
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except Exception:
        return False


def exit_now(status: int) -> NoReturn:
    """End this process now, without Python's clean-up; log lines and output are written first."""
    try:
        with suppress(Exception):
            logging.shutdown()
        flush()
    finally:
        os._exit(status)
