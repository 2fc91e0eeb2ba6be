"""Suggestions for words that are neither a command nor a DSN."""

import pytest

from alligator.cli import main
from tests.harness.command_line import invoke


def test_word_that_is_neither_command_nor_dsn_is_an_error() -> None:
    result = invoke("stast")

    assert result.exit_code == 2
    assert "neither a command nor a DSN" in result.stderr


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["stat", "redis://host"], "latergator stats"),
        (["wroker"], "latergator worker"),
        (["haelth"], "latergator health"),
        (["queues"], "latergator stats"),
        (["failed"], "latergator dead list"),
        (["dead", "lsit"], "dead list"),
        (["queue.db"], "sqlite://queue.db"),
        (["/var/lib/queue.db"], "sqlite:///var/lib/queue.db"),
        (["worker", "queue.db"], "sqlite://queue.db"),
        (["localhost:6379"], "redis://localhost:6379"),
        (["stats", "redsi://host"], "redis://"),
    ],
)
def test_word_that_is_wrong_is_answered_with_the_nearest(words: list[str], meant: str) -> None:
    result = invoke(*words)

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "Did you mean" in result.stderr
    assert meant in result.stderr


@pytest.mark.parametrize("word", ["vacuum", "upgrade"])
def test_word_that_is_like_no_command_is_answered_with_all(word: str) -> None:
    result = invoke(word)

    assert result.exit_code == 2
    assert f"Commands: {', '.join(main.commands)}." in result.stderr


def test_word_that_may_contain_a_password_is_not_repeated() -> None:
    result = invoke("app:p4ssw0rd@host:6379")

    assert result.exit_code == 2
    assert "p4ssw0rd" not in result.stderr
    assert "redis://" in result.stderr
