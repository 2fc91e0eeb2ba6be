"""latergator, as people type it."""

import os
import signal
import subprocess
import sys
from inspect import signature
from json import loads
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from alligator import Gator
from alligator.backends.base import Running, WorkerInfo
from alligator.cli import dead_commands, main, run_worker, show_health, show_stats, worker_options
from tests import sample_tasks
from tests.programs import environment, eventually, lines, run, running


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what a command does to the import path, and what the environment says, out of other tests."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in list(os.environ):
        if name.startswith("ALLIGATOR_"):
            monkeypatch.delenv(name)


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/queue.db"


@pytest.fixture
def gator(dsn: str) -> Gator:
    return Gator(dsn)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The file that tasks write to."""
    return tmp_path / "out"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The file that a worker's stderr goes to."""
    return tmp_path / "log"


def invoke(*arguments: str, answer: str | None = None) -> Result:
    # Before click 8.2 a runner keeps stderr apart only when it is told to.
    apart: dict[str, Any] = (
        {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
    )
    return CliRunner(**apart).invoke(main, arguments, input=answer)


def bury(gator: Gator, message: str = "no luck", queue_name: str = "all") -> str:
    """Put a task on its queue, have it fail, and return its id."""
    task = gator.options(queue_name=queue_name).task(sample_tasks.fail, message)
    lease = gator.client.lease(queue_name, task.task_id)
    assert lease is not None
    gator.client.dead_letter(lease, reason=f"RuntimeError: {message}", traceback="in line 1\nup")
    return task.task_id


def read(terminal: int) -> bytes:
    """Read what was drawn on a pseudo-terminal; nothing more at its end."""
    try:
        return os.read(terminal, 4096)
    except OSError:  # what Linux says when nobody holds the other side any more
        return b""


# What is typed.


def test_help_shows_how_a_worker_is_started() -> None:
    result = invoke("--help")

    assert result.exit_code == 0
    assert "latergator redis://localhost:6379/0" in result.output
    assert "ALLIGATOR_SECRET" in result.output


@pytest.mark.parametrize(
    "command",
    [
        ["worker"],
        ["stats"],
        ["health"],
        ["dead"],
        *(["dead", c] for c in ("list", "show", "retry", "drop")),
    ],
)
def test_every_command_has_help(command: list[str]) -> None:
    result = invoke(*command, "--help")

    assert result.exit_code == 0
    assert "--help" in result.output


def test_every_option_says_what_it_is_for() -> None:
    for command in main.commands.values():
        for param in command.params:
            assert not isinstance(param, click.Option) or param.help


def test_the_version_is_told() -> None:
    result = invoke("--version")

    assert result.output.startswith("Alligator ")


@pytest.mark.parametrize("command", [[], ["worker"], ["stats"], ["health"], ["dead", "list"]])
def test_without_a_dsn_it_says_what_to_type(command: list[str]) -> None:
    result = invoke(*command)

    assert result.exit_code == 2
    assert "latergator sqlite:///" in result.stderr
    assert "ALLIGATOR_CONN" in result.stderr


@pytest.mark.parametrize("command", [[], ["worker"], ["stats"], ["health"], ["dead", "list"]])
def test_an_unknown_scheme_is_one_line_and_not_a_traceback(command: list[str]) -> None:
    result = run(*command, "pigeon://user:p4ssw0rd@loft")

    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "pigeon://user:***@loft" in result.stderr
    assert "redis://" in result.stderr


def test_a_word_that_is_neither_command_nor_dsn_is_said_to_be_so() -> None:
    result = invoke("stast")

    assert result.exit_code == 2
    assert "neither a command nor a DSN" in result.stderr


def test_the_password_of_a_wrong_dsn_is_not_shown() -> None:
    result = invoke("stats", "redis://app:p4ssw0rd@host:port/0")

    assert result.exit_code == 2
    assert "p4ssw0rd" not in result.output


def test_a_library_that_is_missing_is_named_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "redis.py").write_text("raise ModuleNotFoundError('no redis', name='redis')\n")

    result = run("stats", "redis://localhost", env={"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"})

    assert result.returncode == 2
    assert result.stderr.splitlines() == ["Error: redis:// needs: pip install 'alligator[redis]'"]


@pytest.mark.parametrize("option", ["--max-tasks=-1", "--concurrency=0", "--log-level=loud"])
def test_values_that_make_no_sense_are_refused(option: str) -> None:
    result = invoke("locmem://", option)

    assert result.exit_code == 2


