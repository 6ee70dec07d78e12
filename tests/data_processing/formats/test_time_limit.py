"""The end of work that takes too long."""

import signal
import threading
import time

import pytest

from data_processing.formats.time_limit import TooSlow, time_limit


def work(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_work_that_takes_too_long_is_interrupted_soon_and_work_in_time_is_not():
    with time_limit(5.0):
        work(0.01)
    begin = time.process_time()
    with pytest.raises(TooSlow), time_limit(0.05):
        work(5.0)
    assert time.process_time() - begin < 1.0


def test_a_library_that_swallows_all_exceptions_cannot_swallow_it():
    with pytest.raises(TooSlow), time_limit(0.05):
        for _ in range(100):
            try:
                work(0.05)
            except Exception:  # noqa: BLE001 - what such libraries do
                continue


def test_waiting_costs_no_time():
    with time_limit(0.2):
        time.sleep(0.3)


def test_in_another_thread_it_is_noticed_at_the_end():
    caught: list[BaseException] = []

    def run() -> None:
        try:
            with time_limit(0.02):
                work(0.1)
        except TooSlow as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_what_others_do_with_the_signal_comes_back():
    previous = signal.signal(signal.SIGPROF, signal.SIG_IGN)
    try:
        with pytest.raises(TooSlow), time_limit(0.02):
            work(1.0)
        with time_limit(1.0):
            pass
        assert signal.getsignal(signal.SIGPROF) == signal.SIG_IGN
        assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGPROF, previous)
