"""The page at /alligator/ on which people see their queues, and put right what failed."""

from .actions import Actions as Actions
from .page import Dashboard as Dashboard