def test_help_imports_no_library_that_it_does_not_need() -> None:
    code = (
        "import sys; from alligator.cli import main; main(['--help'], standalone_mode=False);"
        "print([m for m in ('redis', 'rich', 'sqlite3') if m in sys.modules])"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )

    assert result.stdout.splitlines()[-1] == "[]"


def test_the_dsn_may_be_in_the_environment(dsn: str, gator: Gator) -> None:
    gator.task(sample_tasks.add, 1, 2)

    result = run("stats", "--json", env={"ALLIGATOR_CONN": dsn})

    assert loads(result.stdout)["stores"][0]["queues"][0]["ready"] == 1


@pytest.mark.parametrize("how", ["option", "environment"])
def test_the_prefix_names_the_queue(dsn: str, how: str) -> None:
    Gator(dsn, "staging_all").task(sample_tasks.add, 1, 2)

    given = ["--prefix", "staging"] if how == "option" else []
    env = {"ALLIGATOR_PREFIX": "staging"} if how == "environment" else {}
    result = run("stats", dsn, "--json", *given, env=env)

    queue = loads(result.stdout)["stores"][0]["queues"][0]
    assert (queue["name"], queue["ready"]) == ("staging_all", 1)


def test_a_gator_of_the_program_can_be_named(tmp_path: Path, gator: Gator, dsn: str) -> None:
    (tmp_path / "their_app.py").write_text(
        f"from alligator import Gator\nqueue = Gator({dsn!r}, 'mail')\n"
    )
    gator.options(queue_name="mail").task(sample_tasks.add, 1, 2)

    result = run("stats", "--app", "their_app:queue", "--path", str(tmp_path), "--json")

    assert loads(result.stdout)["stores"][0]["queues"][0]["name"] == "mail"


@pytest.mark.parametrize(
    "app", ["json:dumps", "json:nothing", "no_such_module:gator", ":x", "json"]
)
def test_what_is_no_gator_is_refused(app: str) -> None:
    result = invoke("stats", "--app", app)

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


def test_a_gator_of_the_program_takes_no_dsn_besides() -> None:
    result = invoke("stats", "locmem://", "--app", "app:gator")

    assert result.exit_code == 2


def test_modules_are_found_in_the_current_folder(tmp_path: Path, dsn: str, gator: Gator) -> None:
    (tmp_path / "their_tasks.py").write_text("def work():\n    open('done', 'w').close()\n")
    code = f"import their_tasks; from alligator import Gator; Gator({dsn!r}).task(their_tasks.work)"
    env = environment()
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)

    # -P leaves the folder out, as it is for a console script.
    command = [sys.executable, "-P", "-m", "alligator", dsn, "--burst"]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True)

    assert (tmp_path / "done").exists()


# The worker.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_runs_tasks_until_a_signal_ends_it(
    dsn: str, gator: Gator, out: Path, log: Path, number: signal.Signals
) -> None:
    with running(dsn, log=log) as program:
        gator.task(sample_tasks.record, str(out), "one")
        eventually(lambda: lines(out) == ["one"])
        program.send_signal(number)

        assert program.wait(20) == 0

    assert gator.stats().succeeded == 1


def test_a_worker_finishes_what_it_has_begun(dsn: str, gator: Gator, out: Path, log: Path) -> None:
    gator.task(sample_tasks.record_both_ends, str(out), "it", 0.5)

    with running("worker", dsn, log=log) as program:
        eventually(lambda: lines(out) == ["begin it"])
        program.terminate()

        assert program.wait(20) == 0

    assert lines(out) == ["begin it", "end it"]


def test_a_worker_out_of_time_gives_the_task_back_and_says_so(
    dsn: str, gator: Gator, out: Path, log: Path
) -> None:
    gator.task(sample_tasks.record_both_ends, str(out), "it", 60)

    with running(dsn, "--shutdown-timeout", "0.1", log=log) as program:
        eventually(lambda: lines(out))
        program.terminate()

        assert program.wait(20) == 1

    assert gator.stats().ready == 1


def test_burst_runs_what_is_ready_and_ends(dsn: str, gator: Gator, out: Path) -> None:
    for number in range(5):
        gator.task(sample_tasks.record, str(out), str(number))
    gator.options(delay_by=600).task(sample_tasks.record, str(out), "later")

    result = run(dsn, "--burst")

    assert result.returncode == 0
    assert lines(out) == ["0", "1", "2", "3", "4"]
    assert gator.len() == 1


