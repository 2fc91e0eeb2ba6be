"""Tasks that Alligator 1.0 has left in the store of a worker."""

from collections.abc import Iterable
from logging import Logger

from .._runtime.failures import describe
from ..gator import Gator
from ..telemetry.logs import escape


def warn_of_old_tasks(log: Logger, gator: Gator, queue_names: Iterable[str]) -> None:
    """Log the tasks that Alligator 1.0 has left in the store: this version does not run them."""
    try:
        for name in queue_names:
            if number := gator.client.old_tasks(name):
                log.warning(
                    "%d tasks of Alligator 1.0 are left in queue %s of %s; this version does not "
                    "run them. Run them with 1.0, or move them: see 'Upgrade from Alligator 1.0' in "
                    "the docs",
                    number,
                    escape(name),
                    gator.store,
                )
    except Exception as error:  # the store cannot be reached, or an ACL forbids the command
        log.debug("could not look for tasks of Alligator 1.0: %s", describe(error))
