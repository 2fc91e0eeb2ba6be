"""Import all faults into the catalogue."""

from tests.faults.cases import workers as workers  # isort: skip
from tests.faults.cases import coroutines as coroutines  # isort: skip
from tests.faults.cases import web as web  # isort: skip
from tests.faults.cases import databases as databases  # isort: skip
from tests.faults.cases import django as django  # isort: skip
from tests.faults.cases import redis as redis  # isort: skip
from tests.faults.cases import topologies as topologies  # isort: skip
from tests.faults.cases import sqlite as sqlite  # isort: skip
from tests.faults.cases import postgres as postgres  # isort: skip
from tests.faults.cases import sqs as sqs  # isort: skip
from tests.faults.cases import connection_bytes as connection_bytes  # isort: skip
from tests.faults.cases import network as network  # isort: skip
from tests.faults.cases import tasks as tasks  # isort: skip
from tests.faults.cases import clocks as clocks  # isort: skip
from tests.faults.cases import schedules as schedules  # isort: skip
from tests.faults.cases import limits as limits  # isort: skip
from tests.faults.cases import limit_keys as limit_keys  # isort: skip
from tests.faults.cases import soak as soak  # isort: skip
