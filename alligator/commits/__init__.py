"""Bring commits to the store: group commit, breaker, spool and counters."""
