"""The metrics, read by the parsers of Prometheus."""

import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from json import dumps, loads
from pathlib import Path
from re import findall
from threading import Event

import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from alligator import Gator, Worker
from alligator.backends import locmem_backend
from alligator.backends.base import Announcement, Message, QueueStats, WorkerInfo
from alligator.exceptions import BackendError
from alligator.monitoring import stats
from alligator.monitoring.health import Health
from alligator.monitoring.metrics import OPENMETRICS, Metrics
from alligator.monitoring.stats import MAX_QUEUES
from alligator.web.endpoint import Endpoint
from alligator.web.http import Request
from tests.harness import sample_tasks
from tests.harness.programs import ROOT
from tests.harness.requirements import do_without

TOKEN = "a token of many characters"


@pytest.fixture
def gator(tmp_path: Path) -> Gator:
    """A gator with some tasks run, waiting and dead."""
    gator = Gator("locmem://", spool=str(tmp_path / "spool.db"))
    with gator.transaction():
        gator.task(sample_tasks.add, 1, 2)
        gator.task(sample_tasks.fail, "badly")
    with suppress(ZeroDivisionError), gator.transaction():
        gator.task(sample_tasks.add, 1, 2)
        raise ZeroDivisionError
    Worker(gator, burst=True).run_forever()
    gator.task(sample_tasks.add, 1, 2)
    gator.options(queue_name='a "queue"\\', delay_by=60).task(sample_tasks.add, 1, 2)
    return gator


def samples(families: Iterable[Metric]) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_prometheus_parser_reads_the_depth_of_queues(gator: Gator) -> None:
    media_type, text = Metrics(gator).write()

    found = samples(read_text(text.decode()))
    assert media_type == "text/plain; version=0.0.4; charset=utf-8"
    assert found["alligator_backend_up", "locmem"] == 1
    assert found["alligator_queue_tasks", "locmem", "all", "ready"] == 1
    assert found["alligator_queue_tasks", "locmem", "all", "dead"] == 1
    assert found["alligator_queue_tasks", "locmem", 'a "queue"\\', "scheduled"] == 1
    assert found["alligator_queue_oldest_task_age_seconds", "locmem", "all"] >= 0
    assert found["alligator_tasks_total", "locmem", "succeeded", "all"] == 1
    assert found["alligator_tasks_total", "locmem", "failed", "all"] == 1
    assert found["alligator_tasks_pushed_total", "locmem", "all"] == 3
    assert found["alligator_tasks_died_total", "locmem", "all"] == 1
    assert found["alligator_workers", "locmem"] == 0
    assert found["alligator_deferred_tasks_total", "locmem", "committed"] == 2
    assert found["alligator_deferred_tasks_total", "locmem", "exception"] == 1


def test_breakers_and_spools_are_those_of_this_process(gator: Gator) -> None:
    found = samples(read_text(Metrics(gator).write()[1].decode()))

    assert found["alligator_breaker_open", "locmem"] == 0
    assert found["alligator_spool_tasks", "locmem"] == 0
    assert found["alligator_spool_oldest_task_age_seconds", "locmem"] == 0
    assert found["alligator_spool_failing_commits", "locmem"] == 0


def test_series_of_many_queues_are_of_the_fullest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "CHOICE_SECONDS", 60)
    gator = Gator("locmem://", "mail")
    names = [f"queue-{number:05}" for number in range(10_000)]
    gator.client.push_many([Message(name, name, "{}") for name in names])
    gator.client.push_many([Message("zebra", str(number), "{}") for number in range(3)])

    found = samples(read_text(Metrics(gator).write()[1].decode()))

    shown = {key[2] for key in found if key[0] == "alligator_queue_workers"}
    assert found["alligator_queues", "locmem"] == 10_002
    assert len(shown) == MAX_QUEUES
    assert {"mail", "zebra"} <= shown


def test_times_are_histograms(gator: Gator) -> None:
    found = samples(read_text(Metrics(gator).write()[1].decode()))

    for name in ("duration", "latency"):
        metric = f"alligator_task_{name}_seconds"
        assert found[f"{metric}_count", "locmem", "all"] == 2
        assert found[f"{metric}_bucket", "locmem", "+Inf", "all"] == 2
        assert 0 <= found[f"{metric}_sum", "locmem", "all"] < 60


