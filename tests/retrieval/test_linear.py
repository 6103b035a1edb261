"""EASE by hand, and against the least squares it solves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import load_pipeline
from core.prepared import FULL
from core.schema import EventType
from retrieval.known import Known
from retrieval.sources.linear import Linear, item_weights
from tests.prepared_fixture import Row, make_prepared
from tests.retrieval.laws import NONE, bought

PURCHASE = EventType.PURCHASE_COMPLETE.value
CONFIG = load_pipeline().sources


def test_two_items_by_hand() -> None:
    # X'X = [[3, 2], [2, 4]], penalty 1: G = [[4, 2], [2, 5]], det 16, P = [[5, -2], [-2, 4]] / 16. B[0, 1] = -P[0, 1] / P[1, 1] = 2 / 4,
    # B[1, 0] = 2 / 5: one row to the other column
    weights = item_weights(np.array([[3.0, 2.0], [2.0, 4.0]]), 1.0)
    np.testing.assert_allclose(weights, [[0, 0.5], [0.4, 0]], rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_each_column_is_the_ridge_regression_on_the_other_items(seed: int, n: int) -> None:
    x = (np.random.default_rng(seed).random((40, n)) < 0.4).astype(np.float64)
    weights = item_weights(x.T @ x, 2.0)
    for item in range(n):
        others = np.delete(np.arange(n), item)
        a = x[:, others]
        expected = np.linalg.solve(a.T @ a + 2.0 * np.eye(n - 1), a.T @ x[:, item])
        np.testing.assert_allclose(weights[others, item], expected, atol=1e-5)
        assert weights[item, item] == 0


def shop(tmp_path: Path) -> Known:
    """a and b go together, c goes with d, everybody has only one of the two pairs; e is chosen once."""
    rows: list[Row] = []
    for person in range(12):
        pair = "ab" if person % 2 else "cd"
        rows += [(f"u:{person:02}", item, PURCHASE, 10 * person + at) for at, item in enumerate(pair)]
    rows.append(("u:12", "e", PURCHASE, 150))
    return Known(make_prepared(tmp_path, rows, cuts=(0, 170, 180, 190, 200)), FULL, CONFIG)


def test_what_goes_together_is_proposed_and_the_rest_is_not(tmp_path: Path) -> None:
    scoring = Linear.fit(shop(tmp_path)).scoring(bought(0))
    assert scoring.top(5, NONE)[0].tolist() == [1]
    # 6 people have both a and b: G = [[6 + p, 6], [6, 6 + p]], B = 6 / (6 + p)
    expected = 6 / (6 + CONFIG.linear_penalty)
    assert scoring.of(np.arange(5, dtype=np.int32)) == pytest.approx([0, expected, 0, 0, 0], rel=1e-5)


def test_older_items_weigh_less(tmp_path: Path) -> None:
    # bought a, then c: what goes with c, the newest, weighs 1; with a 2 ** -recency
    scores = Linear.fit(shop(tmp_path)).scoring(bought(0, 2)).of(np.array([1, 3], np.int32))
    assert scores[0] / scores[1] == pytest.approx(2**-CONFIG.linear_recency, rel=1e-5)


def test_of_a_larger_catalogue_the_most_chosen_items_are_modelled(tmp_path: Path) -> None:
    known = shop(tmp_path)
    small = Known(known.prepared, FULL, CONFIG.model_copy(update={"linear_items": 2}))
    source = Linear.fit(small)
    assert source.scoring(bought(0)).top(5, NONE)[0].tolist() == [1]  # ties by row: a and b stay
    assert not len(source.scoring(bought(2)).top(5, NONE)[0])


def test_negative_weights_are_kept() -> None:
    # who has the first has the second or the third, never both: given the first, one speaks against the other
    x = np.array([[1, 1, 0], [1, 0, 1]] * 20, np.float64)
    weights = item_weights(x.T @ x, 1.0)
    assert weights[1, 2] < 0 < weights[0, 2]
