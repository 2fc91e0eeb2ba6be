"""Reach SQS: bound every wait, find and make queues, put errors into words."""

import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from boto3.session import Session  # type: ignore[import-untyped]
from botocore import exceptions as errors  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]

from ..exceptions import BackendError, BackendUnavailable, ConfigurationError
from .sqs_dsn import DEAD, NAME_LENGTH, Settings, decode, encode, read_dsn
from .sqs_parcel import MAX_BYTES, Body, batches

CONNECT_SECONDS = 0.5
QUICK_SECONDS = 1.0
"""How long a push or a probe waits for an answer."""
PATIENT_SECONDS = 5.0
"""How long a worker waits for an answer, besides what it has asked SQS to wait."""

BATCH = 10
"""How many messages one call takes, or gives."""

RECEIVES = 100
"""How often a message may be received before SQS itself buries it: a net below our own count."""

DAY = 86_400
RETENTION = 14 * DAY
"""How long a message is kept at most, in seconds."""

SMALL_BYTES = 256 * 1024
"""What a message of a queue made before 2025 may hold, unless somebody has raised it."""

ATTRIBUTES = {
    "MaximumMessageSize": str(MAX_BYTES),
    "MessageRetentionPeriod": str(RETENTION),
    "VisibilityTimeout": "60",
}

# What to say of an error with one of these words in its code or name. The refusals are lasting, the
# troubles pass.
REFUSALS = {
    "ACCESSDENIED": "forbids it: the IAM policy lacks that action for that queue",
    "NOCREDENTIALS": "needs credentials, which boto3 did not find: set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role; a local server takes any",
    "CREDENTIAL": "does not accept the credentials that boto3 found",
    "TOKEN": "does not accept the credentials that boto3 found",
    "SIGNATURE": "does not accept the credentials that boto3 found, or the clock is wrong",
    "KMS": "cannot use the key that the queue is encrypted with",
}
TROUBLES = {
    "THROTTL": "is asked too often",
    "OVERLIMIT": "has too many messages in flight",
    "TIMEOUT": "did not answer in time",
    "CONNECTION": "cannot be reached",
    "HTTPCLIENT": "cannot be reached",
    "PURGEQUEUEINPROGRESS": "drops a queue once in 60 seconds: try again later",
    "DELETEDRECENTLY": "makes no queue of a name that was deleted less than 60 seconds ago",
    "UNAVAILABLE": "is not available",
    "INTERNAL": "has a trouble of its own",
}
STALE = ("RECEIPTHANDLE", "NOTINFLIGHT", "INVALIDPARAMETERVALUE")


class NoQueue(BackendError):
    """There is no such queue in SQS."""


class Stale(BackendError):
    """The message is in other hands by now, or gone."""


