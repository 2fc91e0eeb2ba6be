"""Open boto3's clients, and find their credentials in a thread that blocks no other thread."""

import threading
from time import monotonic
from typing import Any, NamedTuple

from boto3.session import Session  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import NoCredentialsError  # type: ignore[import-untyped]

from ...exceptions import BackendUnavailable
from .dsn import Settings

EARLY_SECONDS = 900
"""How long before they expire credentials are renewed in the background."""
LATE_SECONDS = 30
"""How long before they expire no new call uses them."""
SEARCH_SECONDS = 60.0
"""Seconds between two searches for credentials that expire soon, at least."""
FORGET_SECONDS = 1.0
"""For how long after a search refused credentials cause no new search."""


class Timeouts(NamedTuple):
    """Time limits of a call, in seconds."""

    connect: float
    read: float

    @property
    def total(self) -> float:
        return self.connect + self.read


class Credentials:
    """The credentials of this process, and a boto3 client for each `Timeouts`.

    boto3 limits neither how long a credentials endpoint may take, nor how many threads wait for it
    one after the other. So one thread asks it, and each caller waits only until its own deadline.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Looked up in its module, because gevent may have patched it after this import.
        self._lock = threading.Lock()
        self._search: _Search | None = None
        self._found: _Found | None = None

    def client(self, timeouts: Timeouts, deadline: float) -> Any:
        """Return boto3's client, which threads may share; wait for credentials until *deadline*."""
        found = self._found
        if found is None or found.expires_within(LATE_SECONDS):
            found = self._wait(self._start_search(), deadline)
        elif found.age > SEARCH_SECONDS and found.expires_within(EARLY_SECONDS):
            self._start_search()
        return found.client(timeouts)

    def forget(self) -> None:
        """Search again with the next call, because SQS has refused these credentials."""
        found = self._found
        if found is not None and found.age > FORGET_SECONDS:
            self._found = None

    def close(self) -> None:
        """Close idle connections. A later call opens new ones."""
        if self._found is not None:
            self._found.close()

    def _start_search(self) -> "_Search":
        """Return the current search for credentials; start one if there is none."""
        with self._lock:
            search = self._search
            if search is None:
                search = _Search()
                thread = threading.Thread(
                    target=self._run, args=(search,), name="alligator-credentials", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:
                    no_thread = BackendUnavailable(
                        f"could not start a thread that searches for credentials: {error}"
                    )
                    no_thread.is_local = True
                    raise no_thread from error
                self._search = search
        return search

    def _wait(self, search: "_Search", deadline: float) -> "_Found":
        if not search.done.wait(max(0.0, deadline - monotonic())):
            raise BackendUnavailable(
                f"{self._settings.store} was not called, because there are no credentials yet: the "
                "source that boto3 uses (the metadata of the machine or container, or a login service) "
                "does not answer"
            )
        if search.found is None:
            raise search.error
        return search.found

    def _run(self, search: "_Search") -> None:
        before = self._found
        try:
            search.found = self._found = _Found(self._settings, before)
        except Exception as error:
            search.error = error
            if before is not None and before.expires_within(LATE_SECONDS):
                self._found = None  # the next search starts from nothing
        finally:
            with self._lock:
                self._search = None
            search.done.set()


class _Search:
    """A search for credentials, and its result."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.found: _Found | None = None
        self.error: Exception = RuntimeError("the search for credentials did not end")


class _Found:
    """Credentials, and the clients that use them."""

    def __init__(self, settings: Settings, before: "_Found | None") -> None:
        """Search for credentials; those found *before* are renewed by the same source."""
        self._settings = settings
        self._clients: dict[Timeouts, Any] = {}
        if before is None:
            self._lock = threading.Lock()
            self._session: Any = Session()
            self._credentials: Any = self._session.get_credentials()
        else:
            self._lock = before._lock
            self._session, self._credentials = before._session, before._credentials
        if self._credentials is None:
            raise NoCredentialsError
        self._frozen: Any = self._credentials.get_frozen_credentials()
        self._began = monotonic()

    @property
    def age(self) -> float:
        """Seconds since the search."""
        return monotonic() - self._began

    def expires_within(self, seconds: float) -> bool:
        """Return whether they expire within *seconds*."""
        needs_refresh = getattr(self._credentials, "refresh_needed", None)
        return needs_refresh is not None and bool(needs_refresh(seconds))

    def client(self, timeouts: Timeouts) -> Any:
        """Return the client with these time limits."""
        client = self._clients.get(timeouts)
        if client is None:
            with self._lock:  # boto3's sessions are not thread-safe
                client = self._clients.get(timeouts)
                if client is None:
                    client = self._clients[timeouts] = self._open(timeouts)
        return client

    def _open(self, timeouts: Timeouts) -> Any:
        return self._session.client(
            "sqs",
            region_name=self._settings.region,
            endpoint_url=self._settings.endpoint,
            # A copy, because boto3 would renew the original during a call.
            aws_access_key_id=self._frozen.access_key,
            aws_secret_access_key=self._frozen.secret_key,
            aws_session_token=self._frozen.token,
            config=Config(
                connect_timeout=timeouts.connect,
                read_timeout=timeouts.read,
                retries={"total_max_attempts": 1},
                max_pool_connections=100,
                user_agent_extra="alligator",
            ),
        )

    def close(self) -> None:
        """Close the connections."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()
