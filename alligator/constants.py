"""The words and numbers that all of Alligator shares."""

import signal
from typing import Final

# Statuses of a task, as its maker and its hooks see them (`Task.status`).
WAITING: Final = 0
SUCCESS: Final = 1
FAILED: Final = 2
DELAYED: Final = 3
RETRYING: Final = 4
CANCELED: Final = 5
DEFERRED: Final = 6

# States of a task in a store, the same four words in code, CLI, endpoint and docs.
READY: Final = "ready"
SCHEDULED: Final = "scheduled"
LEASED: Final = "leased"
DEAD: Final = "dead"

# What health can say.
PASS: Final = "pass"
WARN: Final = "warn"
FAIL: Final = "fail"

# How often a store hands out a task that was accepted.
AT_LEAST_ONCE: Final = "at-least-once"
AT_MOST_ONCE: Final = "at-most-once"

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
"""What asks a process to end."""

EXIT_USAGE: Final = 2
"""The exit status of a command that cannot work as it was given."""

ALL: Final = "all"
"""The default queue; for a worker, the queue of its gator."""

LEASE_SECONDS: Final = 60.0
"""How long a reserved task is hidden from others, unless a heartbeat extends it."""

COMMIT_MEMORY: Final = 300.0
"""For how many seconds a store knows a commit again by its id."""

MAX_LOST: Final = 5
"""How many workers a task may take down before it is dead."""

DEAD_LIMIT: Final = 10_000
"""How many dead a queue keeps; when one more dies, the oldest is dropped."""

DEAD_SECONDS: Final = 180 * 86_400.0
"""For how long a queue keeps the dead, at least until the next one dies."""

MAX_TASK_BYTES: Final = 256 * 1024
"""How long a serialised task may be, in UTF-8 bytes."""

MAX_TASKS: Final = 1_000
"""How many tasks one transaction takes, and one call of `Client.push_many`."""

COMMITS_A_TRIP: Final = 64
"""How many commits leave together at most; the store serves nobody else meanwhile."""
