"""When a task is due, and when it expires."""

from datetime import timedelta
from time import time

import pytest

from alligator.exceptions import InvalidOption, MultipleDelayError
from alligator.tasks.stored_options import due_at, expiry_after


def test_task_is_due_after_its_delay_or_at_its_moment() -> None:
    before = time()
    due = due_at(timedelta(seconds=60), None)

    assert due is not None
    assert before + 60 <= due <= time() + 60
    assert due_at(None, before) == before
    assert due_at(None, None) is None
    with pytest.raises(MultipleDelayError):
        due_at(60, before)


def test_task_that_expires_before_it_is_due_is_refused() -> None:
    moment = time() + 60

    assert expiry_after(120, moment) > moment
    assert expiry_after(30, None) < moment
    with pytest.raises(InvalidOption, match=r"expires is 30, but the task is due only later"):
        expiry_after(30, moment)
