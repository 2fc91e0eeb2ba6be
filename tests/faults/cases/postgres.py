"""Faults of a PostgreSQL server: crashed, restarted, frozen, its processes killed, its network cut."""

from contextlib import suppress

import psycopg

from tests.faults.catalogue import fault
from tests.faults.harness import Harness
from tests.faults.proxy import Mishap, Proxy
from tests.harness.postgres_servers import pgbouncer

CRASHES = 4


@fault("postgres", quick=True)
def server_crashed(harness: Harness) -> None:
    """Crash the server under load, and let it recover: it may forget reports of workers, but no task."""
    harness.forgets_reports = True
    server = harness.postgres.server
    harness.web()
    harness.worker()
    harness.worker()
    with harness.traffic(task="work"):
        for _ in range(CRASHES):
            harness.pause(0.3, 0.9)
            with harness.outage():
                server.crash()
                harness.pause(0, 0.3)
                server.start()
            harness.wait_until_well()
        harness.pause(0.2, 0.4)


@fault("postgres")
def server_restarted(harness: Harness) -> None:
    """Restart the server under load."""
    server = harness.postgres.server
    harness.web()
    harness.worker()
    with harness.traffic(task="work"):
        for _ in range(2):
            harness.pause(0.3, 0.7)
            with harness.outage():
                server.stop()
                server.start()
            harness.wait_until_well()


@fault("postgres", quick=True)
def server_frozen(harness: Harness) -> None:
    """Freeze all processes of the server for longer than a commit may take."""
    server = harness.postgres.server
    harness.web()
    harness.worker()
    harness.wait_until_well()
    with harness.traffic(task="work"):
        for _ in range(2):
            harness.pause(0.2, 0.5)
            with harness.outage():
                server.freeze()
                harness.pause(2.5, 3)
                server.thaw()
            harness.wait_until_well()


@fault("postgres")
def sessions_terminated(harness: Harness) -> None:
    """End all sessions of web server and workers, again and again, under load."""
    harness.web()
    harness.worker()
    harness.worker()
    with harness.traffic(task="work"):
        for _ in range(10):
            harness.pause(0.1, 0.3)
            with harness.outage():
                harness.postgres.query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'alligator'"
                )
        harness.wait_until_well()


@fault("postgres")
def tables_locked(harness: Harness) -> None:
    """Lock the tables for longer than a commit may take, as a migration or VACUUM FULL does."""
    harness.web()
    harness.worker()
    harness.wait_until_well()
    with harness.traffic(task="work"), psycopg.connect(harness.store.dsn) as other:
        for _ in range(2):
            harness.pause(0.2, 0.5)
            with harness.outage():
                other.execute("LOCK TABLE alligator.task IN ACCESS EXCLUSIVE MODE")
                harness.pause(2.5, 3)
                other.rollback()
            harness.wait_until_well()


@fault("postgres")
def connections_cut(harness: Harness) -> None:
    """Cut all connections of web server and workers at random moments under load."""
    with Proxy(harness.store.dsn) as proxy:
        harness.dsn = proxy.leading_to(harness.store.dsn)
        harness.lossy = True
        harness.web()
        harness.worker()
        harness.worker()
        with harness.traffic(task="work"):
            for _ in range(40):
                harness.pause(0.01, 0.1)
                with harness.outage():
                    for _ in range(2):
                        proxy.mishaps.append(Mishap.somewhere(harness.random))
                    proxy.cut_all()
            proxy.mishaps.clear()
        harness.drain()


@fault("postgres")
def connections_stalled(harness: Harness) -> None:
    """Hold all data for longer than a commit may take, and deliver it then."""
    with Proxy(harness.store.dsn) as proxy:
        harness.dsn = proxy.leading_to(harness.store.dsn)
        harness.web()
        harness.worker()
        harness.wait_until_well()
        with harness.traffic():
            for _ in range(2):
                harness.pause(0.2, 0.4)
                with harness.outage(), proxy.stall():
                    harness.pause(2.5, 3)
                harness.wait_until_well()
        harness.drain()


@fault("postgres")
def snapshot_held(harness: Harness) -> None:
    """Hold an old snapshot while tasks run: dead rows cannot be removed."""
    harness.web()
    harness.worker()
    with psycopg.connect(harness.store.dsn) as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        with harness.traffic():
            harness.injections += 1
            harness.pause(3, 4)
        harness.mark()
        harness.drain()
        with suppress(psycopg.Error):
            old.rollback()


@fault("postgres")
def pgbouncer_killed(harness: Harness) -> None:
    """Kill the PgBouncer before the server under load, again and again, and start it again."""
    with pgbouncer(harness.postgres.server) as bouncer:
        harness.dsn = bouncer.dsn
        harness.web()
        harness.worker()
        harness.worker()
        with harness.traffic(task="work"):
            for _ in range(CRASHES):
                harness.pause(0.3, 0.9)
                with harness.outage():
                    bouncer.kill()
                    harness.pause(0, 0.3)
                    bouncer.start()
                harness.wait_until_well()
        harness.drain()
