"""Keep the leases of running tasks, for as long as they run."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from logging import Logger, getLogger
from threading import Event, Thread
from time import monotonic

from .backends.base import Client, Lease
from .constants import LEASE_SECONDS
from .exceptions import BackendError

log: Logger = getLogger("alligator")

PATIENCE = 5.0
"""How long the end waits for the last beat, in seconds."""


class Heartbeat:
    """A thread that extends leases four times as often as needed.

    It asks *held* which leases there are, so a task may take as long as it likes: what ends a lease
    is that this process no longer lives. A task that holds the interpreter's lock for a whole lease
    without letting a thread run will be taken for dead.

    *announce* is called as often, with True, and in the end with False: for the owner to tell the
    store that it lives.
    """

    def __init__(
        self,
        client: Client,
        held: Callable[[], Iterable[Lease]],
        lease_for: float = LEASE_SECONDS,
        announce: Callable[[bool], None] | None = None,
    ) -> None:
        self._announce = announce
        self._client = client
        self._held = held
        self._lease_for = lease_for
        self._ended = False
        self._wake = Event()
        self._thread = Thread(target=self._run, name="alligator-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the last beat, unless the store does not answer."""
        self._ended = True
        self._wake.set()
        self._thread.join(PATIENCE)

    def hurry(self) -> None:
        """Announce soon what has changed, not only with the next beat."""
        self._wake.set()

    def _run(self) -> None:
        self._say(alive=True)
        due = monotonic() + self._lease_for / 4
        while not self._ended:
            self._wake.wait(max(0.0, due - monotonic()))
            if self._ended:
                break
            self._wake.clear()
            if monotonic() >= due:
                self._extend()
                due = monotonic() + self._lease_for / 4
            self._say(alive=True)
        self._say(alive=False)

    def _extend(self) -> None:
        leases = list(self._held())
        try:
            lost = self._client.extend(leases, self._lease_for) if leases else []
        except BackendError as error:
            log.warning("%d leases cannot be extended: %s", len(leases), error)
            return
        except Exception:  # without a heart all leases would end
            log.exception("%d leases cannot be extended", len(leases))
            return
        for lease in lost:
            log.warning("the lease of %s was lost: another worker may run it too", lease.task_id)

    def _say(self, *, alive: bool) -> None:
        if self._announce is None:
            return
        try:
            self._announce(alive)
        except Exception as error:
            log.debug("this worker cannot show that it lives: %s", error)


@contextmanager
def keeping(client: Client, lease: Lease) -> Iterator[None]:
    """Keep *lease* during the block."""
    heartbeat = Heartbeat(client, lambda: [lease])
    heartbeat.start()
    try:
        yield
    finally:
        heartbeat.stop()