def test_burst_does_not_wait_for_a_store_that_is_away() -> None:
    result = run("redis://127.0.0.1:1/0", "--burst")

    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1


def test_burst_is_over_at_once_when_nothing_is_ready(dsn: str) -> None:
    result = run(dsn, "--burst")

    assert result.returncode == 0


def test_burst_draws_its_progress_on_a_terminal(dsn: str, gator: Gator) -> None:
    for _ in range(3):
        gator.task(sample_tasks.add, 1, 2)
    ours, theirs = os.openpty()

    program = subprocess.Popen(
        [sys.executable, "-m", "alligator", dsn, "--burst"],
        env=environment({"TERM": "xterm", "COLUMNS": "100"}),
        stderr=theirs,
        stdout=subprocess.DEVNULL,
    )
    os.close(theirs)
    drawn = b"".join(iter(lambda: read(ours), b""))
    os.close(ours)

    assert program.wait(30) == 0
    assert b"3/3" in drawn


def test_a_worker_ends_after_max_tasks(dsn: str, gator: Gator, out: Path) -> None:
    for number in range(5):
        gator.task(sample_tasks.record, str(out), str(number))

    result = run(dsn, "--max-tasks", "2")

    assert result.returncode == 0
    assert lines(out) == ["0", "1"]
    assert gator.len() == 3


def test_queues_are_worked_off_in_the_order_given(dsn: str, gator: Gator, out: Path) -> None:
    for name in ("low", "high", "low", "high", "ignored"):
        gator.options(queue_name=name).task(sample_tasks.record, str(out), name)

    result = run(dsn, "--burst", "-q", "high", "-q", "low")

    assert result.returncode == 0
    assert lines(out) == ["high", "high", "low", "low"]


def test_only_functions_that_are_allowed_are_run(dsn: str, gator: Gator, out: Path) -> None:
    gator.task(sample_tasks.record, str(out), "one")

    run(dsn, "--burst", "--allow", "myapp.*")

    assert not out.exists()
    assert "NotAllowed" in gator.dead_letters()[0].reason


def test_a_secret_is_read_from_the_environment(dsn: str, gator: Gator, out: Path) -> None:
    gator.task(sample_tasks.record, str(out), "not signed")
    Gator(dsn, secret="of ours").task(sample_tasks.record, str(out), "signed")

    run(dsn, "--burst", env={"ALLIGATOR_SECRET": "of ours"})

    assert lines(out) == ["signed"]
    assert gator.stats().dead == 1


def test_modules_can_be_imported_first(dsn: str) -> None:
    result = run(dsn, "--burst", "--import", "no.such.module")

    assert result.returncode == 2
    assert "no module no" in result.stderr


def test_a_worker_says_when_its_store_is_nobody_elses(caplog: pytest.LogCaptureFixture) -> None:
    gator = Gator("locmem://")
    gator.task(sample_tasks.add, 1, 2)

    status = run_worker(gator, burst=True)

    assert status == 0
    assert "lives in one process" in caplog.text
    assert gator.stats().succeeded == 1


def test_another_command_line_can_have_the_workers_options() -> None:
    @click.command()
    @worker_options
    def theirs(**options: object) -> None:
        click.echo(run_worker(Gator("locmem://"), **options))  # type: ignore[arg-type]

    result = CliRunner().invoke(theirs, ["--burst", "-q", "mail"])

    assert result.exit_code == 0, result.output


# Several processes.


def test_several_processes_share_the_work_and_end_together(
    dsn: str, gator: Gator, out: Path, log: Path
) -> None:
    with running(dsn, "-p", "2", log=log) as program:
        eventually(lambda: len(gator.client.workers()) == 2)
        gator.task(sample_tasks.record, str(out), "one")
        eventually(lambda: lines(out))
        program.terminate()

        assert program.wait(20) == 0

    assert gator.client.workers() == []


def test_a_process_that_is_killed_is_replaced(dsn: str, gator: Gator, out: Path, log: Path) -> None:
    with running(dsn, "-p", "2", log=log) as program:
        gator.task(sample_tasks.record_pid, str(out))
        eventually(lambda: lines(out))
        os.kill(int(lines(out)[0]), signal.SIGKILL)

        eventually(lambda: log.read_text().count("has started") == 3)
        program.send_signal(signal.SIGINT)

        assert program.wait(20) == 0

    assert program.said("was killed by signal 9")


