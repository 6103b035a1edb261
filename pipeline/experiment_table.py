"""The analysis table of an experiment (experiments/table.py) from the two logs: pages with the arms that answered them, and events.

A unit is exposed by the first page that an arm of the experiment answered. Events are its own, of the user, visitor or session, wherever they happened: that is
what the shop lives on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from core.columns import Array
from core.errors import InputError, NotFoundError
from core.event_log import RECOMMENDATIONS, Page
from core.ids import person_key
from core.schema import DAY, HOUR, Column, Table
from experiments.config import Metric
from experiments.table import AnalysisTable
from pipeline.page_log import microseconds

BEFORE_DAYS: Final = 28  # of the covariates
_FILES: Final = "day=*/part-*.parquet"
_PAGES: Final = (
    Page.TIME,
    Page.USER_ID,
    Page.VISITOR_ID,
    Page.SESSION_ID,
    Page.PLACEMENT,
    Page.LEVEL,
)
_EVENTS: Final = (
    Column.EVENT_TIME,
    Column.EVENT_TYPE,
    Column.USER_ID,
    Column.VISITOR_ID,
    Column.SESSION_ID,
    Column.QUANTITY,
    Column.PRICE,
    Column.VALUE,
)


@dataclass(frozen=True)
class Assigned:
    """What the log says of one page and the experiment."""

    arm: str
    propensity: float


Reader = Callable[[Mapping[str, Any]], Assigned | None]  # of a page's row; None: the experiment had no part in it


@dataclass(frozen=True)
class Study:
    """What the table is of."""

    arms: tuple[str, ...]  # the first is the control
    unit: str  # user | visitor | session
    window_hours: float
    since: int  # microseconds
    until: int  # pages and events from then on are not read
    metrics: tuple[Metric, ...]
    fixed: bool  # a fixed split; else a bandit
    columns: tuple[str, ...]  # of the log of recommendations, that `reader` needs
    reader: Reader


def build(data: Path, study: Study) -> AnalysisTable:
    """Read the logs.

    Args:
        data: With `recommendations/` and `events/`, as `./aisle events sink` leaves them.
        study: What to read.

    Raises:
        NotFoundError: There is no log of recommendations.
        InputError: None of its pages is of the experiment.
    """
    pages = _pages(data, study)
    pages["unit"], names = pd.factorize(pages["key"])
    first = pages.groupby("unit", sort=True).first()  # pages are in order of time
    mixed = pages.groupby("unit")["arm"].nunique().to_numpy() > 1
    window = int(study.window_hours * HOUR)
    exposed = first["time"].to_numpy(np.int64)
    made = _outcomes(_events(data, study, names), study.metrics, exposed, window)
    arm = pd.Index(study.arms).get_indexer(pd.Index(first["arm"])).astype(np.int64)
    order = np.argsort(exposed, kind="stable")
    order = order[arm[order] >= 0]  # an arm that the file no longer has keeps those that it had
    if study.fixed:  # a bandit may draw a session anew; it stays in the arm that it met first
        order = order[~mixed[order]]
    return AnalysisTable(
        study.arms,
        arm[order],
        exposed[order],
        first["propensity"].to_numpy(np.float64)[order],
        window,
        {name: (y[order], d[order]) for name, (y, d) in made.outcomes.items()},
        {name: x[order] for name, x in made.covariates.items()},
        {
            "level": first["level"].fillna("").to_numpy(str)[order],
            "placement": first["placement"].fillna("").to_numpy(str)[order],
            "history": np.where(made.known, "returning", "new")[order],
        },
        int(mixed.sum()) if study.fixed else 0,
    )


@dataclass(frozen=True)
class _Made:
    outcomes: dict[str, tuple[Array, Array]]
    covariates: dict[str, Array]
    known: Array  # bool [units]: did something in the days before


def _outcomes(events: pd.DataFrame, metrics: Sequence[Metric], exposed: Array, window: int) -> _Made:
    units = len(exposed)
    since = exposed[events["unit"]] if len(events) else np.zeros(0, np.int64)
    time = events["time"].to_numpy(np.int64)
    inside = (time >= since) & (time < since + window)
    before = (time < since) & (time >= since - BEFORE_DAYS * DAY)

    def total(rows: Array, weights: Array | None = None) -> Array:
        at = events["unit"].to_numpy(np.int64)[rows]
        return np.bincount(at, None if weights is None else weights[rows], units).astype(np.float64)

    worth = events["worth"].to_numpy(np.float64)
    outcomes: dict[str, tuple[Array, Array]] = {}
    covariates: dict[str, Array] = {}
    for metric in metrics:
        which, per = (events["type"].isin([str(t) for t in kinds]).to_numpy() for kinds in (metric.events, metric.per))
        weights = worth if metric.kind in ("value", "ratio") else None
        y, x = (total(which & when, weights) for when in (inside, before))
        if metric.kind == "rate":
            y, x = (y > 0) * 1.0, (x > 0) * 1.0
        outcomes[metric.name] = (y, total(per & inside) if metric.kind == "ratio" else np.ones(units))
        covariates[metric.name] = x
    return _Made(outcomes, covariates, total(before) > 0)


def key_of(row: Mapping[str, Any], unit: str) -> str:
    """The unit that a page or event is of, "" where it is of none."""
    if unit == "session":
        return str(row[Page.SESSION_ID] or "")
    if unit == "visitor":
        return str(row[Page.VISITOR_ID] or "")
    if not (row[Page.USER_ID] or row[Page.VISITOR_ID]):
        return ""
    return person_key(row[Page.USER_ID], row[Page.VISITOR_ID])


def _rows(files: Sequence[Path], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(4096, columns=list(columns)):
            yield from batch.to_pylist()


def _pages(data: Path, study: Study) -> pd.DataFrame:
    files = sorted((data / RECOMMENDATIONS).glob(_FILES))
    if not files:
        raise NotFoundError(
            f"{data}: no {RECOMMENDATIONS}/{_FILES}; expected the log that `./aisle events sink` writes"
        )
    readable = [f for f in files if set(study.columns) <= set(pq.read_schema(f).names)]
    found = []
    for row in _rows(readable, [*map(str, _PAGES), *study.columns]):
        time = microseconds(row[Page.TIME])
        if not study.since <= time < study.until:
            continue
        assigned, key = study.reader(row), key_of(row, study.unit)
        if assigned is None or not key:
            continue
        found.append(
            {
                "key": key,
                "time": time,
                "arm": assigned.arm,
                "propensity": assigned.propensity,
                "placement": row[Page.PLACEMENT],
                "level": row[Page.LEVEL],
            }
        )
    if not found:
        raise InputError(f"{data / RECOMMENDATIONS}: no page of this experiment between its start and end")
    return pd.DataFrame(found).sort_values("time", kind="stable", ignore_index=True)


def _worth(row: Mapping[str, Any]) -> float:
    """Of an event: price times quantity, else its `value`, else 1."""
    if row[Column.PRICE] is not None:
        return float(row[Column.PRICE]) * (1.0 if row[Column.QUANTITY] is None else float(row[Column.QUANTITY]))
    return 1.0 if row[Column.VALUE] is None else float(row[Column.VALUE])


def _events(data: Path, study: Study, names: Any) -> pd.DataFrame:
    """Events of the units: unit, time, type, worth."""
    code = {name: n for n, name in enumerate(names)}
    made: dict[str, list[Any]] = {"unit": [], "time": [], "type": [], "worth": []}
    for row in _rows(sorted((data / Table.EVENTS).glob(_FILES)), [str(c) for c in _EVENTS]):
        unit = code.get(key_of(row, study.unit))
        time = microseconds(row[Column.EVENT_TIME])
        if unit is None or time >= study.until:
            continue
        made["unit"].append(unit)
        made["time"].append(time)
        made["type"].append(row[Column.EVENT_TYPE])
        made["worth"].append(_worth(row))
    return pd.DataFrame(made).astype({"unit": np.int64, "time": np.int64, "worth": np.float64})
