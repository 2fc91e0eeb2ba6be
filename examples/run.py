"""Run the server and the worker of an example: ``python -m examples.run social_network``."""

import os
from argparse import ArgumentParser
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from .processes import SERVERS, serving, stop_on_signals, working


def main() -> int:
    """Run an example until Ctrl-C."""
    parser = ArgumentParser(prog="python -m examples.run", description=__doc__)
    parser.add_argument("example", choices=SERVERS)
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (%(default)s)")
    arguments = parser.parse_args()
    stop_on_signals()
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="alligator-")))
            environ = {
                "DATA": str(folder),
                "ALLIGATOR_CONN": f"sqlite://{folder}/queue.db",
                **os.environ,
            }
            server, url = stack.enter_context(
                serving(arguments.example, folder / "log", environ, arguments.port)
            )
            print(f"{arguments.example}: {url}/ (Ctrl-C ends it)", flush=True)
            stack.enter_context(working(None, environ, arguments.example))
            return server.wait()
    except KeyboardInterrupt:
        return 0
    except RuntimeError as error:
        print(error)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
