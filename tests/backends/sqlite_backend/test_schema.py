"""The SQL statements of the SQLite store: their query plans."""

from typing import Any

from alligator.backends.sqlite_backend import Client
from alligator.backends.sqlite_backend import schema as sql


def test_statements_about_one_id_do_not_scan_a_state(client: Client) -> None:
    client.push("mail", "a", "1")
    questions: dict[str, Any] = {
        sql.FIND_WAITING: {"queue": "mail", "id": "a"},
        sql.FIND_DEAD: {"queue": "mail", "id": "a"},
        sql.FIND_WAITING_ALIAS: ("mail", "a"),
        sql.FIND_ID: ("mail", "a"),
        sql.UNDO_PUSH: (1, "mail", "ready"),
        sql.FIND_PUSHED: (1, 2),
    }

    with client._database.read() as connection:
        plans = [
            row[3]
            for question, values in questions.items()
            for row in connection.execute(f"EXPLAIN QUERY PLAN {question}", values)
        ]

    assert len(plans) >= len(questions)
    assert not [plan for plan in plans if "task_order" in plan or plan.startswith("SCAN task")]
