"""The gain of each group of features, with LightGBM's own importance as oracle."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np
import pytest

from core.config import load_pipeline
from core.errors import ArtifactError
from ranking.feature_list import FEATURES, NAMES
from ranking.groups import GROUP_OF, Group
from ranking.importance import gain_by_group
from ranking.scorer import MODEL
from ranking.train import TrainingSet, grow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few trees on which two features decide."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((4_000, len(NAMES))).astype(np.float32)
    grades = (rows[:, 3] + rows[:, 20] > 2).astype(np.int8)
    folder = tmp_path_factory.mktemp("ranker")
    grown = grow([TrainingSet(rows, grades, np.full(40, 100, np.int32), np.ones(40), 0)], 5, load_pipeline(None).ranker)
    grown.write(folder / "ranker", [], {})
    return folder / "ranker" / MODEL


def test_it_is_lightgbms_gain_by_group(model: Path) -> None:
    gains = lightgbm.Booster(model_file=model).feature_importance("gain")
    found = gain_by_group(model)
    for group in Group:
        if group != Group.BASE:
            mine = sum(gains[f] for f in range(len(FEATURES)) if GROUP_OF[f] == group)
            assert found[str(group)] == pytest.approx(mine / gains.sum(), rel=1e-5)
    assert sum(found.values()) == pytest.approx(1)


def test_a_model_cut_short_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not say what its splits gained"):
        gain_by_group(tmp_path / "none")
    (tmp_path / "short").write_text(model.read_text().replace("split_gain=", "split_gain=x "))
    with pytest.raises(ArtifactError, match="does not say what its splits gained"):
        gain_by_group(tmp_path / "short")
