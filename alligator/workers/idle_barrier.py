"""Decide when the threads of a burst have nothing left to do."""

from threading import Condition


class IdleBarrier:
    """Ends a burst when all of its threads are idle at the same moment.

    A thread that waits here has no task and no request to the store in progress. To look at the
    other threads would not be enough: one of them may have been given a task whose reply is on its
    way, and that task may start others.
    """

    def __init__(self, threads: int) -> None:
        self._condition = Condition()
        self._threads = threads
        self._waiting = 0
        self._is_over = False

    def enter(self) -> None:
        """Count one more thread, which is about to start."""
        with self._condition:
            self._threads += 1

    def wait(self, seconds: float) -> bool:
        """Return True as soon as all threads wait here; False if that has not happened in time."""
        with self._condition:
            self._waiting += 1
            self._check()
            self._condition.wait_for(lambda: self._is_over, seconds)
            self._waiting -= 1
            return self._is_over

    def leave(self) -> None:
        """Stop counting a thread, which has ended."""
        with self._condition:
            self._threads -= 1
            self._check()

    def _check(self) -> None:
        if self._waiting >= self._threads:
            self._is_over = True
            self._condition.notify_all()
