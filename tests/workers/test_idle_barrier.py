"""When all threads of a burst are idle at the same moment."""

from concurrent.futures import ThreadPoolExecutor

from alligator.workers.idle_barrier import IdleBarrier


def test_one_thread_alone_does_not_wait() -> None:
    assert IdleBarrier(1).wait(20)


def test_thread_waits_in_vain_while_others_are_busy() -> None:
    assert not IdleBarrier(2).wait(0.01)


def test_all_threads_leave_when_the_last_one_comes() -> None:
    barrier = IdleBarrier(3)

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(barrier.wait, [20, 20, 20])) == [True, True, True]


def test_threads_that_wait_do_not_wait_for_one_that_has_ended() -> None:
    barrier = IdleBarrier(2)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(barrier.wait, 20)
        barrier.leave()

        assert waiting.result()


def test_thread_that_continued_is_not_counted() -> None:
    barrier = IdleBarrier(2)
    barrier.wait(0)

    assert not barrier.wait(0)
