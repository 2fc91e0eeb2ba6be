"""Errors of SQS and boto3, in words that say what to do."""

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from ...exceptions import BackendError, BackendUnavailable

# Each key is part of the code or the name of an error. Permanent errors stay until somebody changes
# the set-up; transient ones pass.
PERMANENT = {
    "ACCESSDENIED": "denies access: the IAM policy lacks that action for that queue",
    "CREDENTIAL": "does not accept the credentials that boto3 found",
    "TOKEN": "does not accept the credentials that boto3 found",
    "SIGNATURE": "does not accept the credentials that boto3 found, or the clock is wrong",
    "KMS": "cannot use the key that the queue is encrypted with",
}
TRANSIENT = {
    # Not permanent, because a machine or a container may get its role after it has started.
    "NOCREDENTIALS": "needs credentials, and boto3 found none: set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role; a local server accepts any",
    "RETRIEVAL": "needs credentials, and the source that boto3 uses returned none",
    "EXPIRED": "does not accept the credentials that boto3 found, because they have expired",
    "THROTTL": "is throttling: it gets too many requests",
    "OVERLIMIT": "has too many messages in flight",
    "TIMEOUT": "did not answer in time",
    "CONNECTION": "cannot be reached",
    "HTTPCLIENT": "cannot be reached",
    "PURGEQUEUEINPROGRESS": "purges a queue only once in 60 seconds: try again later",
    "DELETEDRECENTLY": "creates no queue whose name was deleted less than 60 seconds ago",
    "UNAVAILABLE": "is not available",
    "INTERNAL": "has an internal error",
}
CREDENTIALS = ("EXPIRED", "TOKEN", "SIGNATURE", "CREDENTIAL", "UNRECOGNIZEDCLIENT", "ACCESSKEY")
"""Errors after which boto3 may find other credentials."""
STALE = ("RECEIPTHANDLE", "NOTINFLIGHT", "INVALIDPARAMETERVALUE")


class QueueNotFound(BackendError):
    """SQS has no queue of that name."""


class Unanswered(BackendUnavailable):
    """SQS was not reached, or its answer was lost: it may or may not have done what was requested."""


class Refused(BackendError):
    """The policy, the credentials or an encryption key do not allow the request."""


class StaleReceipt(BackendError):
    """The message was received again by someone else, or was deleted."""


def explained(error: Exception, store: str) -> BackendError:
    """Return an error of boto3 as one that says what to do."""
    code, status = _code_of(error)
    unavailable = BackendUnavailable if isinstance(error, ClientError) else Unanswered
    if "NONEXISTENTQUEUE" in code or "QUEUEDOESNOTEXIST" in code:
        return QueueNotFound(f"{store} has no such queue ({error})")
    for part, text in TRANSIENT.items():
        if part in code:
            return unavailable(f"{store} {text} ({error})")
    for part, text in PERMANENT.items():
        if part in code:
            return Refused(f"{store} {text} ({error})")
    kind = unavailable if status >= 500 else BackendError
    return kind(f"{store}: {error}")


def explained_entry(entry: Mapping[str, Any], store: str) -> BackendError:
    """Return the error of one message of a batch."""
    code, text = entry["Code"], entry.get("Message", "")
    if not entry["SenderFault"]:
        return BackendUnavailable(f"{store} failed: {code} {text}")
    if any(part in code.upper() for part in STALE):
        return StaleReceipt(f"{store}: {code} {text}")
    return BackendError(f"{store} refused a message: {code} {text}")


def is_about_credentials(error: Exception) -> bool:
    """Return whether other credentials might help."""
    code, _ = _code_of(error)
    return any(part in code for part in CREDENTIALS)


def raise_first(failed: Mapping[int, BackendError]) -> None:
    """Raise the first of the errors, if there are any."""
    for error in failed.values():
        raise error


def _code_of(error: Exception) -> tuple[str, int]:
    """Return the code of an error in capitals, and the HTTP status of the reply or 0."""
    if not isinstance(error, ClientError):
        return type(error).__name__.upper(), 0
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code.upper(), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
