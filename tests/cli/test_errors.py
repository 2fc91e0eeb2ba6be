"""Errors are one line and contain no password."""

from pathlib import Path

import pytest

from tests.harness.command_line import invoke
from tests.harness.programs import run


@pytest.mark.parametrize("command", [[], ["worker"], ["stats"], ["health"], ["dead", "list"]])
def test_scheme_that_is_unknown_is_one_line(command: list[str]) -> None:
    result = run(*command, "pigeon://user:p4ssw0rd@loft")

    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "pigeon://user:***@loft" in result.stderr
    assert "redis://" in result.stderr


@pytest.mark.parametrize(
    "dsn",
    [
        "redis:/u:Hunter2@h",
        "redis:u:Hunter2",
        "redis//u:Hunter2@h",
        "//u:Hunter2@h",
        "u:Hunter2@h",
        "redis://Hunter2@h/0x",
        "redis://u:Hunter2/0",
        "sqlite://u:Hunter2@/..",
        "u:Hunter2@redis://h",
        "redis:/u:Hunter2'\\@h",
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        [],
        ["worker"],
        ["stats"],
        ["health"],
        ["dead"],
        ["dead", "list"],
        ["stats", "sqlite:///q.db"],
        ["--concurrency"],
        ["--processes=2", "sqlite:///q.db"],
        ["stast"],
    ],
    ids=" ".join,
)
def test_error_for_a_mistyped_dsn_hides_its_password(command: list[str], dsn: str) -> None:
    result = invoke(*command, dsn)

    assert result.exit_code != 0
    assert result.stderr
    assert "Hunter2" not in result.output + result.stderr


def test_error_for_a_wrong_dsn_hides_its_password() -> None:
    result = invoke("stats", "redis://app:p4ssw0rd@host:port/0")

    assert result.exit_code == 2
    assert "p4ssw0rd" not in result.output


def test_library_that_is_missing_is_named_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "redis.py").write_text("raise ModuleNotFoundError('no redis', name='redis')\n")

    result = run("stats", "redis://localhost", env={"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"})

    assert result.returncode == 2
    assert result.stderr.splitlines() == ["Error: redis:// needs: pip install 'alligator[redis]'"]
