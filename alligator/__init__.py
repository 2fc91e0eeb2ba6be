"""Background tasks that are queued exactly when the request that starts them succeeds."""

from .backends.base import Client as Client
from .backends.base import Lease as Lease
from .constants import ALL as ALL
from .constants import CANCELED as CANCELED
from .constants import DEAD as DEAD
from .constants import DEFERRED as DEFERRED
from .constants import DELAYED as DELAYED
from .constants import DUPLICATE as DUPLICATE
from .constants import FAILED as FAILED
from .constants import LEASED as LEASED
from .constants import READY as READY
from .constants import RETRYING as RETRYING
from .constants import SCHEDULED as SCHEDULED
from .constants import SUCCESS as SUCCESS
from .constants import WAITING as WAITING
from .exceptions import AlligatorException as AlligatorException
from .gator import Gator as Gator
from .options import Options as Options
from .payload.batch import Batch as Batch
from .tasks import Task as Task
from .tasks import current_task as current_task
from .tasks.decisions import GiveUp as GiveUp
from .tasks.decisions import Snooze as Snooze
from .transaction import Transaction as Transaction
from .transaction import veto_errors as veto_errors
from .workers import Worker as Worker

__version__ = "2.0.0.dev0"


def version() -> str:
    """Return the version, as Alligator 1.0 did."""
    return __version__
