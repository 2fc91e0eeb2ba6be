"""When a schedule is due: the moments of a cron expression, or of an interval."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ..exceptions import ConfigurationError, InvalidOption, MissingExtra

NEVER: Final = 2**53
"""The next moment of a schedule that has no more, in seconds since 1970."""

EPOCH: Final = datetime(1970, 1, 1)

MAX_INTERVAL: Final = 366 * 86_400
"""The longest interval, in seconds."""


class Moments(ABC):
    """The moments of a schedule: whole seconds since 1970, the same in every process."""

    definition: str
    """The cron expression or the interval, such as ``0 3 * * *`` or ``every 30 s``."""
    zone: str | None = None
    """The time zone of the cron expression."""

    @abstractmethod
    def after(self, moment: int) -> Iterator[int]:
        """Yield the moments after *moment*, the next one first."""

    def next(self, moment: int) -> int:
        """Return the first moment after *moment*; `NEVER` if there is none."""
        return next(self.after(moment), NEVER)


class Interval(Moments):
    """The moments of an interval: the Unix times that are multiples of *seconds*."""

    def __init__(self, seconds: object) -> None:
        self.seconds: int = _whole_seconds(seconds)
        self.definition: str = f"every {self.seconds} s"

    def after(self, moment: int) -> Iterator[int]:
        while True:
            moment += self.seconds - moment % self.seconds
            yield moment


class Cron(Moments):
    """The moments of a cron expression of five fields, in the time of *timezone*.

    When daylight saving time begins or ends, it follows the rules of Debian's cron. If minute and hour
    are fixed, a moment in the skipped hour is moved to the end of that hour, and a moment in the
    repeated hour occurs once. If minute or hour begins with ``*``, moments in the skipped hour do not
    occur, and moments in the repeated hour occur twice.
    """

    def __init__(self, expression: object, timezone: object = "UTC") -> None:
        if not isinstance(expression, str) or len(expression.split()) != 5:
            raise ConfigurationError(
                "A cron expression has five fields (minute, hour, day of the month, month, day of the "
                f"week), such as '0 3 * * *', not {expression!r:.80}. For seconds use gator.every."
            )
        self.definition: str = " ".join(expression.split())
        self.zone: str | None = str(timezone)
        self._zone = _find_zone(timezone)
        self._is_flexible = any(field.startswith("*") for field in self.definition.split()[:2])
        try:
            if self.next(int(datetime.now(UTC).timestamp())) != NEVER:
                return
            reason = "it never occurs"
        except _errors() as error:
            reason = str(error)
        raise ConfigurationError(
            f"The cron expression {expression!r:.80} cannot be used: {reason}."
        )

    def after(self, moment: int) -> Iterator[int]:
        return self._flexible(moment) if self._is_flexible else self._fixed(moment)

    def _fixed(self, moment: int) -> Iterator[int]:
        start = datetime.fromtimestamp(moment, UTC).astimezone(self._zone)
        for each in _cronsim().CronSim(self.definition, start):
            # In a repeated hour, the library begins at the first of the two.
            found = int(each.timestamp())
            if found > moment:
                moment = found
                yield found

    def _flexible(self, moment: int) -> Iterator[int]:
        """Yield all moments whose local time matches.

        The library itself is not exact where the clock is changed by half an hour. So it gets local
        times without a time zone, as long as their offset from UTC stays the same.
        """
        while True:
            offset = self._offset(moment)
            for each in _cronsim().CronSim(
                self.definition, EPOCH + timedelta(seconds=moment + offset)
            ):
                found = round((each - EPOCH).total_seconds()) - offset
                if self._offset(found) != offset:
                    moment = self._find_change(moment, found)
                    yield from self._at_change(moment)
                    break
                moment = found
                yield found
            else:
                return

    def _at_change(self, moment: int) -> Iterator[int]:
        """Yield *moment*, at which the clock is changed, if its local time matches."""
        local = EPOCH + timedelta(seconds=moment + self._offset(moment))
        if next(_cronsim().CronSim(self.definition, local - timedelta(seconds=1)), None) == local:
            yield moment

    def _find_change(self, before: int, after: int) -> int:
        """Return a moment after *before*, up to *after*, at which the offset from UTC changes."""
        offset = self._offset(before)
        while after - before > 1:
            middle = (before + after) // 2
            if self._offset(middle) == offset:
                before = middle
            else:
                after = middle
        return after

    def _offset(self, moment: int) -> int:
        local = datetime.fromtimestamp(moment, UTC).astimezone(self._zone)
        return round((local.utcoffset() or timedelta()).total_seconds())


def describe_next(definition: str, zone: str | None, moment: int) -> int | None:
    """Return the next moment after *moment* of a schedule that another process has defined.

    None if this process cannot read the definition, because another version of Alligator wrote it or
    because the library for cron is missing.
    """
    try:
        if definition.startswith("every "):
            return Interval(int(definition.removeprefix("every ").removesuffix(" s"))).next(moment)
        found = Cron(definition, zone or "UTC").next(moment)
    except (ConfigurationError, InvalidOption, ValueError, OverflowError, OSError):
        return None
    return None if found == NEVER else found


def _whole_seconds(value: object) -> int:
    seconds: Any = value.total_seconds() if isinstance(value, timedelta) else value
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or seconds != seconds or not 1 <= seconds <= MAX_INTERVAL or seconds % 1:
        raise InvalidOption(
            f"The interval of a schedule is a whole number of seconds from 1 to {MAX_INTERVAL:,}, or a "
            f"timedelta, not {value!r:.80}."
        )
    return int(seconds)


def _find_zone(name: object) -> Any:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if isinstance(name, ZoneInfo) and name.key:
        return name
    if not isinstance(name, str):
        raise ConfigurationError(
            f"timezone is a name, such as 'Europe/Berlin', or a ZoneInfo of one, not {name!r:.80}."
        )
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        from zoneinfo import available_timezones

        known = available_timezones()
        if not known:
            raise ConfigurationError(
                f"timezone: {name!r:.80} is unknown, because this system has no time zones: "
                "pip install tzdata"
            ) from error
        from difflib import get_close_matches

        near = get_close_matches(name, known, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(f"timezone: there is no time zone {name!r:.80}.{hint}") from error


def _cronsim() -> Any:
    try:
        import cronsim
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "Schedules with cron expressions need: pip install 'alligator[schedules]'"
        ) from error
    return cronsim


def _errors() -> Any:
    return _cronsim().CronSimError
