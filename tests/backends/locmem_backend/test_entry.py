"""One push of a task in memory."""

from alligator.backends.locmem_backend.entry import RUNS, Entry


def test_token_differs_from_run_to_run_and_from_push_to_push() -> None:
    first, second = Entry("a", "{}", 0, None), Entry("a", "{}", 0, None)
    before = first.token
    first.runs += 1

    assert len({before, first.token, second.token}) == 3
    assert first.token // RUNS == before // RUNS == first.number
