"""Run a task: one attempt, the heartbeat of its lease, and inline runs."""
