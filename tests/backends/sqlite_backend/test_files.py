"""The files that SQLite's store creates, and where they are."""

import stat
from pathlib import Path

from alligator.backends.sqlite_backend import Client


def test_created_files_can_be_read_by_their_owner_only(client: Client, path: Path) -> None:
    client.push("mail", "a", "1")
    client.wait(["print"], 0.01)

    made = {file for file in path.parent.rglob("*") if file != path.parent}
    assert {"queue.db", "queue.db-wal", "queue.db-wake"} <= {file.name for file in made}
    for file in made:
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


def test_file_on_a_local_disk_gives_no_warning(client: Client) -> None:
    assert [said for said in client.warnings() if "memory" not in said] == []
