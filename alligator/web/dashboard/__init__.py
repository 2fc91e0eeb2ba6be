"""The page at /alligator/ that shows the queues, and retries or drops failed tasks."""

from .actions import Actions as Actions
from .page import Dashboard as Dashboard
