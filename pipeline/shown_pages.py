"""Training rows from the log of recommendations: what was shown where, with the features that were served, and what came of it.

They are requests of their own beside those that pipeline/candidates.py constructs, and carry positions, which those lack: `ranking.train` gives all constructed
rows one position, so that where a row comes from says nothing about its label, and learns what a position of a page does apart from the trees. What became of
a page is told by events that carry its attribution token; a click elsewhere is none of the page's merit. Not part of the night: see docs/decisions.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.columns import Array
from core.event_log import RECOMMENDATIONS, Page
from core.ids import NO_ROW, IdMap
from core.schema import HOUR, Column, EventType, Table
from pipeline.page_log import microseconds
from ranking.feature_list import NAMES, schema_hash
from ranking.train import GRADES, TrainingSet

_FILES: Final = "day=*/part-*.parquet"
_ATTRIBUTED: Final = (Column.ATTRIBUTION_TOKEN, Column.ITEM_ID, Column.EVENT_TYPE, Column.EVENT_TIME)
_READ: Final = (Page.TIME, Page.ATTRIBUTION_TOKEN, Page.ITEMS, Page.POSITIONS, Page.CANDIDATES, Page.FEATURES)
_AT: Final = 10


class Outcome(NamedTuple):
    """One event that came of a page."""

    item_id: str
    time: int  # microseconds
    gain: float


def training_set(
    data: Path, item_ids: IdMap, gains: Mapping[EventType, float], since: int, until: int, hours: float = 24.0
) -> TrainingSet:
    """Pages shown in `[since, until)` (microseconds) of which something came, with their positions.

    Args:
        data: With `recommendations/` and `events/`, as `./aisle events sink` leaves them.
        item_ids: Of the prepared data; rows of a release are the same.
        gains: What an event of each type counts.
        since: The first moment.
        until: One past the last; events from then on are not known.
        hours: After the page within which an event is of its making.

    Returns:
        One request a page. Items that had no features (they only filled the page) are left out, as are pages whose features are of another list than this
        code's; pages of which nothing came are counted as `dropped`.
    """
    outcomes = _outcomes(data / Table.EVENTS, gains, until)
    matrices, grades, positions = (
        [np.empty((0, len(NAMES)), np.float32)],
        [np.empty(0, np.int8)],
        [np.empty(0, np.int32)],
    )
    dropped = 0
    for page in _pages(data / RECOMMENDATIONS, since, until):
        at, place, ids = _shown(page, item_ids)
        grade = _grades(
            ids, outcomes.get(page[Page.ATTRIBUTION_TOKEN], ()), page[Page.TIME], hours, max(gains.values())
        )
        if not grade.any():
            dropped += 1
            continue
        features = np.frombuffer(page[Page.FEATURES], "<f4").reshape(-1, len(NAMES))
        matrices.append(features[at])
        grades.append(grade)
        positions.append(place)
    ideals = [float((np.sort(g)[::-1][:_AT] / np.log2(np.arange(len(g[:_AT])) + 2.0)).sum()) for g in grades[1:]]
    sizes = np.array([len(g) for g in grades[1:]], np.int32)
    return TrainingSet(
        np.concatenate(matrices),
        np.concatenate(grades),
        sizes,
        np.array(ideals),
        dropped,
        positions=np.concatenate(positions),
    )


def _outcomes(events: Path, gains: Mapping[EventType, float], until: int) -> dict[str, list[Outcome]]:
    """Successes by the token of the page that they name."""
    found: dict[str, list[Outcome]] = {}
    good = pa.array([str(t) for t, gain in gains.items() if gain > 0])
    for file in sorted(events.glob(_FILES)):
        table = pq.read_table(file, columns=list(_ATTRIBUTED))
        kept = pc.and_(pc.is_valid(table[Column.ATTRIBUTION_TOKEN]), pc.is_in(table[Column.EVENT_TYPE], value_set=good))
        for row in table.filter(kept).to_pylist():
            time = microseconds(row[Column.EVENT_TIME])
            if time < until:
                outcome = Outcome(row[Column.ITEM_ID], time, gains[EventType(row[Column.EVENT_TYPE])])
                found.setdefault(row[Column.ATTRIBUTION_TOKEN], []).append(outcome)
    return found


def _pages(log: Path, since: int, until: int) -> Iterator[dict[str, Any]]:
    """Pages with features of this code's list, in the order of the files, times as microseconds."""
    for file in sorted(log.glob(_FILES)):
        columns = [str(c) for c in (*_READ, Page.FEATURE_SCHEMA)]
        for batch in pq.ParquetFile(file).iter_batches(64, columns=columns):
            for row in batch.filter(pc.equal(batch[Page.FEATURE_SCHEMA], schema_hash())).to_pylist():
                row[Page.TIME] = microseconds(row[Page.TIME])
                if since <= row[Page.TIME] < until:
                    yield row


def _shown(page: dict[str, Any], item_ids: IdMap) -> tuple[Array, Array, list[str]]:
    """The shown items that have features: where among the candidates, at which position from 0, and their ids."""
    candidates, rows = np.array(page[Page.CANDIDATES], np.int32), item_ids.rows(page[Page.ITEMS])
    at = np.minimum(np.searchsorted(candidates, rows), max(len(candidates) - 1, 0))
    has = np.flatnonzero((rows != NO_ROW) & (candidates[at] == rows)) if len(candidates) else np.empty(0, np.int64)
    position = np.array(page[Page.POSITIONS], np.int32) - 1
    return at[has], position[has], [page[Page.ITEMS][i] for i in has.tolist()]


def _grades(ids: list[str], outcomes: Any, time: int, hours: float, most: float) -> Array:
    """The strongest gain of each item in the window after the page, as a grade: int8 `[n]`."""
    best = dict.fromkeys(ids, 0.0)
    for outcome in outcomes:
        if outcome.item_id in best and time <= outcome.time < time + hours * HOUR:
            best[outcome.item_id] = max(best[outcome.item_id], outcome.gain)
    return np.ceil(np.array([best[i] for i in ids]) / most * GRADES - 1e-6).astype(np.int8)
