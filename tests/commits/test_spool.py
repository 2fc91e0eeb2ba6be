"""Tasks are kept on the local disk while their store cannot be reached, and are sent later."""

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from alligator import CANCELED, WAITING, Gator, Worker
from alligator.backends import locmem_backend
from alligator.backends.base import Commit, Message
from alligator.commits.spool import Spool
from alligator.exceptions import BackendError, BackendUnavailable, ConfigurationError
from alligator.monitoring.health import Health
from tests.faults.proxy import Proxy
from tests.harness.programs import ROOT, environment, eventually, lines
from tests.harness.requirements import needed
from tests.harness.sample_tasks import add, say
from tests.harness.store_servers import Server, valkey_server
from tests.harness.web_servers import get
from tests.harness.web_sites import Reply, Site, asgi, wsgi

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")


class Store(locmem_backend.Client):
    """A store that is unreachable when a test says so, and records its calls."""

    away = False
    error: Exception | None = None
    takes_it_all_the_same = False
    """Whether a push that seems to fail arrives."""

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.pushed: list[str] = []
        self.commits: list[str | None] = []
        self.aborted: list[str] = []

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        self.commits.append(commit_id)
        if self.error is not None:
            raise self.error
        if not self.away or self.takes_it_all_the_same:
            super().push_many(messages, commit_id=commit_id)
            self.pushed += [message.task_id for message in messages]
        if self.away:
            raise BackendUnavailable("the store does not answer")

    def ping(self) -> None:
        if self.away:
            raise BackendUnavailable("the store does not answer")

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        if self.away:
            raise BackendUnavailable("the store does not answer")
        self.aborted.append(commit_id)
        super().abort(commit_id, messages)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alligator.commits.spool.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("alligator.commits.spool.LONGEST_PAUSE", 0.02)
    monkeypatch.setattr("alligator.commits.spool.CLAIM_SECONDS", 0.2)
    monkeypatch.setattr("alligator.commits.spool.PUSH_SECONDS", 0.2)
    monkeypatch.setattr("alligator.commits.spool.FIRST_DELAY", 0.05)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store("locmem://")
    store.away = True
    yield store
    store.away, store.error = False, None
    eventually(lambda: not relays())


@pytest.fixture
def gator(store: Store, path: Path) -> Gator:
    return make_gator(store, path)


def make_gator(store: Store, path: Path, queue_name: str = "all") -> Gator:
    return Gator(
        "locmem://", queue_name, backend_class=lambda _: store, breaker=False, spool=str(path)
    )


def spool_of(gator: Gator) -> Spool:
    assert gator.spool is not None
    return gator.spool


def depth(gator: Gator) -> int:
    return spool_of(gator).content().tasks


def relays() -> int:
    return sum(thread.name == "alligator-relay" for thread in threading.enumerate())


# What is kept, and what comes of it.


def test_spool_is_unused_while_the_store_answers(gator: Gator, store: Store, path: Path) -> None:
    store.away = False
    gator.task(add, 1, 2)

    assert gator.len() == 1
    assert not path.exists()
    assert relays() == 0


def test_task_that_does_not_reach_its_store_is_kept_and_sent_later(
    gator: Gator, store: Store
) -> None:
    task = gator.task(add, 1, 2)
    assert task.status == WAITING
    assert (depth(gator), gator.len()) == (1, 0)

    store.away = False

    eventually(lambda: depth(gator) == 0)
    done = gator.pop()
    assert done is not None
    assert (done.task_id, done.result) == (task.task_id, 3)
    assert gator.stats().pushed == 1


def test_tasks_of_a_transaction_are_kept_together(gator: Gator, store: Store) -> None:
    with gator.transaction() as tx:
        kept = [gator.task(add, number, 1) for number in range(3)]
        tx.on_commit(lambda: kept.append(gator.task(add, 9, 9)))

    assert len(kept) == 4
    assert spool_of(gator).content()[:2] == (2, 4)
    store.away = False
    eventually(lambda: store.pushed == [task.task_id for task in kept])


