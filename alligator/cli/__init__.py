"""The command line: run a worker, look at the queues, deal with the dead.

Exit statuses: 0 all went well; 1 a task was not finished in time, the store fails, or what was named
is not there; 2 the command cannot work as it was given.
"""

from .dead import dead_commands as dead_commands
from .errors import plainly as plainly
from .latergator import main as main
from .show import show_health as show_health
from .show import show_stats as show_stats
from .worker import run_worker as run_worker
from .worker import worker_options as worker_options