def test_tasks_that_wait_for_a_limit_are_counted(gator: Gator) -> None:
    gator.limit(at_once=1)
    gator.task(sample_tasks.add, 1, 2)
    gator.client.reserve("all", lease_for=3600)

    found = samples(read_text(Metrics(gator).write()[1].decode()))

    assert found["alligator_queue_limited_tasks", "locmem", "all"] == 1


def test_limit_keys_are_numbers_of_their_queue(gator: Gator) -> None:
    for n in range(40):
        gator.options(limit_key=f"tenant-{n}").task(sample_tasks.add, 1, 2)
        gator.options(limit_key=f"tenant-{n}").task(sample_tasks.add, 1, 2)
    gator.limit(at_once=1, limit_key="*")
    gator.limit(at_once=2, limit_key="tenant-7")
    gator.client.reserve("all", limit=100, lease_for=3600)
    gator.client.reserve("all", limit=100, lease_for=3600)

    text = Metrics(gator).write()[1].decode()

    found = samples(read_text(text))
    assert found["alligator_queue_keys", "locmem", "all"] == 39
    assert found["alligator_queue_limited_keys", "locmem", "all"] == 39
    assert found["alligator_queue_key_limits", "locmem", "all"] == 2
    assert "tenant" not in text


def test_lag_of_event_loops_is_that_of_the_slowest_worker(gator: Gator) -> None:
    for name, lag in (("a", 0.2), ("b", 1.5), ("plain", None)):
        gator.client.beat(WorkerInfo(name, loop_lag=lag), 60)

    found = samples(read_text(Metrics(gator).write()[1].decode()))

    assert found["alligator_worker_loop_lag_seconds", "locmem"] == 1.5


def test_openmetrics_is_sent_to_those_who_accept_it(gator: Gator) -> None:
    accept = f"{OPENMETRICS};version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.1"

    media_type, text = Metrics(gator).write(accept)

    assert media_type == f"{OPENMETRICS}; version=1.0.0; charset=utf-8"
    assert text.endswith(b"# EOF\n")
    found = samples(
        openmetrics.text_string_to_metric_families(text.decode())  # type: ignore[no-untyped-call]
    )
    plain = samples(read_text(Metrics(gator).write()[1].decode()))
    assert {name for name, *_ in found} == {name for name, *_ in plain}


def test_response_repeats_nothing_of_the_accept_header(gator: Gator) -> None:
    media_type, text = Metrics(gator).write(f"{OPENMETRICS}; version=1.0.1-evil; charset=evil")

    assert "evil" not in media_type
    assert b"evil" not in text


def test_store_that_cannot_be_reached_is_down_and_others_are_complete() -> None:
    class Away(locmem_backend.Client):
        def ping(self) -> None:
            raise BackendError("away")

    away = Gator("redis://away", backend_class=Away)

    found = samples(read_text(Metrics([away, Gator("locmem://")]).write()[1].decode()))

    assert found["alligator_backend_up", "redis"] == 0
    assert found["alligator_backend_up", "locmem"] == 1
    assert ("alligator_workers", "redis") not in found


def test_store_that_hangs_is_down_after_half_a_second() -> None:
    thawed = Event()

    class Frozen(locmem_backend.Client):
        def ping(self) -> None:
            thawed.wait(30)

        def stats(self, queue_name: str) -> QueueStats:
            raise AssertionError("it is not asked for more")

    gator = Gator("redis://frozen", backend_class=Frozen)
    try:
        found = samples(read_text(Metrics(gator, Health(gator)).write()[1].decode()))
    finally:
        thawed.set()

    assert found["alligator_backend_up", "redis"] == 0


def test_stores_of_one_kind_have_different_labels() -> None:
    gators = [Gator("locmem://one"), Gator("locmem://two")]

    found = samples(read_text(Metrics(gators).write()[1].decode()))

    assert found["alligator_backend_up", "locmem"] == found["alligator_backend_up", "locmem-2"] == 1


def test_values_that_a_store_does_not_know_are_left_out() -> None:
    class Five:
        def __init__(self, conn_string: str) -> None:
            self.len = lambda name: 7
            self.drop_all = self.push = self.pop = self.get = lambda *args, **kwargs: None

    found = samples(read_text(Metrics(Gator("five://", backend_class=Five)).write()[1].decode()))

    assert {key for key in found if key[0].startswith("alligator_queue_")} == {
        ("alligator_queue_tasks", "five", "all", "ready")
    }
    assert ("alligator_workers", "five") not in found


