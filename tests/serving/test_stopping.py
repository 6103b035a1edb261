import os
import random
import signal
import threading
import time

from serving.stopping import StopSignals


def test_a_signal_at_any_moment_ends_the_wait() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    signals, rng = StopSignals([signal.SIGUSR1]), random.Random(1)
    try:
        for _ in range(300):
            # about the time that it takes to get into the wait
            timer = threading.Timer(rng.random() * 2e-4, os.kill, (os.getpid(), signal.SIGUSR1))
            timer.start()
            assert signals.wait(20)
            timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_without_a_signal_the_wait_ends_in_time() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    assert StopSignals([signal.SIGUSR1]).wait(0.001) is False
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_that_another_thread_gets_ends_the_wait() -> None:
    """The kernel may give it to any thread; the one that waits is then not woken by it."""
    before = signal.getsignal(signal.SIGUSR1)
    signals, done = StopSignals([signal.SIGUSR1]), threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    assert other.ident is not None
    # 0.1 s: long after this thread went to sleep
    timer = threading.Timer(0.1, signal.pthread_kill, (other.ident, signal.SIGUSR1))
    timer.start()
    start = time.monotonic()
    assert signals.wait(60)
    assert time.monotonic() - start < 30
    timer.join()
    done.set()
    other.join()
    signal.signal(signal.SIGUSR1, before)
