"""The statements name existing functions, with parameters of the right types."""

import time

from alligator.backends.postgres_backend import Client
from alligator.backends.postgres_backend.statements import Statement


def test_every_statement_can_be_prepared(client: Client) -> None:
    client.ping()
    client.exists()
    found = [each for each in vars(client._statements).values() if isinstance(each, Statement)]

    with client._sessions.lend(time.monotonic() + 20) as session:
        for number, each in enumerate(found):
            session.wire.prepare(each._replace(name=b"s%d" % number), time.monotonic() + 20)

    assert len(found) > 20