def test_processes_in_a_burst_end_when_all_is_done(dsn: str, gator: Gator, out: Path) -> None:
    for number in range(10):
        gator.task(sample_tasks.record, str(out), str(number))

    result = run(dsn, "-p", "3", "--burst")

    assert result.returncode == 0
    assert sorted(lines(out)) == [str(number) for number in range(10)]


def test_processes_that_had_their_share_are_replaced(
    dsn: str, gator: Gator, out: Path, log: Path
) -> None:
    for _ in range(12):
        gator.task(sample_tasks.record_pid, str(out))

    with running(dsn, "-p", "2", "--max-tasks", "3", log=log) as program:
        eventually(lambda: len(lines(out)) == 12)
        program.terminate()

        assert program.wait(20) == 0

    assert all(lines(out).count(pid) <= 3 for pid in lines(out))
    assert not program.said("another starts")


def test_a_second_signal_ends_processes_at_once(dsn: str, gator: Gator, log: Path) -> None:
    for _ in range(2):
        gator.task(sample_tasks.sleep_for, 60)

    with running(dsn, "-p", "2", log=log) as program:
        eventually(lambda: gator.stats().leased == 2)
        program.terminate()
        eventually(lambda: log.read_text().count("is stopping") == 2)
        program.terminate()

        assert program.wait(10) == 1

    assert (gator.stats().ready, gator.stats().leased) == (2, 0)


def test_processes_end_when_their_parent_is_gone(dsn: str, gator: Gator, log: Path) -> None:
    with running(dsn, "-p", "2", log=log) as program:
        eventually(lambda: len(gator.client.workers()) == 2)
        program.kill()

        eventually(lambda: not gator.client.workers())


# Reloading.


def test_a_worker_starts_anew_when_a_module_changes(
    dsn: str, out: Path, log: Path, tmp_path: Path
) -> None:
    module = tmp_path / "their_module.py"
    module.write_text("name = 'old'\nimport their_queue\n")
    (tmp_path / "their_queue.py").write_text(
        f"from alligator import Gator\ngator = Gator({dsn!r})\n"
        f"import their_module\nopen({str(out)!r}, 'a').write(their_module.name + '\\n')\n"
    )

    with running("--app", "their_queue", "--reload", log=log, cwd=tmp_path) as program:
        eventually(lambda: lines(out) == ["old"] and program.said("starts on"))
        module.write_text("name = 'newer'\nimport their_queue\n")
        eventually(lambda: lines(out) == ["old", "newer"])
        eventually(lambda: log.read_text().count("starts on") == 2)
        program.terminate()

        assert program.wait(20) == 0


def test_reloading_is_for_one_process() -> None:
    result = invoke("locmem://", "--reload", "-p", "2")

    assert result.exit_code == 2


# Looking.


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


def test_names_from_the_queue_cannot_control_the_terminal(dsn: str, gator: Gator) -> None:
    name = "[red]\x1b[31mq"
    gator.client.beat(WorkerInfo(name=name, queues=[]), 60)

    result = invoke("stats", dsn)

    assert "\x1b" not in result.output
    assert "[red]\\x1b[31mq" in result.output


def test_stats_of_a_gator_can_be_shown_by_another_command_line(
    gator: Gator, capsys: pytest.CaptureFixture[str]
) -> None:
    show_stats(gator, as_json=True)

    assert loads(capsys.readouterr().out)["schema"] == 2


def test_a_store_without_a_worker_is_a_warning_and_status_0(dsn: str) -> None:
    result = run("health", dsn)

    assert result.returncode == 0
    assert result.stdout.splitlines()[0] == "warn"


def test_a_store_that_is_away_fails_with_status_1() -> None:
    result = run("health", "redis://:p4ssw0rd@127.0.0.1:1/0", "--json")

    assert result.returncode == 1
    assert loads(result.stdout)["status"] == "fail"
    assert "p4ssw0rd" not in result.stdout + result.stderr


def test_stats_of_a_store_that_is_away_are_one_line_and_status_1() -> None:
    result = run("stats", "redis://:p4ssw0rd@127.0.0.1:1/0")

    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "p4ssw0rd" not in result.stderr


def test_health_of_a_gator_can_be_shown_by_another_command_line(
    gator: Gator, capsys: pytest.CaptureFixture[str]
) -> None:
    gator.client.beat(WorkerInfo(name="host:1:ab", queues=["all"]), 60)

    assert show_health(gator) == 0
    assert capsys.readouterr().out.startswith("pass\n")


