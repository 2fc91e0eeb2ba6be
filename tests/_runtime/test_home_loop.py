"""A loop is made when it is first needed."""

from alligator._runtime.event_loops import LoopOfThread
from alligator._runtime.home_loop import LazyLoop


async def nothing() -> str:
    return "ran"


def test_lazy_loop_is_made_once_when_something_is_awaited() -> None:
    made: list[LoopOfThread] = []

    def make() -> LoopOfThread:
        made.append(LoopOfThread())
        return made[-1]

    lazy = LazyLoop(make)
    before = (lazy.loop, len(made))

    assert [lazy.run(nothing()) for _ in range(2)] == ["ran", "ran"]
    assert before == (None, 0)
    assert len(made) == 1
    assert lazy.loop is made[0].loop
    made[0].close()
