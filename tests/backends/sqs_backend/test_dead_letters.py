"""Dead letters in SQS."""

from alligator.backends.sqs_backend import Client
from tests.harness.sqs_queues import RawQueue, push, take


def test_dead_letters_can_be_read_again_at_once(client: Client) -> None:
    push(client, *(f"t{n}" for n in range(12)))
    for lease in client.reserve("mail", limit=12):
        client.dead_letter(lease, reason="no luck", traceback="x" * 100)

    one, two = client.dead_letters("mail"), client.dead_letters("mail")

    assert len(one) == 12
    assert {letter.task_id for letter in one} == {letter.task_id for letter in two}


def test_dead_task_can_be_retried_or_dropped(client: Client) -> None:
    push(client, "a", "b")
    for lease in client.reserve("mail", limit=2):
        client.dead_letter(lease, reason="no luck")

    assert client.retry_dead("mail", "a")
    assert not client.retry_dead("mail", "a")
    assert client.drop_dead("mail", "b")
    assert not client.drop_dead("mail", "b")

    assert client.dead_letters("mail") == []
    lease = take(client)
    assert (lease.task_id, lease.data, lease.lost) == ("a", "data of a", 0)


def test_dead_letter_moved_back_by_redrive_is_a_task(client: Client) -> None:
    push(client, "a")
    client.dead_letter(take(client), reason="no luck")
    (body,) = RawQueue(client, dead=True).bodies()

    RawQueue(client).send(body)

    assert take(client).data == "data of a"


def test_message_dead_lettered_by_sqs_is_listed_by_task(client: Client) -> None:
    push(client, "a", "b")
    (body,) = RawQueue(client).bodies()
    RawQueue(client, dead=True).send(body)

    letters = client.dead_letters("mail")

    assert [letter.task_id for letter in letters] == ["a", "b"]
    assert "SQS moved it to the dead letters" in letters[0].reason
    assert client.drop_dead("mail", "a")
    assert client.retry_dead("mail", "b")
    assert client.dead_letters("mail") == []
