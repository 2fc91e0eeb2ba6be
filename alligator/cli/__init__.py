"""The command line: run a worker, show stats and health, retry or drop dead tasks.

Exit statuses: 0 success; 1 a task was not finished in time, the store fails, or something that was
named does not exist; 2 the command line or the configuration is wrong.
"""

from .dead import dead_commands as dead_commands
from .errors import report_errors as report_errors
from .latergator import main as main
from .program import PROGRAM_HELP as PROGRAM_HELP
from .program import program_commands as program_commands
from .program import store_commands as store_commands
from .program import worker_command as worker_command
from .show import show_health as show_health
from .show import show_stats as show_stats
from .suggest import CommandGroup as CommandGroup
from .worker import run_worker as run_worker
from .worker import worker_options as worker_options
