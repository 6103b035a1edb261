"""Groups of items by which answers are compared: how popular, how old, of what kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from core.columns import Array, Coded
from core.prepared import Prepared
from core.schema import DAY
from evaluation.catalogue import Catalogue
from evaluation.exposure import percentiles

OTHER: Final = "other"
NONE: Final = "none given"
_MOST: Final = 10  # named values of a column; the rest is OTHER
_AGES: Final = ("under 30 days", "30-89 days", "90-364 days", "a year and more")
_FROM: Final = (0, 30, 90, 365)  # days
_NEW: Final = "new"  # no event before the cut names the item


@dataclass(frozen=True)
class Grouping:
    """A partition: thing i is in the group `labels[codes[i]]`."""

    name: str
    labels: tuple[str, ...]
    codes: Array  # int64 [n]


def groupings(prepared: Prepared, catalogue: Catalogue, moment: int) -> list[Grouping]:
    """Items by popularity decile, by age at `moment` (microseconds; not where the clock is invented) and by category (where there are any)."""
    found = [by_popularity(catalogue)]
    if not catalogue.synthetic_time:
        found.append(by_age(catalogue, moment))
    category = by_category(prepared)
    return [*found, category] if category is not None else found


def by_popularity(catalogue: Catalogue) -> Grouping:
    """Decile among the items known at the cut; "10" holds the most popular."""
    known = np.flatnonzero(catalogue.known)
    codes = np.full(len(catalogue), 10)
    codes[known] = np.minimum(9, (10 * percentiles(catalogue.popularity[known])).astype(np.int64))
    return Grouping("popularity decile", (*(str(d) for d in range(1, 11)), _NEW), codes)


def by_age(catalogue: Catalogue, moment: int) -> Grouping:
    """Time from the first known event to `moment`, microseconds."""
    age = np.maximum(0, moment - np.where(catalogue.known, catalogue.first_seen, moment)) // DAY
    codes = np.searchsorted(np.array(_FROM), age, side="right") - 1
    return Grouping("item age", (*_AGES, _NEW), np.where(catalogue.known, codes, len(_AGES)))


def by_category(prepared: Prepared) -> Grouping | None:
    """The first level of the category path; None where no item has one."""
    column = prepared.items["category"]
    return top_values("category", column) if isinstance(column, Coded) else None


def by_country(prepared: Prepared) -> Grouping | None:
    """People by the users table's `country`, row-aligned with the user id map; None without such a column."""
    name = "attribute.country"
    column = prepared.users.get(name, None)
    return top_values("country", column) if isinstance(column, Coded) else None


def top_values(name: str, column: Coded) -> Grouping | None:
    """The most frequent values (of a path, its first level) each a group; ties by name. None where nothing has a value."""
    firsts = np.array([value.partition(" > ")[0] for value in column.values], str)
    values, of_code = np.unique(firsts, return_inverse=True)
    given = column.codes >= 0
    if not given.any():
        return None
    codes = np.full(len(column), -1)
    codes[given] = of_code[column.codes[given]]
    counts = np.bincount(codes[given], minlength=len(values))
    order = np.lexsort((values, -counts))[:_MOST]
    order = order[counts[order] > 0]
    place = np.full(len(values) + 1, len(order))  # OTHER
    place[order], place[-1] = np.arange(len(order)), len(order) + 1  # NONE
    return Grouping(name, (*values[order].tolist(), OTHER, NONE), place[codes])
