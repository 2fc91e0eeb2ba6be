"""The names and numbers that all parts of Alligator share."""

import signal
from typing import Final

# The statuses of a task (`Task.status`), for the code that pushes it and for its hooks.
WAITING: Final = 0
SUCCESS: Final = 1
FAILED: Final = 2
DELAYED: Final = 3
RETRYING: Final = 4
CANCELED: Final = 5
DEFERRED: Final = 6
DUPLICATE: Final = 7

# The states of a task in a store.
READY: Final = "ready"
SCHEDULED: Final = "scheduled"
LEASED: Final = "leased"
DEAD: Final = "dead"

# The results of a health check.
PASS: Final = "pass"
WARN: Final = "warn"
FAIL: Final = "fail"

# The delivery guarantees of a store.
AT_LEAST_ONCE: Final = "at-least-once"
AT_MOST_ONCE: Final = "at-most-once"

# nohup ignores SIGHUP, so that a program continues when its terminal is closed.
_HANGUP = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, *((signal.SIGHUP,) if _HANGUP else ()))
"""The signals that ask a process to shut down."""

EXIT_USAGE: Final = 2
"""The exit status of a command with invalid arguments."""

ALL: Final = "all"
"""The name of the default queue; for a worker, the queue of its gator."""

LEASE_SECONDS: Final = 60.0
"""The duration of a lease, unless a heartbeat extends it."""

COMMIT_SECONDS: Final = 2.0
"""The time limit of a push, including waiting in the queue, a second attempt, and its undo."""

COMMIT_MEMORY: Final = 300.0
"""The number of seconds for which a store recognises the id of a commit."""

LONG_COMMIT_MEMORY: Final = 86_400.0
"""The same for an id that begins with `LONG_COMMIT_ID`, such as that of an idempotency key."""

LONG_COMMIT_ID: Final = "day-"
"""The prefix of the commit ids that a store recognises for a day."""

LEVELS: Final = {"high": 1, "normal": 0, "low": -1}
"""The priorities of tasks, the first to run first, as options and as a `Message` has them."""

MAX_LOST: Final = 5
"""The number of lost deliveries after which a task is dead, while it is leased alone."""

DEAD_LIMIT: Final[int | None] = None
"""The limit of dead letters in a queue. None: a limit would drop tasks that were accepted."""

DEAD_SECONDS: Final = 180 * 86_400.0
"""The number of seconds for which a queue keeps a dead letter; older ones are dropped later."""

MAX_TASK_BYTES: Final = 256 * 1024
"""The maximum size of a serialized task, in UTF-8 bytes."""

MAX_SECONDS: Final = 100 * 365.25 * 86_400.0
"""The longest delay or pause: 100 years, which every store can represent."""

MAX_TIMEOUT: Final = 1_000_000.0
"""The longest timeout, lease or shutdown timeout, in seconds: about eleven days."""

MAX_NUMBER: Final = 2**31 - 1
"""The largest whole number that an option accepts."""

MAX_LIMIT: Final = 100_000
"""The largest number in the limit of a queue: stores remember so many starts."""

UNRUNNABLE_SECONDS: Final = 86_400.0
"""The number of seconds for which a task that no worker can run is released, before it is dead."""

MAX_TASKS: Final = 1_000
"""The maximum number of tasks in one transaction, and in one call of `Client.push_many`."""

MAX_COMMIT_BYTES: Final = 16 * 1024 * 1024
"""The maximum size of the tasks of one transaction, or trip: more would not reach a store in time."""

COMMITS_A_TRIP: Final = 64
"""The maximum number of commits in one round trip; during the trip, the store serves no other client."""

HEALTH_JSON: Final = "application/health+json"
"""The media type of health responses."""

MAX_WRAPPERS: Final = 10
"""How many wrappers of a function are unwrapped at most, because a wrapper may wrap itself."""
