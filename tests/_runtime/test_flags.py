"""Each thread sees an interrupt once."""

from threading import Thread

from alligator._runtime.flags import InterruptFlag


def ask_in_a_thread(flag: InterruptFlag) -> list[bool]:
    answers: list[bool] = []
    thread = Thread(target=lambda: answers.extend([flag.is_new(), flag.is_new()]))
    thread.start()
    thread.join()
    return answers


def test_flag_is_new_only_after_it_was_set() -> None:
    flag = InterruptFlag()

    assert not flag.is_new()
    flag.set()
    assert flag.is_new()
    assert not flag.is_new()
    flag.set()
    flag.set()
    assert flag.is_new()
    assert not flag.is_new()


def test_each_thread_sees_an_interrupt_once() -> None:
    flag = InterruptFlag()
    flag.set()

    assert ask_in_a_thread(flag) == [True, False]
    assert ask_in_a_thread(flag) == [True, False]
    assert flag.is_new()
