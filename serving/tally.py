"""Counts since the start of the process: what GetStatus says."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable


class Tally:
    """Counters by name and label, for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, label: str = "", n: int = 1) -> None:
        """Count `n` more."""
        with self._lock:
            self._counts[name, label] += n

    def add_each(self, name: str, labels: Iterable[str]) -> None:
        """Count one more of each label."""
        with self._lock:
            for label in labels:
                self._counts[name, label] += 1

    def of(self, name: str) -> dict[str, int]:
        """Counts by label."""
        with self._lock:
            return {label: n for (counted, label), n in self._counts.items() if counted == name}

    def total(self, name: str) -> int:
        """Over all labels."""
        return sum(self.of(name).values())
