"""How differences between logged and recomputed features are summed, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.columns import Array
from core.config import load_pipeline
from core.errors import ArtifactError
from core.prepared import Prepared
from pipeline.candidates import Past
from pipeline.skew import CANDIDATES, Comparison, skew
from ranking.feature_list import NAMES
from serving.release import Release
from tests.serving.shop import make_shop

F = len(NAMES)


def rows(*items: int) -> Array:
    return np.array(items, np.int32)


def with_values(n: int, **values: dict[int, float]) -> Array:
    """Ones but for some (column number -> row -> value)."""
    out = np.ones((n, F), np.float32)
    for column, cells in values.items():
        for row, value in cells.items():
            out[row, int(column.removeprefix("c"))] = value
    return out


def test_a_feature_that_differs_is_named_with_its_greatest_difference() -> None:
    """Of 2 requests with 3 and 2 items, 3 of the 5 values of feature 1 differ: by 0.5, 2 and 0.5."""
    found = Comparison()
    found.add("r-1", rows(4, 7, 9), with_values(3), rows(4, 7, 9), with_values(3, c1={0: 1.5, 2: 3.0}))
    found.add("r-2", rows(4, 7), with_values(2, c1={1: 0.5}), rows(4, 7), with_values(2))
    assert (found.requests, found.different_requests, found.values, found.mismatches) == (2, 2, 5 * F, 3)
    assert found.features() == {
        NAMES[1]: {
            "share": 0.6,
            "mean_absolute": 1.0,
            "largest": 2.0,
            "example": {"request_id": "r-1", "item": 9, "logged": 1.0, "recomputed": 3.0},
        }
    }


@pytest.mark.parametrize(("rounding", "differs"), [({}, 0), ({"rounding": (0, 0)}, 1)])
def test_the_last_bits_are_no_drift_unless_asked_for(rounding: dict[str, Any], differs: int) -> None:
    found = Comparison(**rounding)
    found.add("r-1", rows(1), with_values(1), rows(1), with_values(1, c0={0: 1 + 2**-20}))
    assert found.mismatches == differs


def test_items_on_one_side_only_are_candidates_that_differ() -> None:
    """Items 4 and 5 against 5 and 6 and 8: three are alone, and 5 is compared."""
    found = Comparison()
    found.add("r-1", rows(4, 5), with_values(2), rows(5, 6, 8), with_values(3))
    assert (found.values, found.mismatches, found.different_requests) == (F, 3, 1)
    (name, drift) = next(iter(found.features().items()))
    assert name == CANDIDATES
    assert drift["example"] == {"request_id": "r-1", "item": 4, "only_logged": True}


def test_the_same_on_both_sides_is_nothing() -> None:
    found = Comparison(rounding=(0, 0))
    found.add("r-1", rows(4, 5), with_values(2), rows(4, 5), with_values(2))
    assert (found.requests, found.different_requests, found.mismatches, found.features()) == (1, 0, 0, {})


def test_a_release_without_a_ranker_has_no_features_to_compare(tmp_path: Path) -> None:
    work = make_shop(tmp_path)
    with pytest.raises(ArtifactError, match=r"no ranker, so its pages have no features"):
        skew(tmp_path / "log", work.current, work, tmp_path, 10)
    with pytest.raises(ArtifactError, match=r"no ranker, so nothing reads features"):
        Past.after(Release.open(work.current), Prepared(tmp_path / "prepared"), load_pipeline())
