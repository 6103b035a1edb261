"""The analysis table of an experiment (experiments/table.py) from the two logs: pages with the arms that answered them, and events.

A unit is exposed by the first page that an arm of the experiment answered. Events are its own: of the user or visitor, or of the session. `clicks` are
those that carry the token of a page of the experiment; everything else counts wherever it happened, since that is what the shop lives on.
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
from core.schema import DAY, HOUR, Column, EventType, Table
from experiments.table import AnalysisTable
from pipeline.page_log import microseconds

BEFORE_DAYS: Final = 28  # of the covariates
_FILES: Final = "day=*/part-*.parquet"
_PAGES: Final = (
    Page.TIME,
    Page.ATTRIBUTION_TOKEN,
    Page.USER_ID,
    Page.VISITOR_ID,
    Page.SESSION_ID,
    Page.PLACEMENT,
    Page.LEVEL,
    Page.DEGRADED,
    Page.ITEMS,
)
_EVENTS: Final = (
    Column.EVENT_TIME,
    Column.EVENT_TYPE,
    Column.USER_ID,
    Column.VISITOR_ID,
    Column.SESSION_ID,
    Column.QUANTITY,
    Column.PRICE,
    Column.ATTRIBUTION_TOKEN,
)
_COUNTED: Final = {
    "purchases": EventType.PURCHASE_COMPLETE,
    "add_to_carts": EventType.ADD_TO_CART,
    "returns": EventType.RETURN,
}


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
    column: str  # of the log of recommendations, that `reader` needs
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
    made = _outcomes(pages, _events(data, study, names), exposed, window)
    order = np.argsort(exposed, kind="stable")
    order = order[~mixed[order]]
    arms = pd.Index(study.arms)
    return AnalysisTable(
        study.arms,
        arms.get_indexer(pd.Index(first["arm"]))[order].astype(np.int64),
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
        int(mixed.sum()),
    )


@dataclass(frozen=True)
class _Made:
    outcomes: dict[str, tuple[Array, Array]]
    covariates: dict[str, Array]
    known: Array  # bool [units]: did something in the days before


def _outcomes(pages: pd.DataFrame, events: pd.DataFrame, exposed: Array, window: int) -> _Made:
    units, one = len(exposed), np.ones(len(exposed))
    since = exposed[events["unit"]] if len(events) else np.zeros(0, np.int64)
    time = events["time"].to_numpy(np.int64)
    inside = (time >= since) & (time < since + window)
    before = (time < since) & (time >= since - BEFORE_DAYS * DAY)
    own = np.isin(events["token"].to_numpy(object).astype(str), pages["token"].to_numpy(object).astype(str))

    def total(rows: Array, weights: Array | None = None) -> Array:
        at = events["unit"].to_numpy(np.int64)[rows]
        return np.bincount(at, None if weights is None else weights[rows], units).astype(np.float64)

    kind, spent = events["type"].to_numpy(object), events["spent"].to_numpy(np.float64)
    outcomes: dict[str, tuple[Array, Array]] = {}
    covariates: dict[str, Array] = {}
    for name, type_ in _COUNTED.items():
        which = kind == str(type_)
        outcomes[name], covariates[name] = (total(inside & which), one), total(before & which)
    bought = kind == str(EventType.PURCHASE_COMPLETE)
    outcomes["revenue"], covariates["revenue"] = (total(inside & bought, spent), one), total(before & bought, spent)
    outcomes["conversion"] = ((outcomes["purchases"][0] > 0) * 1.0, one)
    covariates["conversion"] = (covariates["purchases"] > 0) * 1.0
    clicks = kind == str(EventType.CLICK)
    outcomes["clicks"], covariates["clicks"] = (total(inside & clicks & own), one), total(before & clicks)
    outcomes["click_conversion"] = ((outcomes["clicks"][0] > 0) * 1.0, one)
    covariates["click_conversion"] = (covariates["clicks"] > 0) * 1.0
    at, when = pages["unit"].to_numpy(np.int64), pages["time"].to_numpy(np.int64)
    shown = when < exposed[at] + window
    items = np.bincount(at[shown], pages["items"].to_numpy(np.float64)[shown], units)
    outcomes["click_rate"] = (outcomes["clicks"][0], items)
    bad = np.bincount(at[shown], pages["degraded"].to_numpy(np.float64)[shown], units)
    outcomes["degraded"] = (bad, np.bincount(at[shown], minlength=units).astype(np.float64))
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
    readable = [f for f in files if study.column in pq.read_schema(f).names]
    found = []
    for row in _rows(readable, [*map(str, _PAGES), study.column]):
        time = microseconds(row[Page.TIME])
        if not study.since <= time < study.until:
            continue
        assigned, key = study.reader(row), key_of(row, study.unit)
        if assigned is None or not key or assigned.arm not in study.arms:
            continue
        found.append(
            {
                "key": key,
                "time": time,
                "arm": assigned.arm,
                "propensity": assigned.propensity,
                "token": row[Page.ATTRIBUTION_TOKEN] or "",
                "placement": row[Page.PLACEMENT],
                "level": row[Page.LEVEL],
                "degraded": bool(row[Page.DEGRADED]),
                "items": len(row[Page.ITEMS] or ()),
            }
        )
    if not found:
        raise InputError(f"{data / RECOMMENDATIONS}: no page of this experiment between its start and end")
    return pd.DataFrame(found).sort_values("time", kind="stable", ignore_index=True)


def _events(data: Path, study: Study, names: Any) -> pd.DataFrame:
    """Events of the units: unit, time, type, spent, token."""
    code = {name: n for n, name in enumerate(names)}
    made: dict[str, list[Any]] = {"unit": [], "time": [], "type": [], "spent": [], "token": []}
    for row in _rows(sorted((data / Table.EVENTS).glob(_FILES)), [str(c) for c in _EVENTS]):
        unit = code.get(key_of(row, study.unit))
        time = microseconds(row[Column.EVENT_TIME])
        if unit is None or time >= study.until:
            continue
        made["unit"].append(unit)
        made["time"].append(time)
        made["type"].append(row[Column.EVENT_TYPE])
        made["spent"].append(
            (row[Column.PRICE] or 0.0) * (1.0 if row[Column.QUANTITY] is None else row[Column.QUANTITY])
        )
        made["token"].append(row[Column.ATTRIBUTION_TOKEN] or "")
    return pd.DataFrame(made).astype({"unit": np.int64, "time": np.int64, "spent": np.float64})