def test_metrics_are_for_those_who_are_allowed(gator: Gator) -> None:
    endpoint = Endpoint(gator, token=TOKEN)

    closed = endpoint.respond(Request("GET", "/metrics", allowed=False))
    opened = endpoint.respond(Request("GET", "/metrics", allowed=True))

    assert closed.status == 403
    assert opened.status == 200
    assert ("Content-Type", "text/plain; version=0.0.4; charset=utf-8") in opened.headers


def test_error_without_prometheus_client_says_what_to_install(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = Endpoint(gator, token=TOKEN)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "alligator.monitoring.metrics")

    missing = endpoint.respond(Request("GET", "/metrics", allowed=True))
    health = endpoint.respond(Request("GET", "/health", allowed=True))

    assert missing.status == 501
    assert b"alligator[metrics]" in missing.body
    assert health.status == 200


# The rules for Prometheus and the dashboard of Grafana.


def promtool(*arguments: str, text: bytes = b"") -> str:
    tool = shutil.which("promtool")
    if tool is None:
        do_without("promtool is not installed")
    done = subprocess.run([tool, *arguments], input=text, capture_output=True, timeout=60, cwd=ROOT)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def names(gator: Gator) -> set[str]:
    return {name for name, *_ in samples(read_text(Metrics(gator).write()[1].decode()))}


def test_promtool_finds_nothing_wrong(gator: Gator) -> None:
    assert promtool("check", "metrics", text=Metrics(gator).write()[1]) == ""


def test_alert_rules_are_in_order_and_use_metrics_that_exist(gator: Gator) -> None:
    path = ROOT / "docs" / "prometheus" / "alerts.yml"

    promtool("check", "rules", str(path))
    gator.client.announce_schedules([POLL], 1_800_000_000)

    assert set(findall(r"alligator_\w+", path.read_text())) <= names(gator)


POLL = Announcement("poll", '{"definition": "every 60 s"}', 60)
SCHEDULE = "alligator_schedule"
AGE = "alligator_queue_oldest_task_age_seconds"
QUEUE = 'backend="redis", instance="web", job="shop", queue="mail"'


