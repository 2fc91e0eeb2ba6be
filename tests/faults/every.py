"""Every fault: importing this fills the catalogue."""

from tests.faults import of_workers as of_workers  # isort: skip
from tests.faults import of_web as of_web  # isort: skip
from tests.faults import of_redis as of_redis  # isort: skip
from tests.faults import of_topologies as of_topologies  # isort: skip
from tests.faults import of_sqlite as of_sqlite  # isort: skip
from tests.faults import of_sqs as of_sqs  # isort: skip
from tests.faults import of_bytes as of_bytes  # isort: skip
from tests.faults import of_network as of_network  # isort: skip
from tests.faults import of_tasks as of_tasks  # isort: skip
from tests.faults import of_clocks as of_clocks  # isort: skip
from tests.faults import soak as soak  # isort: skip