def test_kept_commits_are_sent_in_their_order(gator: Gator, store: Store) -> None:
    kept = [gator.task(add, number, 1).task_id for number in range(50)]

    store.away = False

    eventually(lambda: len(store.pushed) == 50)
    assert store.pushed == kept


def test_delay_of_a_kept_task_counts_from_the_call(gator: Gator, store: Store) -> None:
    gator.options(delay_by=0.3).task(add, 1, 2)
    gator.options(delay_by=600).task(add, 1, 2)
    time.sleep(0.3)
    store.away = False

    eventually(lambda: depth(gator) == 0)

    stats = gator.stats()
    assert (stats.ready, stats.scheduled) == (1, 1)


def test_kept_task_has_its_priority_and_its_keys(gator: Gator, store: Store) -> None:
    gator.options(task_id="a", priority="low").task(add, 1, 2)
    for task_id in ("b", "d"):
        gator.options(task_id=task_id, limit_key="x").task(add, 1, 2)
    gator.options(task_id="c", priority="high", unique="k").task(add, 1, 2)
    store.away = False

    eventually(lambda: depth(gator) == 0)

    gator.options(unique="k").task(add, 1, 2)
    gator.limit(at_once=1, limit_key="x")
    assert [lease.task_id for lease in gator.client.reserve("all", limit=4)] == ["c", "b", "a"]


def test_commit_that_the_store_rejects_is_not_kept(gator: Gator, store: Store) -> None:
    store.error = BackendError("it is out of memory")

    with pytest.raises(BackendError, match="out of memory"):
        gator.task(add, 1, 2)

    assert depth(gator) == 0


def test_kept_commit_that_the_store_rejects_is_tried_again(gator: Gator, store: Store) -> None:
    gator.task(add, 1, 2)
    store.error, store.away = BackendError("it is out of memory"), False
    time.sleep(0.1)
    assert depth(gator) == 1

    store.error = None

    eventually(lambda: gator.len() == 1)


