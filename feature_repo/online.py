"""Reading features from the online store by the Feast SDK, expired ones marked: for jobs and notebooks. The serving process never imports Feast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_repo.drift import caught_up
from feature_repo.training_join import service_tables

if TYPE_CHECKING:
    import pandas as pd


def online_features(
    store: Any, work: Path, entities: Sequence[Mapping[str, str]], moment: int, service: str = "ranker_v1"
) -> pd.DataFrame:
    """The features of a service as last materialised, brought up to a moment.

    Args:
        store: Of `feature_repo.store.open_store`, applied and materialised.
        work: The work directory.
        entities: The keys of each row, external ids.
        moment: Now, microseconds since the epoch.
        service: A name of SERVICES.

    Returns:
        One row for each of `entities`, in order; columns as of `training_join`.
    """
    tables = service_tables(work, service)
    answer = store.get_online_features(
        features=store.get_feature_service(service), entity_rows=[dict(e) for e in entities], full_feature_names=True
    )
    return caught_up(answer.to_df(), tables, np.full(len(entities), moment))
