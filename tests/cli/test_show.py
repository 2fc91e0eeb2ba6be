"""The output of stats and health."""

from json import loads
from pathlib import Path

import pytest

from alligator import Gator
from alligator.backends.base import Running, WorkerInfo
from alligator.cli import show_health, show_stats
from tests.harness import sample_tasks
from tests.harness.command_line import invoke
from tests.harness.programs import run


def test_stats_are_a_table(dsn: str, gator: Gator) -> None:
    gator.task(sample_tasks.add, 1, 2)
    gator.client.beat(
        WorkerInfo(name="host:1:ab", queues=["all"], running=[Running("1", "app:send", 0.0)]), 60
    )

    result = invoke("stats", dsn)

    assert result.exit_code == 0
    assert "scheduled" in result.output
    assert "host:1:ab" in result.output
    assert "app:send" in result.output


def test_stats_can_be_shown_by_another_command_line(
    gator: Gator, capsys: pytest.CaptureFixture[str]
) -> None:
    show_stats(gator, as_json=True)

    assert loads(capsys.readouterr().out)["schema"] == 3


def test_health_without_a_worker_is_a_warning_and_status_0(dsn: str) -> None:
    result = run("health", dsn)

    assert result.returncode == 0
    assert result.stdout.splitlines()[0] == "warn"


def test_health_of_an_unreachable_store_fails_with_status_1() -> None:
    result = run("health", "redis://:p4ssw0rd@127.0.0.1:1/0", "--json")

    assert result.returncode == 1
    assert loads(result.stdout)["status"] == "fail"
    assert "p4ssw0rd" not in result.stdout + result.stderr


def test_stats_of_an_unreachable_store_are_one_line_and_status_1() -> None:
    result = run("stats", "redis://:p4ssw0rd@127.0.0.1:1/0")

    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "p4ssw0rd" not in result.stderr


def test_health_can_be_shown_by_another_command_line(
    gator: Gator, capsys: pytest.CaptureFixture[str]
) -> None:
    gator.client.beat(WorkerInfo(name="host:1:ab", queues=["all"]), 60)

    assert show_health(gator) == 0
    assert capsys.readouterr().out.startswith("pass\n")


def test_health_of_the_program_is_shown_with_its_checks(tmp_path: Path, dsn: str) -> None:
    (tmp_path / "shop_health.py").write_text(
        "from alligator import Gator\n"
        "from alligator.monitoring.health import Health\n"
        f"health = Health(Gator({dsn!r}))\n"
        "health.check('db', lambda: 1 / 0)\n"
    )

    result = run("health", "--app", "shop_health:health", "--path", str(tmp_path), "--json")
    no_worker = run("--app", "shop_health:health", "--path", str(tmp_path))

    found = loads(result.stdout)
    assert result.returncode == 1
    assert found["checks"]["db:responseTime"][0]["output"] == "ZeroDivisionError was raised"
    assert found["checks"]["backend:responseTime"][0]["status"] == "pass"
    assert no_worker.returncode == 2


def test_health_of_inline_tasks_needs_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gator = Gator(f"sqlite://{tmp_path}/queue.db", is_async=False)

    assert show_health(gator) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("workers", "said"), [(0, "0 workers"), (1, "1 worker"), (2, "2 workers")])
def test_health_counts_workers(
    gator: Gator, capsys: pytest.CaptureFixture[str], workers: int, said: str
) -> None:
    for number in range(workers):
        gator.client.beat(WorkerInfo(f"host:{number}:ab", ["all"]), 60)

    show_health(gator)

    lines = capsys.readouterr().out.splitlines()
    [counted] = [line for line in lines if "workers:connections" in line]
    assert counted.partition(":")[2].split("  ")[-1].partition(":")[0] == said
    assert not any(line.endswith(("failed", "failed ")) for line in lines)