def test_commit_that_the_store_rejects_does_not_block_others(
    gator: Gator, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [gator.task(add, number, 1).task_id for number in range(3)]
    taking = store.push_many

    def refusing(
        messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        if messages[0].task_id == kept[0]:
            raise BackendError("it is too large")
        taking(messages, commit_id=commit_id)

    with monkeypatch.context() as patched:
        patched.setattr(store, "push_many", refusing)
        store.away = False
        eventually(lambda: store.pushed == kept[1:])
        eventually(lambda: depth(gator) == 1)

        eventually(lambda: spool_of(gator).content().failing == 1)
        assert spool_of(gator).content().error == "BackendError: it is too large"

    eventually(lambda: store.pushed == [*kept[1:], kept[0]])
    eventually(lambda: spool_of(gator).content().failing == 0)


@pytest.mark.parametrize("fails", [1, 1_000])
def test_commit_that_fails_twice_while_the_store_answers_is_postponed(
    gator: Gator, store: Store, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    kept = [gator.task(add, number, 1).task_id for number in range(3)]
    taking, failures = store.push_many, Counter[str]()

    def failing(
        messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        failures[messages[0].task_id] += 1
        if messages[0].task_id == kept[0] and failures[kept[0]] <= fails:
            raise BackendUnavailable("it did not answer in time")
        taking(messages, commit_id=commit_id)

    with monkeypatch.context() as patched:
        patched.setattr(store, "push_many", failing)
        store.away = False
        if fails == 1:
            eventually(lambda: store.pushed == kept)
        else:
            eventually(lambda: store.pushed == kept[1:])

    eventually(lambda: sorted(store.pushed) == sorted(kept))


def test_commit_that_cannot_be_read_does_not_block_others(
    gator: Gator, store: Store, path: Path
) -> None:
    kept = [gator.task(add, number, 1).task_id for number in range(3)]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE kept SET data = 'garbage' WHERE seq = 2")

    store.away = False

    eventually(lambda: store.pushed == [kept[0], kept[2]])
    eventually(lambda: spool_of(gator).content().failing == 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM kept")  # its relay would go on for ever


def test_large_commit_on_a_slow_link_gets_the_time_it_needs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with needed():
        running = valkey_server()
    with running as server, Proxy(server) as network:
        gator = Gator(network.dsn, spool=str(path), breaker=False)
        monkeypatch.setattr("alligator.commits.spool.BYTES_A_SECOND", 20_000)
        with network.stall(), gator.transaction():
            for _ in range(4):
                gator.task(say, "x" * 50_000)
        assert spool_of(gator).content().commits == 1

        network.bytes_a_second = 100_000  # 2 s for it, and a push may take 2 s, half of it a try

        eventually(lambda: depth(gator) == 0, 60)
        assert gator.len() == 4
        gator.client.close()


def test_push_that_arrived_late_is_not_duplicated(gator: Gator, store: Store) -> None:
    store.takes_it_all_the_same = True
    gator.task(add, 1, 2)
    with gator.transaction():
        gator.task(add, 3, 4)
    time.sleep(0.1)
    store.away = False

    eventually(lambda: depth(gator) == 0)

    assert gator.len() == 2


def test_late_undo_does_not_remove_a_newer_push(gator: Gator, store: Store) -> None:
    store.takes_it_all_the_same = True
    gator.task(add, 1, 2)
    with gator.transaction() as tx:
        gator.task(add, 3, 4)
    time.sleep(0.1)
    store.away = False
    eventually(lambda: depth(gator) == 0)
    assert tx.commit_id in store.commits

    for commit_id in store.commits[:-2]:  # as a client does who could not say so before
        assert commit_id is not None
        store.abort(commit_id, [])

    assert len({*store.commits}) == len(store.commits)
    assert gator.len() == 2


def test_kept_commit_that_is_undone_is_not_sent(gator: Gator, store: Store) -> None:
    with gator.transaction() as tx:
        task = gator.task(add, 1, 2)
    tx.undo()
    store.away = False

    assert task.status == CANCELED
    assert depth(gator) == 0
    time.sleep(0.1)
    assert store.pushed == []


def test_commit_in_the_store_is_undone_there(gator: Gator, store: Store) -> None:
    store.away = False
    with gator.transaction() as tx:
        gator.task(add, 1, 2)
    tx.undo()

    assert gator.len() == 0


def test_kept_commit_under_a_chosen_id_is_sent_under_it_and_never_undone(
    gator: Gator, store: Store
) -> None:
    store.takes_it_all_the_same = True
    messages = [Message("all", "a", "{}")]
    for _ in range(3):
        gator.committer.push(Commit(messages, "row-1", undo=False))
    assert depth(gator) == 1
    store.away = False

    eventually(lambda: depth(gator) == 0)

    assert {*store.commits} == {"row-1"}
    assert store.aborted == []
    assert gator.stats().pushed == 1


def test_gators_of_a_store_share_a_file(gator: Gator, store: Store, path: Path) -> None:
    other = make_gator(store, path, "other")
    gator.task(add, 1, 2)
    other.task(add, 1, 2)
    assert depth(gator) == depth(other) == 2
    store.away = False

    eventually(lambda: (gator.len(), other.len()) == (1, 1))


def test_next_process_sends_the_commits_of_the_last(gator: Gator, store: Store, path: Path) -> None:
    child = os.fork()
    if child == 0:  # pragma: no cover
        gator.task(add, 1, 2)
        os._exit(0)
    os.waitpid(child, 0)
    assert depth(gator) == 1
    store.away = False

    gator.task(add, 3, 4)

    eventually(lambda: gator.len() == 2)


def test_forked_child_has_its_own_relay(gator: Gator, store: Store, path: Path) -> None:
    gator.task(add, 1, 2)
    assert relays() == 1

    child = os.fork()
    if child == 0:  # pragma: no cover
        gator.task(add, 3, 4)
        os._exit(relays() != 1)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert depth(gator) == 2


def test_two_relays_do_not_send_the_same_commit(gator: Gator, store: Store, path: Path) -> None:
    kept = [gator.task(add, number, 1).task_id for number in range(40)]
    others = [make_gator(store, path) for _ in range(3)]
    for other in others:
        spool_of(other).wake()
    assert relays() == 4

    store.away = False

    eventually(lambda: depth(gator) == 0)
    assert store.pushed == kept


# Its bounds.


@pytest.mark.parametrize(
    ("bound", "value", "said"),
    [
        ("max_tasks", 3, "it holds 3 tasks"),
        ("max_bytes", 1000, "bytes"),
        ("max_age", 0.05, "the oldest has waited"),
    ],
)
def test_full_spool_is_a_503(
    gator: Gator,
    store: Store,
    caplog: pytest.LogCaptureFixture,
    bound: str,
    value: float,
    said: str,
) -> None:
    setattr(spool_of(gator), bound, value)
    get = wsgi(lambda _: Reply(200) if gator.task(add, 1, 2) else Reply(500), {"gator": gator})

    with caplog.at_level(logging.CRITICAL + 1):
        statuses = []
        for _ in range(20):
            statuses.append(get().status)
            time.sleep(0.01)

    assert statuses == sorted(statuses)
    assert {*statuses} == {200, 503}
    assert depth(gator) == statuses.count(200)
    with pytest.raises(BackendUnavailable, match=said):
        gator.task(add, 1, 2)


@pytest.mark.parametrize("site", [wsgi, asgi])
def test_full_disk_is_a_503(
    gator: Gator, store: Store, caplog: pytest.LogCaptureFixture, site: Site
) -> None:
    get = site(lambda _: Reply(200) if gator.task(add, 1, 2) else Reply(500), {"gator": gator})
    assert get().status == 200
    with spool_of(gator)._database.write(durable=True) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")

    statuses = [get().status for _ in range(40)]

    assert {*statuses} == {200, 503}
    accepted = statuses.count(200) + 1
    assert depth(gator) == accepted
    assert "no space is left" in caplog.text
    store.away = False
    eventually(lambda: gator.len() == accepted)


@pytest.mark.parametrize("spool", ["sqlite:///var/spool.db", "/var/spool/", 7, b"/spool.db"])
def test_spool_must_be_the_path_of_a_file(spool: Any) -> None:
    with pytest.raises(ConfigurationError, match="the path of a file"):
        Gator("locmem://", spool=spool)


def test_spool_belongs_to_one_store(path: Path) -> None:
    first = Gator("redis://a/0", spool=str(path))

    with pytest.raises(ConfigurationError, match="another store"):
        Gator("redis://b/0", spool=str(path))
    assert first.spool is not None


def test_file_of_a_queue_is_rejected_as_a_spool(store: Store, path: Path) -> None:
    queue = Gator(f"sqlite://{path}")
    queue.task(add, 1, 2)

    with pytest.raises(BackendUnavailable, match="database of another program"):
        make_gator(store, path).task(add, 1, 2)

    assert queue.len() == 1


def test_spool_is_readable_only_by_its_owner(gator: Gator, path: Path) -> None:
    gator.task(add, 1, 2)

    assert {file.stat().st_mode & 0o777 for file in path.parent.glob("spool.db*")} == {0o600}


def test_spool_can_be_set_in_the_environment(path: Path) -> None:
    gator = Gator.from_env({"ALLIGATOR_CONN": "locmem://", "ALLIGATOR_SPOOL": str(path)})

    assert spool_of(gator).path == str(path)
    assert Gator.from_env({"ALLIGATOR_CONN": "locmem://", "ALLIGATOR_SPOOL": ""}).spool is None


def test_spool_can_be_set_in_a_flask_application(path: Path) -> None:
    import flask

    import flask_alligator

    app = flask.Flask(__name__)
    app.config.update(ALLIGATOR_CONN="locmem://", ALLIGATOR_SPOOL=str(path))
    flask_alligator.Alligator(app)

    assert app.extensions["alligator"].spool.path == str(path)


# What health says.


class Silent(Store):
    """A store that does not answer a ping while it is unreachable."""

    def ping(self) -> None:
        if self.away:
            raise BackendUnavailable("the store does not answer")


def test_unreachable_store_with_a_spool_is_a_warning(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spool, "warnings", lambda _: [])  # the folder of the tests may be in memory
    store = Silent("locmem://")
    store.away = True
    gator = make_gator(store, path)
    before = Health(gator).verdict()
    gator.task(add, 1, 2)
    after = Health(gator).verdict()
    store.away = False
    eventually(lambda: depth(gator) == 0)

    assert before.checks["spool:depth"][0]["status"] == "pass"
    assert (after.status, after.checks["backend:responseTime"][0]["status"]) == ("warn", "warn")
    assert after.checks["spool:depth"][0]["observedValue"] == 1
    assert after.checks["spool:depth"][0]["status"] == "warn"


def test_unreachable_store_with_a_full_spool_is_a_failure(path: Path) -> None:
    store = Silent("locmem://")
    store.away = True
    gator = make_gator(store, path)
    spool_of(gator).max_tasks = 1
    gator.task(add, 1, 2)
    verdict = Health(gator).verdict()
    store.away = False
    eventually(lambda: depth(gator) == 0)

    assert verdict.status == "fail"
    assert "full" in verdict.checks["spool:depth"][0]["output"]


def test_unusable_spool_is_reported_before_it_is_needed(store: Store, tmp_path: Path) -> None:
    store.away = False
    verdict = Health(make_gator(store, tmp_path / "nowhere" / "spool.db")).verdict()

    (entry,) = verdict.checks["spool:depth"]
    assert (verdict.status, entry["status"]) == ("warn", "warn")
    assert "cannot be opened" in entry["output"]


def test_full_spool_is_no_failure_while_the_store_answers(path: Path) -> None:
    store = Silent("locmem://")
    gator = make_gator(store, path)
    spool_of(gator).max_tasks = 0

    verdict = Health(gator).verdict()

    assert verdict.status == "warn"
    assert "full" in verdict.checks["spool:depth"][0]["output"]


def test_reading_the_health_starts_the_relay(gator: Gator, store: Store, path: Path) -> None:
    child = os.fork()
    if child == 0:  # pragma: no cover
        gator.task(add, 1, 2)
        os._exit(0)
    os.waitpid(child, 0)
    store.away = False

    Health(gator).verdict()

    eventually(lambda: gator.len() == 1)


# Real processes and a real store.


APP = """
import os

from alligator import Gator
from tests.harness.sample_tasks import record
from wsgi_alligator import AlligatorEndpoint, AlligatorMiddleware

gator = Gator.from_env()
gator.client.commit_seconds = 0.5
endpoint = AlligatorEndpoint(gator, token="t" * 32)


def pages(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/health"):
        return endpoint(environ, start_response)
    gator.task(record, os.environ["OUT"], path)
    start_response("200 OK", [("X-Pid", str(os.getpid()))])
    return [b"done"]


app = AlligatorMiddleware(pages, gator)
"""


class Web:
    """Web processes that share a spool."""

    def __init__(self, server: Server, folder: Path, workers: int = 1) -> None:
        self.server = server
        self.folder = folder
        self.workers = workers
        self.out = folder / "out"
        self.gator = Gator(server, spool=str(folder / "spool.db"))
        self.answered: Counter[int] = Counter()
        (folder / "web_under_test.py").write_text(APP)
        self.start()

    def start(self) -> None:
        log = self.folder / "web.log"
        paths = [str(ROOT), str(ROOT / "integrations"), str(self.folder)]
        env = environment(
            {
                "PYTHONPATH": os.pathsep.join(paths),
                "ALLIGATOR_CONN": str(self.server),
                "ALLIGATOR_SPOOL": str(self.folder / "spool.db"),
                "OUT": str(self.out),
            }
        )
        options = ["-b", "127.0.0.1:0", "--threads", "8", "-w", str(self.workers)]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "web_under_test:app", *options],
                env=env,
                cwd=self.folder,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        eventually(lambda: "Listening at: " in log.read_text())
        self.url = log.read_text().partition("Listening at: ")[2].partition(" ")[0]

    def get(self, path: str) -> httpx.Response:
        answer = get(self.url + path)
        self.answered[answer.status_code] += 1
        return answer

    def health(self) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {'t' * 32}"}
        found: dict[str, Any] = httpx.get(f"{self.url}/health", headers=headers, timeout=20).json()
        return found

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ran(self) -> list[str]:
        """Drain the queue, and return what ran."""
        Worker(self.gator, burst=True, log_level=logging.CRITICAL).run_forever()
        return lines(self.out)


@pytest.fixture
def server() -> Iterator[Server]:
    with needed(), valkey_server(appendonly="yes") as server:
        yield server


@contextmanager
def web_on(server: Server, folder: Path, workers: int = 1) -> Iterator[Web]:
    pytest.importorskip("gunicorn")
    web = Web(server, folder, workers)
    try:
        yield web
    finally:
        web.kill()


def away(server: Server) -> Callable[[], None]:
    server.kill()
    return server.start


def frozen(server: Server) -> Callable[[], None]:
    server.freeze()
    return server.thaw


@pytest.mark.parametrize("leave", [away, frozen])
def test_tasks_accepted_during_an_outage_run_once_after_it(
    server: Server, tmp_path: Path, leave: Callable[[Server], Callable[[], None]]
) -> None:
    with web_on(server, tmp_path) as web:
        assert web.get("/0").status_code == 200
        eventually(lambda: depth(web.gator) == 0)  # a busy machine may have kept it
        come_back = leave(server)
        for number in range(1, 13):
            assert web.get(f"/{number}").status_code == 200
        assert depth(web.gator) == 12
        assert web.health()["status"] == "warn"

        come_back()

        eventually(lambda: depth(web.gator) == 0)
        time.sleep(1.5)  # for who undoes a commit that had been given up
        assert web.gator.len() == 13
        assert web.ran() == [f"/{number}" for number in range(13)]


def test_spool_of_a_killed_web_process_is_sent_by_the_next(server: Server, tmp_path: Path) -> None:
    with web_on(server, tmp_path) as web:
        server.kill()
        for number in range(8):
            assert web.get(f"/{number}").status_code == 200
        web.kill()
        server.start()
        time.sleep(0.5)
        assert (depth(web.gator), web.gator.len()) == (8, 0)

        web.start()
        web.health()

        eventually(lambda: depth(web.gator) == 0)
        assert web.ran() == [f"/{number}" for number in range(8)]


def test_web_processes_share_a_spool(server: Server, tmp_path: Path) -> None:
    with web_on(server, tmp_path, workers=2) as web:
        eventually(lambda: len({web.get("/warm").headers["x-pid"] for _ in range(8)}) == 2)
        warm = web.answered[200]
        eventually(lambda: depth(web.gator) == 0)
        server.kill()
        pids: set[str] = set()
        paths: list[str] = []
        while len(paths) < 30 or len(pids) < 2:  # the system may prefer one of them for a while
            paths.append(f"/{len(paths)}")
            pids.add(web.get(paths[-1]).headers["x-pid"])
        assert depth(web.gator) == len(paths)

        server.start()

        eventually(lambda: depth(web.gator) == 0)
        assert web.gator.len() == len(paths) + warm
        ran = web.ran()
        assert [path for path in ran if path != "/warm"] == paths


def test_relay_that_is_killed_at_any_moment_loses_nothing(server: Server, tmp_path: Path) -> None:
    with web_on(server, tmp_path) as web:
        server.kill()
        for number in range(60):
            assert web.get(f"/{number}").status_code == 200
        server.start()
        for _ in range(2):  # each goes a part of the way
            before = depth(web.gator)
            eventually(lambda before=before: depth(web.gator) < max(before, 1))  # type: ignore[misc]
            web.kill()
            web.start()
            web.health()

        eventually(lambda: depth(web.gator) == 0)
        assert Counter(web.ran()) == Counter(f"/{number}" for number in range(60))


def test_spool_is_intact_after_all_these_faults(server: Server, tmp_path: Path) -> None:
    with web_on(server, tmp_path) as web:
        server.kill()
        for number in range(5):
            web.get(f"/{number}")
        web.kill()

        with closing(sqlite3.connect(tmp_path / "spool.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
