"""The numbers of a batch before a payload."""

import pytest

from alligator.payload.batch import Batch, batch_in, with_batch_of, without_batch
from alligator.payload.envelope import content_in, join, name_in, split

TASK = '{"task_id": "a", "module": "shop", "callable": "send"}'


def test_numbers_come_before_the_payload() -> None:
    data = Batch(10, 2).before(TASK)

    assert batch_in(data) == Batch(tasks=10, dead=2)
    assert without_batch(data) == TASK
    assert with_batch_of(data, "{}") == "batch:10,2 {}"


@pytest.mark.parametrize(
    "data",
    ["", "{}", "batch:", "batch:1 {}", "batch:1,x {}", "batch:-1,0 {}", "batch:1234567890,0 {}"],
)
def test_other_payload_has_no_numbers(data: str) -> None:
    assert batch_in(data) is None
    assert without_batch(data) == data
    assert with_batch_of(data, "{}") == "{}"


def test_envelope_is_read_without_the_numbers() -> None:
    data = Batch(1, 0).before(join("00ff", TASK))

    assert split(data) == ("00ff", TASK)
    assert name_in(data) == "shop.send"
    assert content_in(data) is not None
