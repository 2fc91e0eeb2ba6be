"""Bring commits to the store: group commit, breaker, spool, outbox and counters."""