@pytest.mark.parametrize(
    ("name", "series", "fires"),
    [
        ("AlligatorStoreDown", {'alligator_backend_up{backend="redis"}': "0x30"}, True),
        ("AlligatorStoreDown", {'alligator_backend_up{backend="redis"}': "1x30"}, False),
        (
            "AlligatorNoWorkers",
            {
                f"alligator_queue_workers{{{QUEUE}}}": "0x30",
                f'alligator_queue_tasks{{{QUEUE}, state="ready"}}': "3x30",
            },
            True,
        ),
        (
            "AlligatorNoWorkers",
            {
                f"alligator_queue_workers{{{QUEUE}}}": "0x30",
                f'alligator_queue_tasks{{{QUEUE}, state="ready"}}': "0x30",
                f'alligator_queue_tasks{{{QUEUE}, state="dead"}}': "3x30",
            },
            False,
        ),
        ("AlligatorBacklog", {f"{AGE}{{{QUEUE}}}": "400x30"}, True),
        (
            "AlligatorBacklog",
            {f"{AGE}{{{QUEUE}}}": "400x30", f"alligator_queue_paused{{{QUEUE}}}": "0x30"},
            True,
        ),
        (
            "AlligatorBacklog",
            {f"{AGE}{{{QUEUE}}}": "400x30", f"alligator_queue_paused{{{QUEUE}}}": "1x30"},
            False,
        ),
        ("AlligatorPaused", {f"alligator_queue_paused{{{QUEUE}}}": "1x30"}, True),
        ("AlligatorPaused", {f"alligator_queue_paused{{{QUEUE}}}": "1x10 0x20"}, False),
        (
            "AlligatorFailures",
            {
                f'alligator_tasks_total{{{QUEUE}, outcome="succeeded"}}': "0+80x30",
                f'alligator_tasks_total{{{QUEUE}, outcome="failed"}}': "0+20x30",
            },
            True,
        ),
        (
            "AlligatorFailures",
            {
                f'alligator_tasks_total{{{QUEUE}, outcome="succeeded"}}': "0+95x30",
                f'alligator_tasks_total{{{QUEUE}, outcome="failed"}}': "0+5x30",
            },
            False,
        ),
        ("AlligatorDeadTasks", {f"alligator_tasks_died_total{{{QUEUE}}}": "0x20 1x10"}, True),
        ("AlligatorDeadTasks", {f"alligator_tasks_died_total{{{QUEUE}}}": "7x30"}, False),
        (
            "AlligatorDroppedTasks",
            {f'alligator_tasks_total{{{QUEUE}, outcome="dropped"}}': "0x20 1x10"},
            True,
        ),
        (
            "AlligatorDroppedTasks",
            {f'alligator_tasks_total{{{QUEUE}, outcome="dropped"}}': "7x30"},
            False,
        ),
        (
            "AlligatorLostAttempts",
            {f'alligator_tasks_total{{{QUEUE}, outcome="lost"}}': "0x20 1x10"},
            True,
        ),
        (
            "AlligatorSpoolStuck",
            {'alligator_spool_oldest_task_age_seconds{backend="redis"}': "0+60x30"},
            True,
        ),
        (
            "AlligatorSpoolStuck",
            {'alligator_spool_oldest_task_age_seconds{backend="redis"}': "10x30"},
            False,
        ),
        (
            "AlligatorSpoolStuck",
            {'alligator_spool_failing_commits{backend="redis"}': "1x30"},
            True,
        ),
        (
            "AlligatorScheduleLate",
            {f"{SCHEDULE}_next_tick_timestamp_seconds{{{QUEUE}}}": "1400x30"},
            True,
        ),
        (
            "AlligatorScheduleLate",
            {f"{SCHEDULE}_next_tick_timestamp_seconds{{{QUEUE}}}": "1600x30"},
            False,
        ),
    ],
)
def test_alert_fires_when_it_should(
    name: str, series: dict[str, str], fires: bool, tmp_path: Path
) -> None:
    test = {
        "interval": "1m",
        "input_series": [{"series": key, "values": value} for key, value in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)',
                "eval_time": "30m",
                "exp_samples": [{"labels": "{}", "value": int(fires)}],
            }
        ],
    }
    rules = str(ROOT / "docs" / "prometheus" / "alerts.yml")
    path = tmp_path / "test.yml"
    path.write_text(dumps({"rule_files": [rules], "tests": [test]}))  # JSON is YAML, too

    promtool("test", "rules", str(path))


def test_grafana_dashboard_has_valid_queries(tmp_path: Path) -> None:
    panels = loads((ROOT / "docs" / "prometheus" / "grafana.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    rules = [
        {"record": f"panel:{number}", "expr": expr.replace("$__rate_interval", "5m")}
        for number, expr in enumerate(asked)
    ]
    path = tmp_path / "rules.yml"
    path.write_text(dumps({"groups": [{"name": "panels", "rules": rules}]}))

    promtool("check", "rules", str(path))


def test_grafana_dashboard_uses_metrics_that_exist(gator: Gator) -> None:
    text = (ROOT / "docs" / "prometheus" / "grafana.json").read_text()

    panels = loads(text)["panels"]
    gator.client.announce_schedules([POLL], 1_800_000_000)

    assert set(findall(r"alligator_\w+", text)) <= names(gator)
    for panel in panels:
        assert panel["title"]
        assert panel["targets"]


def test_schedules_have_the_moments_of_their_ticks(gator: Gator) -> None:
    gator.client.announce_schedules(
        [Announcement(name, '{"definition": "every 60 s"}', 60) for name in ("poll", "\ud800 \n")],
        1_800_000_000,
    )
    gator.client.push_tick("poll", 1_800_000_060, Message("mail", "a", "{}"))

    found = samples(read_text(Metrics(gator).write()[1].decode()))

    last, due = (f"alligator_schedule_{name}_tick_timestamp_seconds" for name in ("last", "next"))
    assert found[last, "locmem", "poll"] == 1_800_000_060
    assert found[due, "locmem", "poll"] == 1_800_000_120
    assert found[due, "locmem", "\\ud800 \n"] == 1_800_000_060
