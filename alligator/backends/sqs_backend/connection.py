"""Requests to SQS: each has a time limit. Queues are found or created, and errors explained."""

import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any, Protocol

from botocore import exceptions as boto_errors  # type: ignore[import-untyped]

from ...exceptions import BackendError, BackendUnavailable, ConfigurationError
from .credentials import Credentials, Timeouts
from .dsn import DEAD, NAME_LENGTH, Settings, decode, encode, read_dsn
from .envelope import MAX_BYTES, Body, Item, batches, write_all
from .errors import (
    QueueNotFound,
    Refused,
    StaleReceipt,
    Unanswered,
    explained,
    explained_entry,
    is_about_credentials,
)

CONNECT_SECONDS = 0.5
PUSH_TIMEOUTS = Timeouts(CONNECT_SECONDS, 1.0)
"""How long a push or a health check waits for an answer."""
SHORT_TIMEOUTS = Timeouts(0.2, 0.3)
"""The same, if less time than that is left."""
LOOKUP_SECONDS = 2.0
"""How long a worker waits for what SQS answers at once, including the search for credentials."""
WORKER_SECONDS = 5.0
"""How long a worker waits for an answer, in addition to the time of a long poll."""

BATCH = 10
"""How many messages one call sends or receives at most."""

PAUSE_SECONDS = 0.2
"""How long to wait before failed messages of a batch are sent again."""

RECEIVES = 100
"""After how many receives SQS itself dead-letters a message: a safety net above our own limit."""

DAY = 86_400
RETENTION = 14 * DAY
"""How long SQS keeps a message at most, in seconds."""

SMALL_BYTES = 256 * 1024
"""The size limit of a queue that was created before 2025, unless it was raised."""

ATTRIBUTES = {
    "MaximumMessageSize": str(MAX_BYTES),
    "MessageRetentionPeriod": str(RETENTION),
    "VisibilityTimeout": "60",
}


class FindQueue(Protocol):
    """Return the URL of a queue, or of its dead letters; create the queue if it is missing."""

    def __call__(self, name: str, *, dead: bool = False, deadline: float | None = None) -> str: ...


