"""Counts and times since the start of the process: what GetStatus and the metrics say."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

Labels = tuple[str, ...]
Counts = dict[str, dict[Labels, float]]
Times = dict[str, dict[Labels, list[float]]]
Note = tuple[str, Labels, float]

# Upper edges of buckets, seconds: fine around what an answer takes and around the 50 ms that no answer should take.
SECONDS: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # fmt: skip
_CANDIDATES: Final = (10.0, 20.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0, 750.0, 1000.0, 2000.0, 5000.0)
_EDGES: Final = {"candidates": _CANDIDATES}


def edges_of(name: str) -> tuple[float, ...]:
    """Upper edges of the buckets of a histogram, ascending; above the last there is one more."""
    return _EDGES.get(name, SECONDS)


class Tally:
    """Counters and histograms by name and labels, for many threads."""

    def __init__(self, *, detailed: bool = False) -> None:
        """`detailed`: somebody reads more than GetStatus says, so that the details of every page are worth their microseconds."""
        self.detailed = detailed
        self._lock = threading.Lock()
        self._counts: Counts = {}
        self._times: Times = {}

    def add(self, name: str, label: str = "", n: float = 1) -> None:
        """Count `n` more."""
        self.note([(name, (label,), n)])

    def note(self, counts: Iterable[Note], values: Iterable[Note] = ()) -> None:
        """Count, and put values into histograms, in one step."""
        with self._lock:
            for name, labels, n in counts:
                of = self._counts.get(name)
                if of is None:
                    of = self._counts[name] = {}
                of[labels] = of.get(labels, 0) + n
            for name, labels, value in values:
                found = self._times.setdefault(name, {})
                held = found.get(labels)
                if held is None:
                    held = found[labels] = [0.0] * (len(edges_of(name)) + 2)
                held[0] += value
                held[1 + bisect_left(edges_of(name), value)] += 1

    def expect(self, counts: Iterable[tuple[str, str]], values: Iterable[tuple[str, str]]) -> None:
        """Counters and histograms, by name and only label, that begin at 0: else nobody sees their first count as one more."""
        self.note([(name, (label,), 0) for name, label in counts])
        with self._lock:
            for name, label in values:
                self._times.setdefault(name, {}).setdefault((label,), [0.0] * (len(edges_of(name)) + 2))

    def of(self, name: str, at: int = 0) -> dict[str, int]:
        """Counts by the label at the place `at`."""
        found: dict[str, int] = {}
        with self._lock:
            for labels, n in self._counts.get(name, {}).items():
                found[labels[at]] = found.get(labels[at], 0) + round(n)
        return found

    def total(self, name: str) -> int:
        """Over all labels."""
        return sum(self.of(name).values())

    def copy(self) -> tuple[Counts, Times]:
        """All of it now: counters; of each histogram the sum, then the values in each bucket (not cumulated), the last above every edge."""
        with self._lock:
            counts = {name: dict(of) for name, of in self._counts.items()}
            return counts, {name: {k: list(v) for k, v in of.items()} for name, of in self._times.items()}
