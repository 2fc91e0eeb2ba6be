"""Extend the leases of running tasks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from logging import Logger, getLogger
from threading import Event, Thread
from time import monotonic

from ..backends.base import Client, Lease
from ..constants import LEASE_SECONDS
from ..exceptions import BackendError
from .lease_ends import LeaseEnds, clock

log: Logger = getLogger("alligator")

CHECK_SECONDS = 2.0
"""How often a worker with tasks asks its store at least whether they were canceled."""

STOP_SECONDS = 5.0
"""How long `Heartbeat.stop` waits for the last announcement."""


class Heartbeat:
    """A thread that extends leases four times per *lease_for* seconds.

    It calls *leases* for the leases to extend, so a task may run as long as it likes: its lease
    expires only if this process has died or is frozen. A task that holds Python's global lock for a
    whole lease blocks this thread, and counts as lost.

    *announce* is called as often with True, and at the end with False, so that the owner can report to
    the store that it is alive. *lease_ends* records the extensions. *end* is called with the leases
    whose tasks were canceled, every `CHECK_SECONDS` as long as *leases* returns them.
    """

    def __init__(
        self,
        client: Client,
        leases: Callable[[], Iterable[Lease]],
        lease_for: float = LEASE_SECONDS,
        announce: Callable[[bool], None] | None = None,
        lease_ends: LeaseEnds | None = None,
        end: Callable[[Sequence[Lease]], None] | None = None,
    ) -> None:
        self._announce = announce
        self._end = end
        self._lease_ends = lease_ends or LeaseEnds(lease_for)
        self._client = client
        self._leases = leases
        self._lease_for = lease_for
        self._ended = False
        self._wake = Event()
        self._thread = Thread(target=self._run, name="alligator-heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; wait at most `STOP_SECONDS` for the last announcement."""
        self._ended = True
        self._wake.set()
        self._thread.join(STOP_SECONDS)

    def announce_soon(self) -> None:
        """Announce a change now, not only with the next heartbeat."""
        self._wake.set()

    def _run(self) -> None:
        self._try_to_announce(alive=True)
        due = monotonic() + self._lease_for / 4
        while not self._ended:
            announces = self._wake.wait(max(0.0, min(CHECK_SECONDS, due - monotonic())))
            if self._ended:
                break
            self._wake.clear()
            if self._end is not None:
                self._find_canceled(list(self._leases()))
            if monotonic() >= due:
                self._extend()
                due = monotonic() + self._lease_for / 4
                announces = True
            if announces:
                self._try_to_announce(alive=True)
        self._try_to_announce(alive=False)

    def _extend(self) -> None:
        leases = list(self._leases())
        asked = clock()
        try:
            lost = self._client.extend(leases, self._lease_for) if leases else []
        except BackendError as error:
            log.warning("could not extend %d leases; trying again: %s", len(leases), error)
            return
        except Exception:  # this thread must keep running, or all leases expire
            log.exception("could not extend %d leases; trying again", len(leases))
            return
        self._lease_ends.note_extension(leases, lost, asked)
        canceled = self._find_canceled(lost)
        for lease in lost:
            if lease in canceled:
                continue
            log.warning(
                "the lease of task %s expired before it was done; another worker may run it, too",
                lease.task_id,
            )

    def _find_canceled(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        """End the runs of those of *leases* that were canceled; return these leases."""
        try:
            canceled = self._client.canceled(leases) if leases else ()
            if canceled and self._end is not None:
                self._end(canceled)
        except Exception as error:
            log.debug("could not find out which tasks were canceled; trying again: %s", error)
            return ()
        return canceled

    def _try_to_announce(self, *, alive: bool) -> None:
        if self._announce is None:
            return
        try:
            self._announce(alive)
        except Exception as error:
            log.debug("could not report to the store that this worker is alive: %s", error)


@contextmanager
def keep_lease(client: Client, lease: Lease) -> Iterator[None]:
    """Extend *lease* during the block."""
    heartbeat = Heartbeat(client, lambda: [lease])
    heartbeat.start()
    try:
        yield
    finally:
        heartbeat.stop()
