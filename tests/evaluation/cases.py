"""Random queries and answers for the evaluation tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from core.columns import Array
from core.ids import NO_ROW
from evaluation.relevance import Relevance


def relevance(*wanted: dict[int, float]) -> Relevance:
    """One dict of item -> gain a query."""
    pairs = [(q, item, gain) for q, items in enumerate(wanted) for item, gain in items.items()]
    queries, items, gains = (np.array(c) for c in zip(*pairs, strict=True))
    return Relevance.of(queries, items, gains, len(wanted))


def answers(*rows: list[int], k: int | None = None) -> Array:
    """Padded rows."""
    width = max(map(len, rows)) if k is None else k
    return np.array([row + [NO_ROW] * (width - len(row)) for row in rows], np.int32).reshape(len(rows), width)


@st.composite
def cases(draw: Any, distinct: bool = True) -> tuple[Relevance, Array]:
    """A few queries over 12 items, with graded gains and answers of one width (padded at the end)."""
    wanted = st.dictionaries(st.integers(0, 11), st.sampled_from([0.1, 0.4, 1.0]), min_size=1, max_size=8)
    row = st.lists(st.integers(0, 11), max_size=12, unique=distinct)
    pairs = draw(st.lists(st.tuples(wanted, row), min_size=1, max_size=5))
    return relevance(*(w for w, _ in pairs)), answers(*(r for _, r in pairs), k=12)
