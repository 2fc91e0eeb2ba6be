"""Standard streams that are closed, broken or missing disturb nothing."""

import io
import subprocess
import sys

import pytest

from alligator._runtime import streams
from tests.harness.programs import environment


def run_shell(redirections: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code, started with some of its streams closed."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {redirections}', sys.executable, code],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


class Broken(io.StringIO):
    """A stream that fails at everything."""

    def flush(self) -> None:
        raise BrokenPipeError

    def isatty(self) -> bool:
        raise ValueError


@pytest.mark.parametrize("stream", [None, Broken(), object()], ids=["none", "broken", "no stream"])
def test_broken_stream_is_no_terminal_and_can_be_flushed(
    stream: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", stream)

    streams.flush()

    assert not streams.is_terminal(stream)


@pytest.mark.parametrize("redirections", ["", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_exit_now_uses_its_status_with_any_streams(redirections: str) -> None:
    code = (
        "import sys, logging; from alligator._runtime.streams import exit_now\n"
        "print('last words')\n"
        "exit_now(7)\n"
    )

    done = run_shell(redirections, code)

    assert done.returncode == 7
    assert done.stdout == (
        "" if ">&- 2" in redirections or redirections == ">&-" else "last words\n"
    )


def test_exit_now_works_after_a_task_closed_the_streams() -> None:
    code = (
        "import sys; from alligator._runtime.streams import exit_now\n"
        "sys.stdout.close(); sys.stderr.close(); exit_now(7)"
    )

    assert run_shell("", code).returncode == 7


@pytest.mark.parametrize("redirections", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_missing_stream(redirections: str) -> None:
    code = (
        "import sys; from alligator._runtime.streams import open_missing\n"
        "open_missing()\n"
        "print('out'); print('err', file=sys.stderr)\n"
        "sys.exit(7 if open('/dev/null').fileno() > 2 else 1)"
    )

    assert run_shell(redirections, code).returncode == 7
