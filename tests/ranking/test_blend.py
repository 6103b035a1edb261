"""The unlearned blend."""

from __future__ import annotations

import numpy as np
import pytest

from core.candidates import Candidates
from ranking.blend import blend


def candidates(*scores: tuple[float, ...]) -> Candidates:
    array = np.array(scores, np.float32)
    n, s = array.shape
    return Candidates(np.arange(n, dtype=np.int32), tuple("abc"[:s]), array, np.zeros((n, s), np.int32))


def test_each_source_counts_relative_to_its_best() -> None:
    # a: 8 and 4 -> 1 and .5; b: 0 and .2 -> 0 and 1. With weights 1 and .25: 1 and .5 + .25
    out = blend(candidates((8, 0), (4, 0.2)), {"a": 1.0, "b": 0.25})
    assert out.dtype == np.float32
    assert out.tolist() == pytest.approx([1, 0.75])


def test_a_source_without_weight_or_evidence_adds_nothing() -> None:
    assert blend(candidates((8, 5), (4, 9)), {"a": 1.0}).tolist() == [1, 0.5]
    assert blend(candidates((0, 5), (0, 10)), {"a": 1.0, "b": 1.0}).tolist() == [0.5, 1]


def test_scale_of_a_source_does_not_matter() -> None:
    weights = {"a": 0.7, "b": 0.3}
    one = blend(candidates((3, 2), (1, 4)), weights)
    np.testing.assert_allclose(blend(candidates((3000, 2), (1000, 4)), weights), one, rtol=1e-6)


def test_nothing_to_blend() -> None:
    none = Candidates(np.empty(0, np.int32), ("a",), np.empty((0, 1), np.float32), np.empty((0, 1), np.int32))
    assert len(blend(none, {"a": 1.0})) == 0
