"""Write numbers, durations and moments as people read them; what is not known is a dash."""

import json
from datetime import UTC, datetime
from typing import Any

DASH = "—"

MOST_SHOWN = 20_000
"""How many characters of a traceback, or of what a task was given, are shown."""

_DURATIONS = ((86_400, "d"), (3_600, "h"), (60, "min"))
_SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def number(value: float | None) -> str:
    """Write a count.

    >>> number(1234567), number(None)
    ('1,234,567', '—')
    """
    return DASH if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Write how long something took or is ago.

    >>> duration(0.0123), duration(4.26), duration(59.9), duration(3700), duration(None)
    ('12 ms', '4.3 s', '60 s', '1.0 h', '—')
    """
    if seconds is None:
        return DASH
    seconds = max(0.0, seconds)
    for length, unit in _DURATIONS:
        if seconds >= length:
            return f"{_two_digits(seconds / length)} {unit}"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{_two_digits(seconds)} s"


def rate(per_second: float | None) -> str:
    """Write how often something happens.

    >>> rate(250.2), rate(0.05), rate(0), rate(None)
    ('250/s', '3.0/min', '0', '—')
    """
    if per_second is None:
        return DASH
    if not per_second:
        return "0"
    if per_second >= 1:
        return f"{_two_digits(per_second)}/s"
    return f"{_two_digits(per_second * 60)}/min"


def size(octets: float | None) -> str:
    """Write how much memory something takes.

    >>> size(88_000_000), size(None)
    ('84 MiB', '—')
    """
    if octets is None:
        return DASH
    for length, unit in _SIZES:
        if octets >= length:
            return f"{_two_digits(octets / length)} {unit}"
    return f"{octets:.0f} B"


def since(moment: str, now: str) -> float | None:
    """Count the seconds between two moments in ISO 8601.

    >>> since("2026-01-01T00:00:00Z", "2026-01-01T00:01:00.5Z"), since("yesterday", "today")
    (60.5, None)
    """
    try:
        return (datetime.fromisoformat(now) - datetime.fromisoformat(moment)).total_seconds()
    except (TypeError, ValueError):
        return None


def clock(moment: str) -> str:
    """Write a moment in ISO 8601 as the time of its day.

    >>> clock("2026-01-01T12:34:56.789Z")
    '12:34:56'
    """
    return datetime.fromisoformat(moment).astimezone(UTC).strftime("%H:%M:%S")


def moment(moment: str) -> str:
    """Write a moment in ISO 8601 as a day and its time.

    >>> moment("2026-01-01T12:34:56.789Z")
    '2026-01-01 12:34:56 UTC'
    """
    return datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def arguments(data: str) -> str:
    """Write what is in a payload, signed or not, as the call that it is.

    >>> arguments('{"callable": "send", "args": [7], "kwargs": {"to": "ann"}}')
    'send(7, to="ann")'
    """
    try:
        fields = _fields(data)
        given = [json.dumps(value, ensure_ascii=False) for value in fields["args"]]
        given += [
            f"{name}={json.dumps(value, ensure_ascii=False)}"
            for name, value in fields["kwargs"].items()
        ]
        return shorten(f"{fields['callable']}({', '.join(given)})")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "This is not a task."


def attempts(data: str) -> int | None:
    """Read which attempt a payload is for; None if it does not say.

    >>> attempts('{"callable": "send", "attempt": 3}'), attempts('{"callable": "send"}')
    (3, 1)
    """
    try:
        found = _fields(data).get("attempt", 1)
    except (ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, int) else None


def headers(data: str) -> str:
    """Write what travels with a task beside its call, a line for each.

    >>> headers('{"headers": {"request_id": "5f1c"}}')
    'request_id: 5f1c'
    """
    try:
        found = _fields(data).get("headers", {})
        return shorten("\n".join(f"{name}: {value}" for name, value in found.items()))
    except (ValueError, AttributeError, RecursionError):
        return ""


def _fields(data: str) -> Any:
    """Read a payload, signed or not; it may be anything."""
    return json.loads(data[data.index("{") :])


def shorten(text: str, most: int = MOST_SHOWN) -> str:
    """Leave the middle of a long *text* out: what matters is how it begins and ends.

    >>> shorten("abcdefghij", 4)
    'ab … ij'
    """
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-(most // 2) :]}"


def _two_digits(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"
