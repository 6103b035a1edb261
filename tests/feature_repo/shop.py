"""A small shop with a clock, categories, brands and countries, for the tests of feature tables and the Feast store."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.columns import Coded
from core.prepared import Prepared
from core.schema import DAY
from tests.prepared_fixture import Row, make_prepared

FIRST, LAST = 19_000, 19_090  # days since the epoch: 2022-01-08 to 2022-04-08
ITEMS, PEOPLE = [f"i{n:02}" for n in range(20)], [f"u:{n:02}" for n in range(30)]
_KINDS = ["detail-page-view"] * 5 + ["add-to-cart", "purchase-complete", "purchase-complete", "return", "impression"]


def some_rows(seed: int, first: int = FIRST, last: int = LAST, n: int = 600) -> list[Row]:
    """Random events on the days [first, last)."""
    rng = np.random.default_rng(seed)
    who, what, how = rng.integers(0, 30, n), rng.integers(0, 20, n), rng.integers(0, len(_KINDS), n)
    when = rng.integers(first * DAY, last * DAY, n)
    return [(PEOPLE[u], ITEMS[i], _KINDS[k], int(t)) for u, i, k, t in zip(who, what, how, when, strict=True)]


def make_shop(folder: Path, rows: list[Row], last: int = LAST) -> Prepared:
    """Prepared data of rows in which every id occurs; cut at even quarters of the days up to `last`."""
    cuts = tuple(FIRST * DAY + k * (last - FIRST) * DAY // 4 for k in range(5))
    return make_prepared(
        folder,
        rows,
        cuts=cuts,
        days=True,
        pairs=True,
        price=lambda item, time: 1.0 + time % 13,
        columns={
            "category": Coded.of([["shoes", "hats", None][n % 3] for n in range(20)]),
            "brand": Coded.of(["acme" if n % 2 else "zeta" for n in range(20)]),
        },
        columns_of_people={"attribute.country": Coded.of([["DE", "AT"][n % 2] for n in range(30)])},
    )
