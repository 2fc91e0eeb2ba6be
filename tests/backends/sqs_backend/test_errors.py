"""Errors of SQS, and what they say."""

import pytest

from alligator.backends.sqs_backend import Client
from alligator.exceptions import BackendError, BackendUnavailable
from tests.harness.sqs_queues import push


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("AccessDenied", BackendError, "IAM policy"),
        ("InvalidClientTokenId", BackendError, "does not accept the credentials"),
        ("SignatureDoesNotMatch", BackendError, "does not accept the credentials"),
        ("ThrottlingException", BackendUnavailable, "throttling"),
        ("RequestThrottled", BackendUnavailable, "throttling"),
        ("OverLimit", BackendUnavailable, "in flight"),
        ("ServiceUnavailable", BackendUnavailable, "not available"),
        ("AWS.SimpleQueueService.NonExistentQueue", BackendError, "no such queue"),
        ("AWS.SimpleQueueService.PurgeQueueInProgress", BackendUnavailable, "60 seconds"),
        ("Whatever", BackendError, "Whatever"),
    ],
)
def test_error_of_sqs_is_explained(
    client: Client, code: str, kind: type[BackendError], words: str
) -> None:
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]

    error = client._sqs.explain(ClientError({"Error": {"Code": code}}, "SendMessage"))

    assert words in str(error)
    assert isinstance(error, BackendUnavailable) == (kind is BackendUnavailable)


def test_server_that_does_not_run_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    client = Client("sqs+http://127.0.0.1:9/?region=us-east-1")

    with pytest.raises(BackendUnavailable, match="cannot be reached"):
        push(client, "a")
    with pytest.raises(BackendUnavailable, match="cannot be reached"):
        client.ping()
    client.close()
