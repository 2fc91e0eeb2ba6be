"""The tasks of a queue in memory, listed for people who look at them."""

from collections.abc import Iterable, Mapping
from heapq import nsmallest
from operator import attrgetter

from ..base import KeyStats, Peeked, Scheduled
from .entry import Entry
from .limits import KeyLimits


def scheduled(name: str, entries: Mapping[int, Entry], limit: int, now: float) -> list[Scheduled]:
    """Return the scheduled ones of *entries*, by their numbers, the next first."""
    waiting = (
        (*entry.position, entry.number)
        for entry in entries.values()
        if not entry.leased and entry.due > now
    )
    return [
        Scheduled(name, entry.task_id, entry.data, due - now)
        for due, _, number in nsmallest(limit, waiting)
        for entry in [entries[number]]
    ]


def peek(name: str, entries: Iterable[Entry], dead: Iterable[Entry], now: float) -> list[Peeked]:
    """Return the tasks that are not leased."""
    found = [(entry, "dead") for entry in dead]
    waiting = (entry for entry in entries if not entry.leased)
    found += [(entry, "scheduled" if entry.due > now else "ready") for entry in waiting]
    return [Peeked(name, entry.task_id, entry.data, state) for entry, state in found]


def last_leased(entries: Mapping[int, Entry], leased: Iterable[int], task_id: str) -> Entry | None:
    """Return the newest of the *leased* ones of *entries* with that id; None if there is none."""
    alike = (entry for number in leased if (entry := entries[number]).task_id == task_id)
    return max(alike, key=attrgetter("number"), default=None)


def key_stats(entries: Iterable[Entry], limits: KeyLimits, now: float) -> KeyStats:
    """Return the stats of the keys of *entries*."""
    waiting = {
        entry.limit_key
        for entry in entries
        if entry.limit_key is not None and not entry.leased and entry.due <= now
    }
    limited = [key for key in waiting if limits.until(key, now) > now]
    return KeyStats.of(len(waiting), limited, limits.listed())
