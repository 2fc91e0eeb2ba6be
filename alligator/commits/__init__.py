"""Bring commits to the store: group commit, breaker, spool, outbox and counters.

Its public names, by module:

- breaker: Breaker
- committer: Committer, Delivers, batch_of, report_duplicates, run_follow_ups_last, to_messages
- counters: CommitCounters, Ending, Reports
- databases: check_dialect, ddl, execute, fetch, is_in_transaction, kind_of, with_parameters
- deferred: DeferredTasks, Enlists, OutgoingTask, hold
- interception: InterceptedDelivery, set_interceptor
- outbox: Content, Outbox, new_commit
- relay: Relay
- same_server: Ask, SameServer
- spool: Content, Spool

Used only in this package: trips, wakeups.
"""
