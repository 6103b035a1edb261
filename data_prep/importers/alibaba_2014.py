"""The sample of the Alibaba big-data contest of 2014: clicks, purchases, favourites and carts of Tmall users on brands.

Dates are a month and a day, as `6-4` or as the original's characters. The contest opened in March 2014 and its data runs from 15 April to
15 August, so the year is taken to be 2013. There is no time of day: an event stands at the start of its day.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from core.schema import Column, EventType, Table
from data_prep.data_directory import table_schema
from data_prep.importers.source import Source, text_rows
from data_prep.importers.target import MALFORMED, Target

YEAR: Final = 2013
EXPECTS: Final = "t_alibaba_data.csv (user_id, brand_id, type, visit_datetime), plain or gzip"
ASSUMES: Final = f"the year is {YEAR}, and every event stands at 00:00 UTC of its day; brands are the items"
TYPES: Final = {
    "0": EventType.CLICK,
    "1": EventType.PURCHASE_COMPLETE,
    "2": EventType.ADD_TO_WISHLIST,
    "3": EventType.ADD_TO_CART,
}

_EVENTS: Final = table_schema(
    Table.EVENTS, (Column.EVENT_ID, Column.EVENT_TYPE, Column.EVENT_TIME, Column.ITEM_ID, Column.USER_ID)
)


def read(source: Source, target: Target) -> None:
    """Rows into events of four types; items and users are known by their ids alone."""
    path = source.main("*alibaba*.csv", "*.csv")
    target.sources.append(path.name)
    target.notes.append(ASSUMES)
    rows = 0
    for text in text_rows(
        path, ("user_id", "brand_id", "type", "visit_datetime"), lambda row: target.reject(row, MALFORMED, path)
    ):
        # A person clicks a brand many times a day: the row number keeps the clicks apart.
        numbered = pd.Series(np.arange(rows, rows + len(text)).astype(str), index=text.index)
        rows += len(text)
        user, brand = text["user_id"].str.strip(), text["brand_id"].str.strip()
        kind, time = (
            text["type"].str.strip().map({code: t.value for code, t in TYPES.items()}),
            _days(text["visit_datetime"]),
        )
        kept = target.sift(
            text,
            [
                (user.eq(""), "no user"),
                (brand.eq(""), "no brand"),
                (kind.isna(), "type is none of 0, 1, 2, 3"),
                (time.isna(), "visit_datetime is no month and day"),
            ],
            path,
        )
        events = pd.DataFrame(
            {
                Column.EVENT_ID: numbered,
                Column.EVENT_TYPE: kind,
                Column.EVENT_TIME: time,
                Column.ITEM_ID: brand,
                Column.USER_ID: user,
            }
        )
        target.write(Table.EVENTS, events[kept], _EVENTS)
    target.write_ids(Table.ITEMS)
    target.write_ids(Table.USERS)


def _days(cells: pd.Series[str]) -> pd.Series[pd.Timestamp]:
    parts = cells.str.strip().str.extract(r"^(\d{1,2})(?:-|月)(\d{1,2})日?$")
    dated = f"{YEAR}-" + parts[0].str.zfill(2) + "-" + parts[1].str.zfill(2)
    return pd.to_datetime(dated, format="%Y-%m-%d", errors="coerce", utc=True)
