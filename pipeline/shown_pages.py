"""Pages from the service's own log of recommendations: what was shown to whom, where, and what came of it.

What became of a page is told by events that carry its attribution token; a click elsewhere is none of the page's merit. Their features are made anew as of the
page's time (pipeline/pages.py): the log holds those of a small share only, and of the release that answered, whose sources knew another past.
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
from core.ids import NO_ROW, person_key
from core.prepared import Prepared
from core.schema import HOUR, Column, EventType, Table
from pipeline.page_log import microseconds
from pipeline.pages import Pages, graded

_ATTRIBUTED: Final = (Column.ATTRIBUTION_TOKEN, Column.ITEM_ID, Column.EVENT_TYPE, Column.EVENT_TIME)
_READ: Final = (Page.TIME, Page.ATTRIBUTION_TOKEN, Page.USER_ID, Page.VISITOR_ID, Page.ITEMS, Page.POSITIONS)


class Outcome(NamedTuple):
    """One event that came of a page."""

    item_id: str
    time: int  # microseconds
    gain: float


def files(data: Path) -> list[str]:
    """The log's files by name and size, which tell what is in them."""
    return [f"{f.relative_to(data).as_posix()} {f.stat().st_size}" for f in _files(data / RECOMMENDATIONS)]


def read(
    data: Path, prepared: Prepared, gains: Mapping[EventType, float], since: int, until: int, hours: float
) -> Pages:
    """Pages of known people, of which something came, whose time and hours lie in `[since, until)` (microseconds).

    Args:
        data: With `recommendations/` and `events/`, as `./aisle events sink` leaves them.
        prepared: Whose id maps the rows are of; an item that it does not know is left out.
        gains: What an event of each type counts.
        since: The first moment.
        until: Events from then on are not known.
        hours: After the page within which an event is of its making.
    """
    outcomes = _outcomes(data / Table.EVENTS, gains, until)
    return Pages.of(_read(data, prepared, gains, outcomes, (since, until - int(hours * HOUR)), hours))


def _read(
    data: Path,
    prepared: Prepared,
    gains: Mapping[EventType, float],
    outcomes: dict[str, list[Outcome]],
    window: tuple[int, int],
    hours: float,
) -> Iterator[tuple[int, int, Array, Array, Array]]:
    for page in _pages(data / RECOMMENDATIONS, *window):
        came = outcomes.get(page[Page.ATTRIBUTION_TOKEN])
        user = prepared.user_ids.row(person_key(page[Page.USER_ID], page[Page.VISITOR_ID]))
        if came is None or user == NO_ROW:
            continue
        best = _best(page[Page.ITEMS], came, page[Page.TIME], hours)
        items, first = np.unique(prepared.item_ids.rows(page[Page.ITEMS]), return_index=True)
        items, first = items[items != NO_ROW], first[items != NO_ROW]
        grades = graded(np.array([best[page[Page.ITEMS][i]] for i in first.tolist()]), gains)
        if grades.any():
            yield user, page[Page.TIME], items, np.array(page[Page.POSITIONS], np.int32)[first] - 1, grades


def _files(table: Path) -> list[Path]:
    return sorted(table.glob("day=*/part-*.parquet"))


def _outcomes(events: Path, gains: Mapping[EventType, float], until: int) -> dict[str, list[Outcome]]:
    """Successes by the token of the page that they name."""
    found: dict[str, list[Outcome]] = {}
    good = [str(t) for t, gain in gains.items() if gain > 0 and t != EventType.IMPRESSION]
    for file in _files(events):
        table = pq.read_table(file, columns=list(_ATTRIBUTED))
        kept = pc.and_(
            pc.is_valid(table[Column.ATTRIBUTION_TOKEN]),
            pc.is_in(table[Column.EVENT_TYPE], value_set=pa.array(good, pa.string())),
        )
        for row in table.filter(kept).to_pylist():
            time = microseconds(row[Column.EVENT_TIME])
            if time < until:
                outcome = Outcome(row[Column.ITEM_ID], time, gains[EventType(row[Column.EVENT_TYPE])])
                found.setdefault(row[Column.ATTRIBUTION_TOKEN], []).append(outcome)
    return found


def _pages(log: Path, since: int, until: int) -> Iterator[dict[str, Any]]:
    """Pages of somebody, in the order of the files, times as microseconds."""
    for file in _files(log):
        for batch in pq.ParquetFile(file).iter_batches(1024, columns=[str(c) for c in _READ]):
            for row in batch.to_pylist():
                row[Page.TIME] = microseconds(row[Page.TIME])
                if since <= row[Page.TIME] < until and (row[Page.USER_ID] or row[Page.VISITOR_ID]):
                    yield row


def _best(ids: list[str], outcomes: list[Outcome], time: int, hours: float) -> dict[str, float]:
    """The strongest gain of each item in the hours after the page."""
    best = dict.fromkeys(ids, 0.0)
    for outcome in outcomes:
        if outcome.item_id in best and time <= outcome.time < time + hours * HOUR:
            best[outcome.item_id] = max(best[outcome.item_id], outcome.gain)
    return best
