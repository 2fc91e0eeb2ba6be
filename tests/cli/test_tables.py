"""Tables in a terminal."""

from alligator import Gator
from alligator.backends.base import Running, WorkerInfo
from tests.harness import sample_tasks
from tests.harness.command_line import invoke
from tests.harness.programs import run


def test_names_from_the_queue_cannot_control_the_terminal(dsn: str, gator: Gator) -> None:
    name = "[red]\x1b[31mq"
    gator.client.beat(WorkerInfo(name=name, queues=[]), 60)

    result = invoke("stats", dsn)

    assert "\x1b" not in result.output
    assert "[red]\\x1b[31mq" in result.output


def test_tables_fit_80_columns(gator: Gator) -> None:
    for name in ("all", "a-queue-with-a-rather-long-name-of-some-50-characters"):
        gator.options(queue_name=name).task(sample_tasks.fail, "a reason " * 20)
    run(gator.conn_string, "--burst", "-q", "all")
    busy = [Running("1", "shop.tasks.of_a_long_name.send_receipts_to_everybody", 0.0)]
    gator.client.beat(WorkerInfo("a-host-of-a-name:4711:abcdef", ["all", "mail"], running=busy), 60)

    for command in (["stats"], ["dead", "list"]):
        result = run(*command, gator.conn_string, env={"COLUMNS": "80"})

        assert result.returncode == 0
        assert max(len(line) for line in result.stdout.splitlines()) <= 80
    assert "retried" in run("stats", gator.conn_string, env={"COLUMNS": "80"}).stdout
