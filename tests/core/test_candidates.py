"""The union of sources: each item once, every source's score for each, the rank only from those that proposed it."""

from dataclasses import dataclass

import numpy as np

from core.candidates import gather
from core.columns import Array
from core.history import Query


@dataclass(frozen=True)
class Fixed:
    """A source with the same opinion on every query: `scores[row]`."""

    name: str
    scores: tuple[float, ...]

    def scoring(self, query: Query) -> "Fixed":
        return self

    def top(self, k: int, excluded: Array) -> tuple[Array, Array]:
        order = [
            r for r in np.argsort(-np.array(self.scores), kind="stable") if r not in excluded and self.scores[r] > 0
        ][:k]
        return np.array(order, np.int32), np.array([self.scores[r] for r in order], np.float32)

    def of(self, rows: Array) -> Array:
        return np.array(self.scores, np.float32)[rows]


def test_union() -> None:
    a, b = Fixed("a", (0.0, 3.0, 2.0, 1.0)), Fixed("b", (5.0, 0.0, 4.0, 0.0))
    c = gather((a, b), {"a": 2, "b": 2}, Query(time=0), np.array([], np.int32))
    # a proposes 1, 2; b proposes 0, 2
    assert c.rows.tolist() == [0, 1, 2]
    assert c.scores.tolist() == [[0, 5], [3, 0], [2, 4]]
    assert c.ranks.tolist() == [[-1, 0], [0, -1], [1, 1]]


def test_excluded_items_and_sources_without_quota() -> None:
    a, b = Fixed("a", (1.0, 2.0)), Fixed("b", (1.0, 2.0))
    c = gather((a, b), {"a": 5}, Query(time=0), np.array([1], np.int32))
    assert c.rows.tolist() == [0]
    assert c.ranks.tolist() == [[0, -1]]


def test_nothing_proposed() -> None:
    c = gather((Fixed("a", (0.0,)),), {"a": 5}, Query(time=0), np.array([], np.int32))
    assert len(c) == 0
    assert c.scores.shape == (0, 1)
