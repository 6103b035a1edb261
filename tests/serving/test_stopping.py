import os
import random
import signal
import threading

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
