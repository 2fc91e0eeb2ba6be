"""Run a task: one attempt, its lease and heartbeat, inline runs, and the lifespan around all tasks.

Its public names, by module:

- attempt: Attempt, HandedOver, LeaseEnded, TaskRunner, attempt, bury, bury_overdue, fail,
  postpone, refuse
- coroutines: Stopped, attempt_coroutine, run_coroutine
- heartbeat: Heartbeat, keep_lease
- inline: run_inline, run_leases, run_with_retries
- lease_ends: LeaseEnds, clock
- lifespan: Lifespan, check_lifespan
"""
