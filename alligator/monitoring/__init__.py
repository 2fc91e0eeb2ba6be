"""Health, stats and metrics of the stores, for operators and probes.

Its public names, by module:

- health: Health, Verdict
- metrics: Metrics
- stats: format_utc, measure
- stores: Store, find_stores

Used only in this package: commit_checks, custom_probe, entries, probe, queue_checks,
schedule_checks, schedule_states, store_probe, worker_checks.
"""
