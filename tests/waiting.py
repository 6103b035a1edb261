"""Waiting for another process or thread in a test: by looking, with an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def until(what: Callable[[], bool], seconds: float = 30) -> None:
    """Return as soon as `what` holds; fail after `seconds`."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        pause.wait(0.01)
