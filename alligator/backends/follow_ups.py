"""Follow-ups: tasks that are queued when the other tasks of their commit are settled.

A push counts the tasks that it queues: they are a *batch*. Duplicates do not belong to it. A task of a
batch is settled when it is acked, dead, canceled or dropped for the first time: a dead task that is made
ready again counts no more, and a task that waits for its retry does not count yet. The call that
settles the last task of a batch queues the follow-ups, in the same atomic step; if the push has queued
no tasks, it queues them itself. So they are queued once, if a worker dies at any moment.

A follow-up has no unique key, and its delay is ignored. Until it is queued, it is on no queue: it is not
counted, listed or canceled. If its id waits when it is queued, it is dropped, as by any push. Its
payload begins with the numbers of its batch: see `with_numbers`. An abort of its push removes it, unless
a worker has had it.
"""

from ..payload.batch import Batch


def with_numbers(data: str, tasks: int, dead: int) -> str:
    """Return the payload of a follow-up whose batch had *tasks*, of which *dead* did not succeed."""
    return Batch(tasks, dead).before(data)
