"""Queue the ticks of schedules as they become due."""

from collections.abc import Callable, Sequence
from logging import DEBUG, ERROR, INFO, Logger, getLogger
from math import floor, inf
from threading import Event, Thread
from time import monotonic, time

from .._runtime.backoff import pause_after
from .._runtime.failures import describe
from ..backends.base import Client
from ..exceptions import BackendUnavailable
from .schedule import Schedule, format_moment

ANNOUNCE_SECONDS = 30.0
"""How often a worker announces its schedules to the store."""

LONGEST_WAIT = 5.0
"""The longest sleep of the thread: the clock may be set, or the machine suspended, meanwhile."""

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0
"""How many seconds the thread waits after a failure, at first and at most."""

AT_ONCE = 100
"""How many ticks of one schedule are caught up before it is the turn of the next one."""

LATE_SECONDS = 5.0
"""A tick that is queued more than so many seconds late is logged as caught up."""

STOP_SECONDS = 3.0
"""How long `stop` waits for a push that is in progress."""

log: Logger = getLogger("alligator")


class Ticker:
    """A thread that keeps the timetable of *schedules* in one process.

    Any number of processes may do so for one store. Each thread asks the store for the last tick of each
    schedule, and pushes the later ticks in their order, as they become due by its own clock. So a tick
    is queued once, as soon as it is due by the fastest of the clocks, and none is missing. *clock*
    returns the time as a Unix timestamp.
    """

    def __init__(
        self,
        client: Client,
        schedules: Sequence[Schedule],
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._client = client
        self._schedules = schedules
        self._clock = clock
        self._last: dict[str, int] = {}
        """The last tick of each schedule that this process knows of; the store may have a later one."""
        self._skipped: dict[str, int] = {}
        """The moment up to which the skipped ticks of a schedule were logged."""
        self._failing: set[str] = set()
        """The schedules whose ticks cannot be queued although the store can be reached."""
        self._announced_at = 0.0
        self._is_stopped = False
        self._wake = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = Thread(target=self._run, name="alligator-schedules", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; wait at most `STOP_SECONDS` for it."""
        self._is_stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def run_once(self) -> float:
        """Push all ticks that are due; return in how many seconds to call it again.

        Raises `BackendError`.
        """
        if not self._last or monotonic() >= self._announced_at + ANNOUNCE_SECONDS:
            self._announce()
        return min((self._keep(each) for each in self._schedules), default=LONGEST_WAIT)

    def _now(self) -> float:
        return time() if self._clock is None else self._clock()

    def _announce(self) -> None:
        """Announce the schedules, and learn which of their ticks other workers have queued."""
        announced = [schedule.announcement() for schedule in self._schedules]
        now = floor(self._now())
        last = self._client.announce_schedules(announced, now)
        for schedule, moment in zip(self._schedules, last, strict=True):
            name = schedule.name
            if moment is None:  # the store keeps nothing
                moment = self._last.get(name, now)
            # Even if it is lower than before: somebody may have dropped the store's data.
            self._last[name] = moment
        self._announced_at = monotonic()

    def _keep(self, schedule: Schedule) -> float:
        """Push the ticks that are due; return in how many seconds to look again."""
        name = schedule.name
        try:
            left = self._push_due(schedule)
        except BackendUnavailable:
            raise
        except Exception as error:  # of any kind: the other schedules are kept
            if name not in self._failing:
                self._failing.add(name)
                log.error("schedule %s: its tick cannot be queued yet: %s", name, describe(error))
            return LONGEST_WAIT
        self._failing.discard(name)
        return min(left, LONGEST_WAIT)

    def _push_due(self, schedule: Schedule) -> float:
        """Push the ticks that are due, up to `AT_ONCE`; return in how many seconds the next one is."""
        now = self._now()
        last = self._last[schedule.name]
        too_old = floor(now - schedule.catch_up) - 1
        if last < too_old:
            self._log_skipped(schedule, last, too_old)
            last = too_old
        for number, moment in enumerate(schedule.moments.after(last)):
            if moment > now or self._is_stopped:
                return max(0.0, moment - self._now())
            if number == AT_ONCE:
                return 0.0
            is_new = self._client.push_tick(schedule.name, moment, schedule.message(moment))
            self._last[schedule.name] = moment
            if is_new:
                self._log_queued(schedule, moment, now - moment)
        return inf

    def _log_skipped(self, schedule: Schedule, last: int, until: int) -> None:
        first = schedule.moments.next(max(last, self._skipped.get(schedule.name, 0)))
        if first <= until:
            log.warning(
                "schedule %s: no worker was there for its ticks from %s to %s; they are skipped, "
                "because its catch_up is %.0f s",
                *(schedule.name, format_moment(first), format_moment(until), schedule.catch_up),
            )
            self._skipped[schedule.name] = until

    def _log_queued(self, schedule: Schedule, moment: int, late: float) -> None:
        log.log(
            DEBUG if late < LATE_SECONDS else INFO,
            "schedule %s: queued its tick of %s, %.1f s after it was due",
            *(schedule.name, format_moment(moment), late),
        )

    def _run(self) -> None:
        failures = 0
        while not self._is_stopped:
            try:
                wait = self.run_once()
                if failures:
                    log.warning("schedules: their ticks are queued again")
                failures = 0
            except Exception as error:  # of any kind: the thread must not end
                failures += 1
                wait = pause_after(failures, FIRST_PAUSE, LONGEST_PAUSE)
                # Repeated lines about one outage are of no use.
                log.log(
                    ERROR if failures == 1 else INFO,
                    "schedules: their ticks cannot be queued now, and are caught up later: %s",
                    describe(error),
                )
            self._wake.wait(wait)
