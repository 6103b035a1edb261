"""What the trees of a ranker were grown from: the share of the loss that splits on each group of features took away."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.errors import ArtifactError
from ranking.feature_list import FEATURES
from ranking.groups import GROUP_OF, Group


def gain_by_group(model: Path) -> dict[str, float]:
    """Share of the total gain of all splits by group of features, of the model file `model` in LightGBM's text format.

    They add up to 1, or are 0 of trees without a split. It says what training used, on the training rows: of two features that say the same it names one.

    Raises:
        ArtifactError: if the file is missing, or does not say it.
    """
    gains = np.zeros(len(FEATURES))
    try:
        for block in model.read_text().split("\nTree=")[1:]:
            fields = dict(line.partition("=")[::2] for line in block.partition("\nend of trees")[0].split("\n"))
            feature = np.array(fields.get("split_feature", "").split(), np.int64)
            np.add.at(gains, feature, np.array(fields.get("split_gain", "").split(), np.float64))
    except (FileNotFoundError, ValueError, IndexError) as e:
        raise ArtifactError(f"{model}: does not say what its splits gained ({e!r})") from None
    total = gains.sum() or 1.0
    groups = [str(group) for group in GROUP_OF]
    return {str(group): float(gains[np.array(groups) == group].sum() / total) for group in Group if group != Group.BASE}