def test_a_health_of_the_program_is_asked_with_its_checks(tmp_path: Path, dsn: str) -> None:
    (tmp_path / "shop_health.py").write_text(
        "from alligator import Gator\n"
        "from alligator.health import Health\n"
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


# The dead.


def test_the_dead_of_all_queues_are_listed(dsn: str, gator: Gator) -> None:
    ids = [bury(gator), bury(gator, queue_name="mail")]

    result = invoke("dead", "list", dsn)

    assert result.exit_code == 0
    assert all(task_id in result.output for task_id in ids)
    assert "tests.sample_tasks.fail" in result.output
    assert "RuntimeError: no luck" in result.output


def test_the_dead_are_listed_as_json(dsn: str, gator: Gator) -> None:
    task_id = bury(gator)
    bury(gator, queue_name="mail")

    result = invoke("dead", "list", dsn, "--json", "-q", "all")

    (letter,) = loads(result.output)
    assert (letter["id"], letter["queue"]) == (task_id, "all")


def test_that_nothing_is_dead_is_said(dsn: str) -> None:
    result = invoke("dead", "list", dsn)

    assert (result.exit_code, result.output) == (0, "no task is dead\n")


def test_a_reason_cannot_control_the_terminal(dsn: str, gator: Gator) -> None:
    task_id = bury(gator, "\x1b[2J[bold]x[/bold]")

    for result in (invoke("dead", "list", dsn), invoke("dead", "show", dsn, task_id)):
        assert "\x1b" not in result.output
        assert "[bold]x[/bold]" in result.output


def test_a_dead_task_is_shown_with_its_traceback(dsn: str, gator: Gator) -> None:
    task_id = bury(gator)

    result = invoke("dead", "show", task_id, dsn)

    assert result.exit_code == 0
    assert "reason: RuntimeError: no luck" in result.output
    assert "    in line 1" in result.output


def test_one_task_is_retried_wherever_it_is(dsn: str, gator: Gator) -> None:
    task_id = bury(gator, queue_name="mail")
    bury(gator, queue_name="mail")

    result = invoke("dead", "retry", dsn, task_id)

    assert result.exit_code == 0
    stats = gator.client.stats("mail")
    assert (stats.ready, stats.dead) == (1, 1)


def test_all_of_the_default_queue_are_retried(dsn: str, gator: Gator) -> None:
    bury(gator)
    bury(gator)
    bury(gator, queue_name="mail")

    result = invoke("dead", "retry", dsn, "--all")

    assert "2 tasks" in result.output
    assert gator.stats().ready == 2
    assert gator.client.stats("mail").dead == 1


def test_one_task_is_dropped(dsn: str, gator: Gator) -> None:
    task_id = bury(gator)
    bury(gator)

    result = invoke("dead", "drop", dsn, task_id)

    assert result.exit_code == 0
    assert gator.stats().dead == 1


def test_dropping_all_has_to_be_confirmed(dsn: str, gator: Gator) -> None:
    bury(gator)

    refused = invoke("dead", "drop", dsn, "--all", answer="n\n")

    assert refused.exit_code == 1
    assert gator.stats().dead == 1

    confirmed = invoke("dead", "drop", dsn, "--all", answer="y\n")

    assert confirmed.exit_code == 0
    assert gator.stats().dead == 0


def test_dropping_all_can_be_confirmed_beforehand(dsn: str, gator: Gator) -> None:
    bury(gator, queue_name="mail")

    result = invoke("dead", "drop", dsn, "--all", "--yes", "-q", "mail")

    assert result.exit_code == 0
    assert gator.client.stats("mail").dropped == 1


@pytest.mark.parametrize("command", ["show", "retry", "drop"])
def test_an_id_that_is_not_dead_is_status_1(dsn: str, command: str) -> None:
    result = invoke("dead", command, dsn, "nobody")

    assert result.exit_code == 1
    assert "nobody" in result.stderr


@pytest.mark.parametrize("command", ["show", "retry", "drop"])
def test_the_dead_to_be_treated_must_be_named(dsn: str, command: str) -> None:
    result = invoke("dead", command, dsn)

    assert result.exit_code == 2


def test_another_command_line_can_have_the_commands_for_the_dead(gator: Gator) -> None:
    task_id = bury(gator)

    result = CliRunner().invoke(dead_commands(lambda: gator), ["retry", task_id])

    assert result.exit_code == 0, result.output
    assert gator.stats().ready == 1
