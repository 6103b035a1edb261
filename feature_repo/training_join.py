"""The point-in-time join: the features that were known at the moment of each row, by Feast over the Parquet tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from core.errors import InputError, NotFoundError, nearest
from feature_repo.definitions import SERVICES, read_tables
from feature_repo.drift import caught_up
from feature_repo.store import features_of

if TYPE_CHECKING:
    import pandas as pd

TIMESTAMP: Final = "event_timestamp"
_ROW: Final = "aisle_row"


def training_join(store: Any, work: Path, entities: pd.DataFrame, service: str = "ranker_v1") -> pd.DataFrame:
    """The features of a service as of 00:00 UTC of the day of each row's moment.

    Args:
        store: Of `feature_repo.store.open_store`, applied.
        work: The work directory.
        entities: The key columns of the service's views (external ids; an id that no table has is a stranger) and `event_timestamp`, UTC.
        service: A name of SERVICES.

    Returns:
        The rows of `entities`, in their order, with `<view>__<field>` float32 (defaults where nothing was known) and `<view>__expired` bool.

    Raises:
        InputError: a column is missing.
        RuntimeError: the offline store gave back other rows than it was asked about (Feast's file store drops those older than an entity's first row).
    """
    import pandas as pd

    tables = service_tables(work, service)
    needed = {TIMESTAMP, *(key for t in tables for key in t["keys"])}
    if missing := sorted(needed - set(entities.columns)):
        raise InputError(
            f"training join of {service!r}: no column {missing[0]!r}; expected {', '.join(sorted(needed))}"
        )
    asked = entities.reset_index(drop=True).assign(**{_ROW: np.arange(len(entities))})
    job = store.get_historical_features(
        entity_df=asked.copy(), features=store.get_feature_service(service), full_feature_names=True
    )
    found = job.to_df().sort_values(_ROW, ignore_index=True)
    if found[_ROW].tolist() != list(range(len(asked))):
        raise RuntimeError(
            f"the offline store returned {len(found)} rows for {len(asked)}: use the duckdb or spark one"
        )
    features = found.drop(columns=[*entities.columns, _ROW])
    moments = pd.to_datetime(asked[TIMESTAMP], utc=True).to_numpy("datetime64[us]").astype(np.int64)
    whole = asked.drop(columns=_ROW).join(features)
    return caught_up(whole, tables, moments)


def service_tables(work: Path, service: str) -> list[dict[str, Any]]:
    """The declared tables that a service reads."""
    if service not in SERVICES:
        raise NotFoundError(f"no feature service {service!r}; {nearest(service, SERVICES)}")
    return [t for t in read_tables(features_of(work)) if t["name"] in SERVICES[service]]
