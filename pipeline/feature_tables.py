"""The feature tables: for each entity, what a row is about, on which days it changes, and its values then.

A table has one row for each entity and day as of which a value changed other than by drifting (ranking/statistics.py): the day after an event, and the day
an event leaves a window. Whoever asks for a day between two rows brings the older one up to it (feature_repo/drift.py).
"""

# bazel: data=[//configs:all_files]

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from core.columns import Array, Coded, Texts
from core.config import Section, checked, overlaid, read_yaml
from core.prepared import Prepared
from core.schema import DAY, Column
from ranking.gain_statistics import Cohorts, GainStatistics, tastes
from ranking.item_day_statistics import ItemStatistics
from ranking.pair_statistics import PairStatistics
from ranking.statistics import (
    BRAND_STATISTICS,
    CATEGORY_STATISTICS,
    COHORT_ITEM_STATISTICS,
    COHORT_STATISTICS,
    ENTITIES,
    ITEM_STATISTICS,
    PAIR_STATISTICS,
    USER_STATISTICS,
    Entity,
    Statistic,
)
from ranking.user_statistics import UserStatistics

DEFAULTS: Final = Path(__file__).parent.parent / "configs" / "features.yaml"
_BLOCK_ROWS: Final = 500_000

Rows = tuple[Array, Array, Array]  # row, other (0 where there is none), day: int [n] each


class FeaturesConfig(Section):
    """configs/features.yaml."""

    cohort_attributes: tuple[str, ...]
    pairs: bool


def load_features(path: Path | None = None) -> FeaturesConfig:
    """The defaults, with the keys of `path` laid over them."""
    values = read_yaml(DEFAULTS)
    if path is not None:
        values = overlaid(values, read_yaml(path))
    return checked(FeaturesConfig, values, path or DEFAULTS)


@dataclass(frozen=True)
class Names:
    """External ids of one key column, by row; a deleted one is in no table."""

    ids: Any  # pyarrow string array
    alive: Array  # bool

    @classmethod
    def of(cls, texts: Texts, alive: Array | None = None) -> Names:
        """From texts."""
        buffers = [
            None,
            pa.py_buffer(np.ascontiguousarray(texts.offsets)),
            pa.py_buffer(np.ascontiguousarray(texts.data)),
        ]
        ids = pa.LargeStringArray.from_buffers(len(texts), buffers[1], buffers[2]).cast(pa.string())
        return cls(ids, np.ones(len(texts), bool) if alive is None else np.asarray(alive))


@dataclass(frozen=True)
class FeatureTable:
    """One table: `blocks(until)` are the rows of whole days, ascending; `values` their stored statistics, float32 `[n, c]`."""

    entity: Entity
    declared: tuple[Statistic, ...]
    keys: tuple[Names, ...]
    blocks: Callable[[int], Iterator[Rows]]
    values: Callable[[Array, Array, Array], Array]

    @property
    def stored(self) -> tuple[Statistic, ...]:
        """The statistics that have a column; the others follow from these."""
        return tuple(s for s in self.declared if s.ratio is None)


def end_day(prepared: Prepared) -> int:
    """The first day as of which everything is known, days since the epoch."""
    return -(-prepared.cuts.end // DAY)


def tables(prepared: Prepared, config: FeaturesConfig) -> list[FeatureTable]:
    """Every table that the prepared data have anything for."""
    items = Names.of(prepared.item_ids.texts, prepared.item_ids.alive)
    people = Names.of(prepared.user_ids.texts, prepared.user_ids.alive)
    cohorts = Cohorts.of(prepared, config.cohort_attributes)
    names = Names.of(Texts.of(cohorts.names))
    found = [
        _plain("item", ITEM_STATISTICS, items, ItemStatistics.of(prepared)),
        _plain("user", USER_STATISTICS, people, UserStatistics.of(prepared)),
        *_tastes(prepared, people),
        _gains("cohort", COHORT_STATISTICS, (names,), cohorts.totals),
        _gains("cohort_item", COHORT_ITEM_STATISTICS, (names, items), cohorts.items),
    ]
    if config.pairs:
        found.append(_pairs(items, PairStatistics(prepared)))
    return found


def _plain(
    name: str, declared: tuple[Statistic, ...], keys: Names, statistics: ItemStatistics | UserStatistics
) -> FeatureTable:
    def blocks(until: int) -> Iterator[Rows]:
        rows, days = statistics.changes(until)
        return whole_days(rows, np.zeros(len(rows), np.int64), days)

    return FeatureTable(ENTITIES[name], declared, (keys,), blocks, lambda row, _, day: statistics.as_of(row, day))


def _gains(
    name: str, declared: tuple[Statistic, ...], keys: tuple[Names, ...], statistics: GainStatistics
) -> FeatureTable:
    def values(rows: Array, others: Array, days: Array) -> Array:
        return statistics.as_of(rows, others, days)[:, None]

    return FeatureTable(ENTITIES[name], declared, keys, lambda until: whole_days(*statistics.changes(until)), values)


def _tastes(prepared: Prepared, people: Names) -> Iterator[FeatureTable]:
    for column, declared in ((Column.CATEGORY, CATEGORY_STATISTICS), (Column.BRAND, BRAND_STATISTICS)):
        coded = prepared.items[column]
        assert isinstance(coded, Coded)
        yield _gains(f"user_{column}", declared, (people, Names.of(coded.values)), tastes(prepared, column))


def _pairs(items: Names, statistics: PairStatistics) -> FeatureTable:
    def blocks(until: int) -> Iterator[Rows]:
        for day in np.unique(statistics.cut_days[statistics.cut_days <= until]).tolist():
            known = statistics.known(int(np.searchsorted(statistics.cut_days, day, side="right")))
            yield known.source, known.target, np.full(len(known.source), day)

    return FeatureTable(ENTITIES["pair"], PAIR_STATISTICS, (items, items), blocks, statistics.as_of)


def whole_days(rows: Array, others: Array, days: Array) -> Iterator[Rows]:
    """Slices of rows sorted by day that end where a day does, each a little above _BLOCK_ROWS at most, unless one day has more."""
    ends = [*(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
    start = 0
    for end, following in pairwise([*ends, None]):
        if end and (following is None or following - start > _BLOCK_ROWS):
            yield rows[start:end], others[start:end], days[start:end]
            start = end
