"""Run a task: one attempt, its lease and heartbeat, inline runs, and the lifespan around all tasks."""
