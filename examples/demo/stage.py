"""The processes of the demo: the social network under gunicorn, a worker, and a store."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from mailbox import Maildir
from pathlib import Path
from secrets import token_urlsafe
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from uuid import uuid4

import httpx

from alligator import Gator
from examples.processes import PATIENCE, Process, own_environ, serving, working

from .stores import RedisStore, SqliteStore, Store

EXAMPLE = "social_network"
FOLLOWERS = ("bob", "cy", "dee")


class Stage:
    """The running server, its worker and its store."""

    def __init__(
        self, folder: Path, store: Store, environ: dict[str, str], server: Process, url: str
    ) -> None:
        self.store = store
        self.server = server
        self.url = url
        self.token = environ["ALLIGATOR_TOKEN"]
        self.gator = Gator(store.direct)
        self.worker: Process | None = None
        self._folder = folder
        self._environ = environ
        self._stack = ExitStack()
        self._client = httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False)

    def start_worker(self) -> None:
        """Start a worker."""
        log = self._folder / "worker.log"
        self.worker = self._stack.enter_context(working(log, self._environ, EXAMPLE))

    def post(self, path: str, **form: str) -> httpx.Response:
        """Send a form, as a browser does."""
        return self._client.post(path, data=form)

    def get(self, path: str, *, token: str = "") -> httpx.Response:
        """Request a page."""
        return self._client.get(path, headers={"Authorization": f"Bearer {token}"} if token else {})

    def mails(self) -> list[tuple[str, str]]:
        """Return the recipients and the subjects of the mails that the worker has sent."""
        box = Maildir(self._folder / "outbox")
        return sorted((mail["To"], mail["Subject"]) for mail in box)

    def invite(self) -> None:
        """Sign up ann and three followers."""
        people = [{"name": name, "email": address(name)} for name in ("ann", *FOLLOWERS)]
        follows = [{"follower": name, "followed": "ann"} for name in FOLLOWERS]
        for path, forms in {"/people": people, "/follows": follows}.items():
            for form in forms:
                answer = self.post(path, **form)
                if answer.status_code != 303:
                    raise RuntimeError(f"{path} answered {answer.status_code}: {answer.text}")

    def close(self) -> None:
        """Stop the worker, and close connections."""
        self._stack.close()
        self._client.close()
        self.gator.client.close()


@contextmanager
def stage(redis: str | None) -> Iterator[Stage]:
    """Start the processes, with *redis* or SQLite; remove everything at the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="alligator-")))
        store = stack.enter_context(closing(RedisStore(redis) if redis else SqliteStore(folder)))
        environ = {
            **own_environ(),
            "DATA": str(folder),
            "ALLIGATOR_CONN": store.dsn,
            "ALLIGATOR_TOKEN": token_urlsafe(16),
        }
        server, url = stack.enter_context(serving(EXAMPLE, folder / "log", environ))
        yield stack.enter_context(closing(Stage(folder, store, environ, server, url)))


def until(done: Callable[[], bool]) -> bool:
    """Wait until *done* is true; return False if it takes too long."""
    deadline = monotonic() + PATIENCE
    while not done():
        if monotonic() > deadline:
            return False
        sleep(0.02)
    return True


def new_key() -> str:
    """Return a new key for a form."""
    return uuid4().hex


def address(name: str) -> str:
    """Return a mail address."""
    return f"{name}@example.org"
