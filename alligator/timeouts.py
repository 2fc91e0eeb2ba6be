"""Bound how long a function may take in its thread, as far as Python can."""

from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_ulong, py_object, pythonapi
from threading import Lock, Timer, get_ident

from .exceptions import TaskTimeout


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise `TaskTimeout` in the block once it has taken *seconds*.

    The exception comes between two steps of Python code: a call into the operating system or an
    extension is not broken off, but followed by it.
    """
    thread = c_ulong(get_ident())
    lock = Lock()
    over = False

    def strike() -> None:
        with lock:
            if not over:
                pythonapi.PyThreadState_SetAsyncExc(thread, py_object(TaskTimeout))

    timer = Timer(seconds, strike)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        # Under the lock, so that it cannot strike what comes after the block; and what it has sent
        # without its having arrived is called back.
        with lock:
            over = True
            pythonapi.PyThreadState_SetAsyncExc(thread, None)
        timer.cancel()