class Connection:
    """One account's SQS in one region, and what is known of its queues.

    boto3 makes the requests. It repeats none of them: whoever calls knows whether that is right.
    """

    def __init__(self, conn_string: str) -> None:
        self.settings: Settings = read_dsn(conn_string)
        self.store: str = self.settings.store
        self._forget()

    def _forget(self) -> None:
        """Begin anew: what a parent process has open is not for its child."""
        self._pid = os.getpid()
        # Through its module, for gevent may have patched it since: credentials are waited for in it.
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[bool, Any] = {}
        self._urls: dict[str, str] = {}
        self._rooms: dict[str, int] = {}

    def close(self) -> None:
        """Close what is idle; a later use opens it again."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def client(self, *, quick: bool = False) -> Any:
        """Give boto3's client, which threads may share."""
        if self._pid != os.getpid():
            self._forget()
        client = self._clients.get(quick)
        if client is None:
            with self._lock:  # boto3's sessions are not for several threads
                client = self._clients.get(quick)
                if client is None:
                    client = self._clients[quick] = self._open(quick)
        return client

    def _open(self, quick: bool) -> Any:
        answer = QUICK_SECONDS if quick else PATIENT_SECONDS + max(self.settings.poll, 1)
        if self._session is None:
            self._session = Session()
        return self._session.client(
            "sqs",
            region_name=self.settings.region,
            endpoint_url=self.settings.endpoint,
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=answer,
                retries={"total_max_attempts": 1},
                max_pool_connections=100,
                user_agent_extra="alligator",
            ),
        )

    def call(self, operation: str, *, quick: bool = False, **params: Any) -> dict[str, Any]:
        """Make one request, its errors explained."""
        try:
            reply: dict[str, Any] = getattr(self.client(quick=quick), operation)(**params)
        except errors.NoRegionError:
            raise ConfigurationError(
                f"{self.store} names no region: sqs://eu-west-1/, or set AWS_REGION"
            ) from None
        except (errors.BotoCoreError, errors.ClientError) as error:
            raise self.explain(error) from error
        return reply

    # Several messages at a time.

    def send(self, url: str, bodies: Sequence[Body]) -> dict[int, BackendError]:
        """Send messages, those of a batch together; return what failed, by its place."""
        entries = [{"MessageBody": body.text, "DelaySeconds": body.delay} for body in bodies]
        return self._batch("send_message_batch", url, entries, batches(bodies, BATCH))

    def delete(self, url: str, receipts: Sequence[str]) -> dict[int, BackendError]:
        """Delete messages; return what failed, but for those that were gone."""
        entries = [{"ReceiptHandle": receipt} for receipt in receipts]
        failed = self._batch("delete_message_batch", url, entries, _tens(entries))
        return {place: why for place, why in failed.items() if not isinstance(why, Stale)}

    def hide(self, url: str, receipts: Sequence[str], seconds: int) -> dict[int, BackendError]:
        """Hide messages for that long from now; return what failed."""
        entries = [{"ReceiptHandle": receipt, "VisibilityTimeout": seconds} for receipt in receipts]
        return self._batch("change_message_visibility_batch", url, entries, _tens(entries))

    def _batch(
        self,
        operation: str,
        url: str,
        entries: Sequence[Mapping[str, Any]],
        calls: Iterable[list[int]],
    ) -> dict[int, BackendError]:
        """Make as many *calls* as are given; repeat once what failed in SQS, with HTTP 200."""
        failed: dict[int, BackendError] = {}
        broken: BackendError | None = None
        for places in calls:
            for _ in range(2):
                if broken is None and places:
                    named = [{"Id": str(place), **entries[place]} for place in places]
                    try:
                        reply = self.call(operation, QueueUrl=url, Entries=named)
                    except BackendError as error:
                        broken = error
                        break
                    for place in places:
                        failed.pop(place, None)
                    found = reply.get("Failed", ())
                    failed.update({int(each["Id"]): self._failure(each) for each in found})
                    places = [int(each["Id"]) for each in found if not each["SenderFault"]]
            if broken is not None:
                failed.update(dict.fromkeys(places, broken))
        return failed

    def _failure(self, entry: Mapping[str, Any]) -> BackendError:
        code, text = entry["Code"], entry.get("Message", "")
        if not entry["SenderFault"]:
            return BackendUnavailable(f"{self.store} failed: {code} {text}")
        if any(word in code.upper() for word in STALE):
            return Stale(f"{self.store}: {code} {text}")
        return BackendError(f"{self.store} refused a message: {code} {text}")

    # Queues.

    def name(self, queue_name: str, *, dead: bool = False) -> str:
        """Give the name that a queue has in SQS."""
        encoded = encode(queue_name)
        name = self.settings.prefix + encoded
        if not encoded or len(name + DEAD) > NAME_LENGTH:
            raise ConfigurationError(
                f"{queue_name[:100]!r} is no name for a queue in SQS: with prefix and escapes it has "
                f"{len(name)} characters, and may have 1 to {NAME_LENGTH - len(DEAD)}"
            )
        return name + DEAD if dead else name

    def find(self, queue_name: str, *, dead: bool = False) -> str | None:
        """Find the URL of a queue, or of its dead letters; None when there is none."""
        name = self.name(queue_name, dead=dead)
        if self._pid != os.getpid():
            self._forget()
        url = self._urls.get(name)
        if url is None:
            try:
                reply = self.call("get_queue_url", quick=True, QueueName=name)
            except NoQueue:
                return None
            url = self._urls[name] = str(reply["QueueUrl"])
        return url

    def queue(self, queue_name: str, *, dead: bool = False) -> str:
        """Find the URL of a queue, and make the queue when it is missing."""
        url = self.find(queue_name, dead=dead)
        if url is not None:
            return url
        name = self.name(queue_name, dead=dead)
        if not self.settings.create:
            raise NoQueue(
                f"{self.store} has no queue {name}, and create=no: aws sqs create-queue "
                f"--queue-name {name} --attributes MessageRetentionPeriod={RETENTION}"
            )
        attributes = dict(ATTRIBUTES)
        if not dead:
            target = self.attributes(self.queue(queue_name, dead=True), "QueueArn")["QueueArn"]
            attributes["RedrivePolicy"] = json.dumps(
                {"deadLetterTargetArn": target, "maxReceiveCount": RECEIVES}
            )
        try:
            reply = self.call("create_queue", QueueName=name, Attributes=attributes)
        except BackendError:
            url = self.find(queue_name, dead=dead)  # another process was quicker
            if url is None:
                raise
            return url
        self._urls[name] = str(reply["QueueUrl"])
        return self._urls[name]

    def attributes(self, url: str, *names: str, quick: bool = True) -> dict[str, str]:
        """Ask for attributes of a queue."""
        reply = self.call(
            "get_queue_attributes", quick=quick, QueueUrl=url, AttributeNames=[*names]
        )
        found: dict[str, str] = reply.get("Attributes", {})
        return found

    def room(self, url: str) -> int:
        """Tell how many bytes a message of that queue may have."""
        if url not in self._rooms:
            found = self.attributes(url, "MaximumMessageSize")
            self._rooms[url] = min(MAX_BYTES, int(found.get("MaximumMessageSize", SMALL_BYTES)))
        return self._rooms[url]

    def names(self) -> list[str]:
        """Name the queues whose names begin with our prefix."""
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

    def explain(self, error: Exception) -> BackendError:
        """Put *error* into words that say what to do."""
        code, status = type(error).__name__, 0
        if isinstance(error, errors.ClientError):
            code = error.response.get("Error", {}).get("Code", "")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        word = code.upper()
        if "NONEXISTENTQUEUE" in word or "QUEUEDOESNOTEXIST" in word:
            self._urls.clear()
            return NoQueue(f"{self.store} has no such queue ({error})")
        for part, saying in TROUBLES.items():
            if part in word:
                return BackendUnavailable(f"{self.store} {saying} ({error})")
        for part, saying in REFUSALS.items():
            if part in word:
                return BackendError(f"{self.store} {saying} ({error})")
        kind = BackendUnavailable if status >= 500 else BackendError
        return kind(f"{self.store}: {error}")


def _tens(entries: Sequence[object]) -> list[list[int]]:
    places = range(len(entries))
    return [[*places[start : start + BATCH]] for start in places[::BATCH]]


def raise_any(failed: Mapping[int, BackendError]) -> None:
    """Raise the first of what failed, if anything has."""
    for error in failed.values():
        raise error