class Connection:
    """SQS of one account in one region, with the URLs and the size limits of its queues.

    boto3 makes the requests but repeats none: only the caller knows whether a repetition is safe.
    A *deadline* is a time of the monotonic clock.
    """

    def __init__(self, conn_string: str) -> None:
        self.settings: Settings = read_dsn(conn_string)
        self.store: str = self.settings.store
        self._worker_timeouts = Timeouts(
            CONNECT_SECONDS, WORKER_SECONDS + max(self.settings.poll, 1)
        )
        self._reset()

    def _reset(self) -> None:
        """Start empty, as a child must not use what its parent has opened."""
        self._credentials = Credentials(self.settings)
        self._urls: dict[str, str] = {}
        self._size_limits: dict[str, int] = {}
        self._callers: set[int] = set()
        """The threads that are in a call."""
        self._pid = os.getpid()  # last: a thread that sees the new process id uses the other fields

    def close(self) -> None:
        """Close idle connections. A later call opens new ones."""
        self._credentials.close()

    def client(self, *, deadline: float | None = None) -> Any:
        """Return boto3's client for a call that ends before *deadline*. Threads may share it."""
        if self._pid != os.getpid():
            self._reset()
        if deadline is None:
            timeouts = self._worker_timeouts
            return self._credentials.client(timeouts, monotonic() + timeouts.total)
        left = deadline - monotonic()
        for timeouts in (self._worker_timeouts, PUSH_TIMEOUTS, SHORT_TIMEOUTS):
            if timeouts.total <= left:
                return self._credentials.client(timeouts, deadline)
        raise BackendUnavailable(f"{self.store} did not answer in time")

    def call(
        self, operation: str, *, deadline: float | None = None, **params: Any
    ) -> dict[str, Any]:
        """Return the reply to one request; raise its error explained. It ends before *deadline*."""
        try:
            with self._used_by_this_thread():
                client = self.client(deadline=deadline)
                reply: dict[str, Any] = getattr(client, operation)(**params)
        except boto_errors.NoRegionError:
            raise ConfigurationError(
                f"{self.store} names no region: {self._region_hint()}, or set AWS_REGION"
            ) from None
        except (boto_errors.BotoCoreError, boto_errors.ClientError) as error:
            raise self.explain(error) from error
        return reply

    @contextmanager
    def _used_by_this_thread(self) -> Iterator[None]:
        """Reject a second call by the same thread: the first may hold locks, also those of boto3."""
        if self._pid != os.getpid():
            self._reset()
        this = threading.get_ident()
        if this in self._callers:
            raise BackendError(
                f"{self.store} is in use by the same thread: a signal handler has interrupted a call. "
                "Set a flag in the handler, and start tasks outside of it."
            )
        try:
            self._callers.add(this)
            yield
        finally:
            self._callers.discard(this)

    def _region_hint(self) -> str:
        if self.settings.endpoint:
            return "add ?region=eu-west-1 to the DSN"
        return "write it as in sqs://eu-west-1/"

    def explain(self, error: Exception) -> BackendError:
        """Return *error* explained; forget cached URLs or credentials that it proves wrong."""
        if is_about_credentials(error):
            self._credentials.forget()
        found = explained(error, self.store)
        if isinstance(found, QueueNotFound):
            self._urls.clear()
        return found

    # Batches of messages. All return the errors of failed messages by their positions.

    def send(self, url: str, bodies: Sequence[Body]) -> dict[int, BackendError]:
        """Send messages, several with each call."""
        entries = [{"MessageBody": body.text, "DelaySeconds": body.delay} for body in bodies]
        return self._batch("send_message_batch", url, entries, batches(bodies, BATCH))

    def delete(self, url: str, receipts: Sequence[str]) -> dict[int, BackendError]:
        """Delete messages. A message that was deleted before is no failure."""
        entries = [{"ReceiptHandle": receipt} for receipt in receipts]
        failed = self._batch("delete_message_batch", url, entries, _tens(entries))
        return {
            place: error for place, error in failed.items() if not isinstance(error, StaleReceipt)
        }

    def hide(self, url: str, receipts: Sequence[str], seconds: int) -> dict[int, BackendError]:
        """Hide messages from other receivers for *seconds* from now."""
        entries = [{"ReceiptHandle": receipt, "VisibilityTimeout": seconds} for receipt in receipts]
        return self._batch("change_message_visibility_batch", url, entries, _tens(entries))

    def _batch(
        self,
        operation: str,
        url: str,
        entries: Sequence[Mapping[str, Any]],
        calls: Iterable[list[int]],
    ) -> dict[int, BackendError]:
        """Make all *calls*, each for the entries at its positions.

        After a call that was not answered or was refused as a whole, the rest is not tried, because
        it would fail as well.
        """
        failed: dict[int, BackendError] = {}
        fatal: BackendError | None = None
        for places in calls:
            if fatal is None:
                fatal = self._call_twice(operation, url, entries, places, failed)
            else:
                failed.update(dict.fromkeys(places, fatal))
        return failed

    def _call_twice(
        self,
        operation: str,
        url: str,
        entries: Sequence[Mapping[str, Any]],
        places: list[int],
        failed: dict[int, BackendError],
    ) -> BackendError | None:
        """Make one call, and after a pause a second one for the entries that SQS failed to process.

        Keeps *failed* up to date. Returns an error that other calls would meet as well.
        """
        for attempt in range(2):
            if attempt:
                sleep(PAUSE_SECONDS)
            named = [{"Id": str(place), **entries[place]} for place in places]
            try:
                reply = self.call(operation, QueueUrl=url, Entries=named)
            except BackendError as error:
                failed.update(dict.fromkeys(places, error))
                if isinstance(error, Unanswered) or not isinstance(error, BackendUnavailable):
                    return error
                continue
            for place in places:
                failed.pop(place, None)
            rejected = reply.get("Failed", ())
            failed.update({int(each["Id"]): explained_entry(each, self.store) for each in rejected})
            places = [int(each["Id"]) for each in rejected if not each["SenderFault"]]
            if not places:
                break
        return None

    def try_to_send(self, url: str, *, deadline: float) -> None:
        """Raise the error that SQS would return for any message, without sending one."""
        try:
            self.call("send_message_batch", deadline=deadline, QueueUrl=url, Entries=[])
        except (BackendUnavailable, QueueNotFound, Refused):
            raise
        except BackendError:
            pass  # SQS refuses an empty batch only after its other checks

    # Queues.

    def name(self, queue_name: str, *, dead: bool = False) -> str:
        """Return the name of a queue in SQS; raise `ConfigurationError` if it is too long."""
        encoded = encode(queue_name)
        name = self.settings.prefix + encoded
        if not encoded or len(name + DEAD) > NAME_LENGTH:
            raise ConfigurationError(
                f"{queue_name[:100]!r} cannot be the name of a queue in SQS: with prefix and escapes it "
                f"has {len(name)} characters, and may have 1 to {NAME_LENGTH - len(DEAD)}"
            )
        return name + DEAD if dead else name

    def find(
        self, queue_name: str, *, dead: bool = False, deadline: float | None = None
    ) -> str | None:
        """Return the URL of a queue, or of its dead letters; None if there is no such queue."""
        name = self.name(queue_name, dead=dead)
        if self._pid != os.getpid():
            self._reset()
        url = self._urls.get(name)
        if url is None:
            try:
                deadline = self._lookup_deadline(deadline)
                reply = self.call("get_queue_url", deadline=deadline, QueueName=name)
            except QueueNotFound:
                return None
            url = self._urls[name] = str(reply["QueueUrl"])
        return url

    def queue(self, queue_name: str, *, dead: bool = False, deadline: float | None = None) -> str:
        """Return the URL of a queue, and create the queue if it is missing."""
        url = self.find(queue_name, dead=dead, deadline=deadline)
        if url is not None:
            return url
        name = self.name(queue_name, dead=dead)
        if not self.settings.create:
            raise self.queue_not_found(name)
        attributes = dict(ATTRIBUTES)
        if not dead:
            target = self.queue(queue_name, dead=True, deadline=deadline)
            arn = self.attributes(target, "QueueArn", deadline=deadline)["QueueArn"]
            attributes["RedrivePolicy"] = json.dumps(
                {"deadLetterTargetArn": arn, "maxReceiveCount": RECEIVES}
            )
        try:
            reply = self.call(
                "create_queue", deadline=deadline, QueueName=name, Attributes=attributes
            )
        except BackendError:
            # Another process may have created it meanwhile.
            url = self.find(queue_name, dead=dead, deadline=deadline)
            if url is None:
                raise
            return url
        self._urls[name] = str(reply["QueueUrl"])
        return self._urls[name]

    def queue_not_found(self, name: str) -> QueueNotFound:
        """Return an error that shows how to create the queue of that *name* in SQS."""
        return QueueNotFound(
            f"{self.store} has no queue {name}, and create=no: aws sqs create-queue "
            f"--queue-name {name} --attributes MessageRetentionPeriod={RETENTION},"
            f"MaximumMessageSize={MAX_BYTES}"
        )

    def attributes(self, url: str, *names: str, deadline: float | None = None) -> dict[str, str]:
        """Return attributes of a queue."""
        reply = self.call(
            "get_queue_attributes",
            deadline=self._lookup_deadline(deadline),
            QueueUrl=url,
            AttributeNames=[*names],
        )
        found: dict[str, str] = reply.get("Attributes", {})
        return found

    def size_limit(self, url: str, *, deadline: float | None = None) -> int:
        """Return how many bytes a message on that queue may have."""
        if url not in self._size_limits:
            found = self.attributes(url, "MaximumMessageSize", deadline=deadline)
            limit = int(found.get("MaximumMessageSize", SMALL_BYTES))
            self._size_limits[url] = min(MAX_BYTES, limit)
        return self._size_limits[url]

    def pack(self, url: str, items: Sequence[Item], *, deadline: float | None = None) -> list[Body]:
        """Return messages that hold *items*, as few as that queue allows."""
        bodies = write_all(items)
        if max(len(body.text) for body in bodies) <= SMALL_BYTES:
            return bodies
        return write_all(items, self.size_limit(url, deadline=deadline))

    def _lookup_deadline(self, deadline: float | None) -> float:
        return monotonic() + LOOKUP_SECONDS if deadline is None else deadline

    def names(self) -> list[str]:
        """Return the names of the queues that begin with the prefix."""
        found: list[str] = []
        params: dict[str, Any] = {"QueueNamePrefix": self.settings.prefix, "MaxResults": 1000}
        while True:
            reply = self.call("list_queues", **params)
            urls = reply.get("QueueUrls", ())
            names = [url.rpartition("/")[2].removeprefix(self.settings.prefix) for url in urls]
            found += [decode(name) for name in names if not name.endswith((DEAD, ".fifo"))]
            if not reply.get("NextToken"):
                return found
            params["NextToken"] = reply["NextToken"]


def _tens(entries: Sequence[object]) -> list[list[int]]:
    """Return the positions of *entries*, ten for each call."""
    places = range(len(entries))
    return [[*places[start : start + BATCH]] for start in places[::BATCH]]
