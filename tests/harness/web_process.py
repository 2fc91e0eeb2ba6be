"""A web server as a process, on a port that it chooses, or the system for it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.harness.programs import ROOT, environment, eventually

LISTENING = re.compile(
    r"(?:[Ll]istening at:?|[Rr]unning on|Serving on|TCP address) (?:http://)?(127\.0\.0\.1:\d+)"
)


class WebProcess(NamedTuple):
    """A server that accepts connections at *url*."""

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path


@contextmanager
def web_process(command: Sequence[str], folder: Path, **env: str) -> Iterator[WebProcess]:
    """Run Python with the arguments *command* in *folder*; kill it and its children at the end."""
    if "granian" in command:  # it does not log the port that it has chosen
        command = [*command, "--port", str(_free_port())]
    log = folder / "server.log"
    path = os.pathsep.join([str(ROOT), str(ROOT / "integrations"), str(folder)])
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, *command],
            env=environment({"PYTHONPATH": path, **env}),
            cwd=folder,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        eventually(lambda: process.poll() is not None or _is_open(_url(log)))
        assert process.poll() is None, log.read_text()
        yield WebProcess(process, _url(log), log)
    except BaseException as error:
        error.add_note(log.read_text()[-2000:])
        raise
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _url(log: Path) -> str:
    found = LISTENING.search(log.read_text())
    return f"http://{found[1]}" if found else ""


def _is_open(url: str) -> bool:
    """Return whether the port is open: some servers log it before they listen."""
    if not url:
        return False
    with suppress(OSError), socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))):
        return True
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
