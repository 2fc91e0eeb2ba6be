"""The demo: real requests, a real server, a real worker, and the outcome of the tasks."""

from argparse import ArgumentParser
from contextlib import ExitStack

import httpx
from rich.markup import escape

from alligator.exceptions import AlligatorException
from examples.processes import stop_on_signals

from .screen import Screen
from .stage import Stage, stage
from .story import Story


def main() -> int:
    """Run the demo, or only its processes; return an exit status."""
    parser = ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--redis", metavar="DSN", help="keep the queue there and not in SQLite")
    parser.add_argument(
        "--postgres", metavar="DSN", help="play the story of orders and tasks in that database"
    )
    parser.add_argument(
        "--serve", action="store_true", help="start everything, and leave it running"
    )
    arguments = parser.parse_args()
    screen = Screen()
    stop_on_signals()
    try:
        if arguments.postgres:
            return play_orders(arguments.postgres, screen)
        with ExitStack() as stack:
            with screen.waiting("Starting a server..."):
                ready = stack.enter_context(stage(arguments.redis))
                ready.invite()
            return serve(ready, screen) if arguments.serve else play(ready, screen)
    except KeyboardInterrupt:
        screen.say("\nStopped. Nothing is left running.")
        return 0 if arguments.serve else 130
    except ModuleNotFoundError as error:
        screen.say(
            f"[bold red]{error.name} is missing:[/] pip install 'alligator\\[demo-postgres]'"
        )
        return 1
    except (AlligatorException, OSError, RuntimeError, ValueError, httpx.HTTPError) as error:
        screen.say(f"[bold red]The demo failed:[/] {escape(str(error) or repr(error))}")
        return 1


def play(ready: Stage, screen: Screen) -> int:
    """Run the story, and report the result."""
    introduce(ready, screen)
    try:
        Story(ready, screen).play()
    except Exception:
        screen.lines("the end of the server's log", ready.server.said().splitlines()[-20:])
        raise
    if screen.failures:
        screen.lines("the end of the server's log", ready.server.said().splitlines()[-20:])
        screen.say(f"\n[bold red]{screen.failures} promises were not kept.[/]")
        return 1
    screen.say(
        "\n[bold green]Every promise was kept.[/]\n"
        "What next: [bold]make serve[/] leaves it running for your browser. The code that\n"
        "you saw at work is [bold]examples/social_network/app.py[/]."
    )
    return 0


def play_orders(dsn: str, screen: Screen) -> int:
    """Run the story of orders in a PostgreSQL database, and report the result."""
    import psycopg

    from .orders import OrdersStory, shop  # they need more packages than the rest

    with ExitStack() as stack:
        try:
            with screen.waiting("Starting a server..."):
                opened = stack.enter_context(shop(dsn))
        except psycopg.Error as error:
            raise RuntimeError(str(error)) from error
        OrdersStory(opened, screen).play()
    if screen.failures:
        screen.say(f"\n[bold red]{screen.failures} promises were not kept.[/]")
        return 1
    screen.say(
        "\n[bold green]Every promise was kept.[/] The demo has removed its schemas.\n"
        "The code that you saw at work is [bold]examples/orders_fastapi/app.py[/]."
    )
    return 0


def serve(ready: Stage, screen: Screen) -> int:
    """Run until the server ends, or the user interrupts."""
    ready.start_worker()
    introduce(ready, screen)
    screen.say(
        "Open the first address and post something, as ann, for ann has followers.\n"
        f"The dashboard asks for this word: [bold]{ready.token}[/]\n"
        f"The numbers: curl -H 'Authorization: Bearer {ready.token}' {ready.url}/alligator/stats\n"
        "[bold]Ctrl-C ends all of it.[/]"
    )
    return ready.server.wait()


def introduce(ready: Stage, screen: Screen) -> None:
    """Print which process runs where."""
    facts = {
        "the page": f"{ready.url}/",
        "the dashboard": f"{ready.url}/operator",
        "health": f"{ready.url}/alligator/health",
        "the server": f"gunicorn with Flask, pid {ready.server.pid}",
    }
    if ready.worker is not None:
        facts["the worker"] = f"latergator, pid {ready.worker.pid}"
    facts["the queue"] = f"{ready.store.name}: {ready.gator!r}"
    screen.facts("Alligator, on stage", facts)


if __name__ == "__main__":
    raise SystemExit(main())
