"""Texts for numbers, durations, times and payloads; a value that is unknown is a dash."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ...backends.base import Limit
from ...backends.limits import EACH, MOST_KEYS
from ...payload.envelope import content_in

DASH = "—"

MAX_SHOWN = 20_000
"""How many characters of a traceback, or of a task's arguments, are shown."""

_DURATIONS = ((86_400, "d"), (3_600, "h"), (60, "min"))
_SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def number(value: float | None) -> str:
    """Return the text for a count.

    >>> number(1234567), number(None)
    ('1,234,567', '—')
    """
    return DASH if value is None else f"{value:,.0f}"


def limit(value: Mapping[str, Any]) -> str:
    """Return the text for the limit of a queue.

    >>> limit({"at_once": 3, "starts": 100, "seconds": 60.0})
    'at most 3 at once, 100 per minute'
    """
    return str(Limit(**value))


def limit_of_key(key: str, value: Mapping[str, Any]) -> str:
    """Return the text for the limit of a key.

    >>> limit_of_key("*", {"at_once": 3, "starts": None, "seconds": 1.0})
    'each key: at most 3 at once'
    """
    return f"{'each key' if key == EACH else key}: {limit(value)}"


def keys(number: int, shown: int = 0) -> str:
    """Return the text for a number of keys beside those *shown*, up to which the store counts.

    >>> keys(7), keys(1000), keys(1000, 10)
    ('7', '1,000+', '990+')
    """
    return f"{number - shown:,}{'+' if number >= MOST_KEYS else ''}"


def duration(seconds: float | None) -> str:
    """Return the text for how long something took, or how long ago it was.

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


def rate(per_second: float | None, unit: str = "s") -> str:
    """Return the text for a rate per *unit*, which is ``s`` or ``min``.

    >>> rate(250.2), rate(0.0512), rate(0.0512, "min"), rate(0.0001), rate(0), rate(None)
    ('250', '0.05', '3.1', '<0.01', '0', '—')
    """
    if per_second is None:
        return DASH
    value = per_second * 60 if unit == "min" else per_second
    if 0 < value < 0.005:
        return "<0.01"
    return _two_digits(value) if value >= 0.995 else f"{value:.2f}".rstrip("0").rstrip(".")


def at_most(seconds: float | None) -> str:
    """Return the text for a duration that is an upper bound, without digits that are not known.

    >>> at_most(30.0), at_most(0.0025), at_most(0.5), at_most(None)
    ('30 s', '2.5 ms', '500 ms', '—')
    """
    if seconds is None or seconds >= 0.01:
        return duration(seconds).replace(".0 ", " ")
    return f"{seconds * 1000:.1f}".removesuffix(".0") + " ms"


def size(octets: float | None) -> str:
    """Return the text for an amount of memory.

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
    """Return the seconds between two times in ISO 8601; None if one of them is invalid.

    >>> since("2026-01-01T00:00:00Z", "2026-01-01T00:01:00.5Z"), since("yesterday", "today")
    (60.5, None)
    """
    try:
        return (datetime.fromisoformat(now) - datetime.fromisoformat(moment)).total_seconds()
    except (TypeError, ValueError):
        return None


def clock(moment: str) -> str:
    """Return the time of day of a moment in ISO 8601, in UTC.

    >>> clock("2026-01-01T12:34:56.789Z")
    '12:34:56'
    """
    return datetime.fromisoformat(moment).astimezone(UTC).strftime("%H:%M:%S")


def date_time(moment: str) -> str:
    """Return the date and time of a moment in ISO 8601, in UTC.

    >>> date_time("2026-01-01T12:34:56.789Z")
    '2026-01-01 12:34:56 UTC'
    """
    return datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def arguments(data: str) -> str:
    """Return the call in a payload, signed or not, as Python would write it.

    >>> arguments('{"callable": "send", "args": [7], "kwargs": {"to": "ann"}}')
    'send(7, to="ann")'
    """
    content = content_in(data)
    if content is None:
        return "The payload cannot be read."
    texts = [json.dumps(value, ensure_ascii=False) for value in content.args]
    texts += [
        f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in content.kwargs.items()
    ]
    return shorten(f"{content.callable}({', '.join(texts)})")


def attempts(data: str) -> int | None:
    """Return the number of the attempt that a payload is for; None if it cannot be read.

    >>> attempts('{"callable": "send", "attempt": 3}'), attempts('{"callable": "send"}')
    (3, 1)
    """
    content = content_in(data)
    return content.attempt if content and isinstance(content.attempt, int) else None


def headers(data: str) -> str:
    """Return the headers of a payload, one per line.

    >>> headers('{"headers": {"request_id": "5f1c"}}')
    'request_id: 5f1c'
    """
    content = content_in(data)
    found = content.headers if content else {}
    return shorten("\n".join(f"{name}: {value}" for name, value in found.items()))


def shorten(text: str, limit: int = MAX_SHOWN) -> str:
    """Return *text* without its middle if it is longer than *limit*: the two ends matter most.

    >>> shorten("abcdefghij", 4)
    'ab … ij'
    """
    return text if len(text) <= limit else f"{text[: limit // 2]} … {text[-(limit // 2) :]}"


def _two_digits(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"
