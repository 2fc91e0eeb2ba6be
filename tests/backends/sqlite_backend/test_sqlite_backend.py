"""The client of a SQLite file: its path, its start, and its end."""

import os
from pathlib import Path

import pytest

from alligator.backends.sqlite_backend import Client


def test_new_client_creates_no_file(path: Path) -> None:
    Client(f"sqlite://{path}")

    assert not path.exists()


def test_relative_path_is_resolved_when_the_client_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = Client("sqlite://sub.db")
    monkeypatch.chdir("/")

    client.ping()
    client.close()

    assert (tmp_path / "sub.db").exists()


def test_setup_tables_of_1_0_does_no_harm(client: Client) -> None:
    client.setup_tables()
    client.push("mail", "a", "1")
    client.setup_tables("mail")

    assert client.len("mail") == 1


def test_closed_client_leaves_one_file(client: Client, path: Path) -> None:
    client.push("mail", "a", "1")
    client.wait(["print"], 0.01)

    client.close()

    assert [file for file in path.parent.rglob("*") if not file.is_dir()] == [path]


def test_collected_client_closes_its_files(path: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    client = Client(f"sqlite://{path}")
    client.push("mail", "a", "1")
    client.wait(["print"], 0.01)

    del client

    assert len(os.listdir("/dev/fd")) == before
