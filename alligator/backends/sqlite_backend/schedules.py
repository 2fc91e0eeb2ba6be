"""The schedules in the file, and the last tick of each: the calls of one transaction."""

from collections.abc import Callable, Sequence
from sqlite3 import Cursor

from ..base import Announcement, ScheduleRecord
from ..schedules import UNANNOUNCED_SECONDS
from ..stats import read_text
from .clock import SECOND, micros

Execute = Callable[..., Cursor]

# No RETURNING, and no UPSERT that depends on the old row: see the schema.
ADD = (
    "INSERT OR IGNORE INTO schedule (name, about, last, ran, seen, gone) VALUES (?, ?, ?, 0, ?, ?)"
)

ANNOUNCE = "UPDATE schedule SET about = ?, seen = ?, gone = ? WHERE name = ?"

LAST = "SELECT last FROM schedule WHERE name = ?"

QUEUED_BEFORE = "SELECT 1 FROM schedule WHERE name = ? AND last >= ? AND gone > ?"

TICK = "UPDATE schedule SET last = :moment, ran = :moment WHERE name = :name AND last < :moment"

FORGET_OLD = "DELETE FROM schedule WHERE gone <= ?"

FORGET = "DELETE FROM schedule WHERE name = ?"

RECORDS = "SELECT name, about, last, ran, seen FROM schedule WHERE gone > ? ORDER BY name"


def announce(
    execute: Execute, schedules: Sequence[Announcement], moment: int, now: int
) -> list[int]:
    """Record *schedules*, and return the last tick of each: *moment* for a new one."""
    execute(FORGET_OLD, (now,))
    last = []
    for name, about, ttl in schedules:
        times = now, now + micros(ttl)
        execute(ADD, (name, about, moment, *times))
        execute(ANNOUNCE, (about, *times, name))
        last.append(int(execute(LAST, (name,)).fetchone()[0]))
    return last


def was_queued(execute: Execute, name: str, moment: int, now: int) -> bool:
    """Return whether that tick was queued before. If so, as for most workers, no lock is needed."""
    return execute(QUEUED_BEFORE, (name, moment, now)).fetchone() is not None


def tick(execute: Execute, name: str, moment: int, now: int) -> bool:
    """Record a tick; return False if it is not later than the last one."""
    execute(FORGET_OLD, (now,))
    execute(ADD, (name, "", 0, now, now + micros(UNANNOUNCED_SECONDS)))
    return execute(TICK, {"name": name, "moment": moment}).rowcount == 1


def records(execute: Execute, now: int) -> list[ScheduleRecord]:
    """Return the schedules, by name."""
    return [
        ScheduleRecord(read_text(name), read_text(about), last, ran, max(0, now - seen) / SECOND)
        for name, about, last, ran, seen in execute(RECORDS, (now,)).fetchall()
        if all(isinstance(number, int) for number in (last, ran, seen))
    ]


def forget(execute: Execute, name: str, now: int) -> bool:
    """Forget a schedule; return whether there was one."""
    execute(FORGET_OLD, (now,))
    return execute(FORGET, (name,)).rowcount == 1
