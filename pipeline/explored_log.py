"""The exploration slice of the service's own log (docs/exploration.md) as rows for experiments.off_policy, and policies on it.

A row is an open place of an explored page: one whose item was drawn from the page's pool, or a new item that came in its stead. What the reward model knows of
an item is where the usual order has it. A page counts once its attribution window is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.columns import Array
from core.errors import InputError, NotFoundError
from core.event_log import RECOMMENDATIONS, Page
from core.ids import person_key
from core.schema import HOUR, Column, Table
from experiments.off_policy import Log, Target
from pipeline.page_log import microseconds
from serving.plackett_luce import table

_FILES: Final = "day=*/part-*.parquet"
_READ: Final = (
    Page.TIME,
    Page.REQUEST_ID,
    Page.ATTRIBUTION_TOKEN,
    Page.USER_ID,
    Page.VISITOR_ID,
    Page.SESSION_ID,
    Page.ITEMS,
    Page.POSITIONS,
    Page.SOURCES,
    Page.PROPENSITIES,
    Page.EXPLORED,
    Page.POOL,
)
_NEW: Final = "new"

Policy = Callable[["ExploredPage"], Array]  # the chances float64 [pool, open places] of what a page could have shown


@dataclass(frozen=True)
class ExploredPage:
    """One page that was left to chance."""

    request_id: str
    person: str
    pool: list[str]  # in the usual order: the j-th of them is what the j-th open place usually shows
    positions: list[int]  # of the open places, from 1
    items: list[str]  # shown there
    propensities: list[float]
    rewards: list[float]


def usual(page: ExploredPage) -> Array:
    """The usual order, without chance."""
    return np.eye(len(page.pool), len(page.positions))


def plackett_luce(steepness: float) -> Policy:
    """Pages drawn like the explored ones, at another steepness."""
    return lambda page: table(len(page.pool), len(page.positions), steepness)


def listed(chances: Mapping[tuple[str, int, str], float]) -> Policy:
    """What a file says, by (request id, position, item id)."""

    def of(page: ExploredPage) -> Array:
        return np.array(
            [[chances.get((page.request_id, at, item), 0.0) for at in page.positions] for item in page.pool]
        ).reshape(len(page.pool), len(page.positions))

    return of


def policy_of(text: str) -> Policy:
    """From a command line: `usual`, `plackett-luce:STEEPNESS`, or a CSV or Parquet file of request_id, position, item_id and maybe probability."""
    name, _, value = text.partition(":")
    if text == "usual":
        return usual
    if name == "plackett-luce":
        try:
            steepness = float(value)
        except ValueError:
            raise InputError(f"--policy {text}: {value!r} is no steepness; expected such as plackett-luce:3") from None
        return plackett_luce(steepness)
    from pipeline.propensity_log import read_table

    frame = read_table(Path(text), ("request_id", "position", "item_id"), "--policy")
    chances = frame["probability"] if "probability" in frame else np.ones(len(frame))
    keys = zip(
        frame["request_id"].astype(str), frame["position"].astype(int), frame["item_id"].astype(str), strict=True
    )
    return listed(dict(zip(keys, map(float, chances), strict=True)))


def read_pages(data: Path, kinds: Sequence[str], hours: float) -> list[ExploredPage]:
    """Explored pages whose window is over, in the order of the files.

    Args:
        data: With `recommendations/` and `events/`, as `./aisle events sink` leaves them.
        kinds: Event types of which one makes a place a success.
        hours: The attribution window.

    Raises:
        NotFoundError: There is no log.
        InputError: It has no explored page whose window is over.
    """
    files = sorted((data / RECOMMENDATIONS).glob(_FILES))
    if not files:
        raise NotFoundError(
            f"{data}: no {RECOMMENDATIONS}/{_FILES}; expected the log that `./aisle events sink` writes"
        )
    successes, newest = _successes(data / Table.EVENTS, kinds)
    pages = [p for file in files for p in _pages(file, successes, newest, hours)]
    if not pages:
        raise InputError(
            f"{data / RECOMMENDATIONS}: no explored page that is {hours:g} hours older than the newest event; expected the exploration slice "
            "(exploration.share of configs/serving.yaml, requests with a session_id)"
        )
    return pages


def rows_of(pages: Sequence[ExploredPage], policy: Policy) -> tuple[Log, Target]:
    """The places of pages as rows of a log, and a policy on them."""
    people = {who: n for n, who in enumerate(dict.fromkeys(p.person for p in pages))}
    out = max(len(p.pool) for p in pages)  # the cell of items that were not in the pool
    columns: list[tuple[float, float, int, int, int, float]] = []
    rows, cells, chances = [], [], []
    for page in pages:
        wanted = policy(page)
        at = {item: n for n, item in enumerate(page.pool)}
        for j, item in enumerate(page.items):
            cell = at.get(item, out)
            chosen = float(wanted[cell, j]) if cell < out else 0.0
            there = np.flatnonzero(wanted[:, j])
            rows.append(np.full(len(there), len(columns)))
            cells.append(there)
            chances.append(wanted[there, j])
            columns.append(
                (page.rewards[j], page.propensities[j], page.positions[j], cell, people[page.person], chosen)
            )
    reward, propensity, place, cell_, cluster, chosen_ = (np.array(c) for c in zip(*columns, strict=True))
    log = Log(reward, propensity, place, cell_, cluster)
    return log, Target(chosen_, np.concatenate(rows), np.concatenate(cells), np.concatenate(chances))


def _pages(
    file: Path, successes: Mapping[tuple[str, str], list[int]], newest: int, hours: float
) -> Iterator[ExploredPage]:
    read = pq.read_table(file, columns=[str(c) for c in _READ])
    window = int(hours * HOUR)
    for row in read.filter(pc.fill_null(read[Page.EXPLORED], False)).to_pylist():
        time = microseconds(row[Page.TIME])
        if time + window > newest:
            continue
        if row[Page.PROPENSITIES] is None or len(row[Page.PROPENSITIES]) != len(row[Page.ITEMS]):
            raise InputError(
                f"{file}: page {row[Page.REQUEST_ID]} has no propensities; expected one for each item of it"
            )
        pool = list(row[Page.POOL])
        inside = set(pool)
        sources = row[Page.SOURCES] or [""] * len(row[Page.ITEMS])
        places = [k for k, item in enumerate(row[Page.ITEMS]) if item in inside or sources[k] == _NEW]
        if not places:
            continue
        items = [row[Page.ITEMS][k] for k in places]
        came = [successes.get((row[Page.ATTRIBUTION_TOKEN], item), []) for item in items]
        who = person_key(row[Page.USER_ID], row[Page.VISITOR_ID]) if row[Page.USER_ID] or row[Page.VISITOR_ID] else ""
        yield ExploredPage(
            row[Page.REQUEST_ID],
            who or f"s:{row[Page.SESSION_ID] or row[Page.REQUEST_ID]}",
            pool,
            [row[Page.POSITIONS][k] for k in places],
            items,
            [float(row[Page.PROPENSITIES][k]) for k in places],
            [float(any(time <= t < time + window for t in times)) for times in came],
        )


def _successes(events: Path, kinds: Sequence[str]) -> tuple[dict[tuple[str, str], list[int]], int]:
    """Times of successes by token and item, and of the newest event of all."""
    found: dict[tuple[str, str], list[int]] = {}
    newest = 0
    for file in sorted(events.glob(_FILES)):
        read = pq.read_table(
            file, columns=[Column.ATTRIBUTION_TOKEN, Column.ITEM_ID, Column.EVENT_TYPE, Column.EVENT_TIME]
        )
        for row in read.to_pylist():
            time = microseconds(row[Column.EVENT_TIME])
            newest = max(newest, time)
            if row[Column.ATTRIBUTION_TOKEN] and row[Column.EVENT_TYPE] in kinds:
                found.setdefault((row[Column.ATTRIBUTION_TOKEN], row[Column.ITEM_ID]), []).append(time)
    return found, newest
