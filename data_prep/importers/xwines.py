"""X-Wines (slim or full): dated ratings of wines, and wines with grapes, food pairings and origin."""

from __future__ import annotations

import ast
from typing import Final

import pandas as pd
import pyarrow as pa

from core.schema import Column, EventType, Table
from data_prep.data_directory import table_schema
from data_prep.importers.source import Source, numbers, text_rows
from data_prep.importers.target import MALFORMED, Target

EXPECTS: Final = "XWines_*_ratings.csv (RatingID, UserID, WineID, Rating, Date) and XWines_*_wines.csv, plain or gzip"
ASSUMES: Final = "rating times are UTC; vintages of a wine are one item"

_TEXT: Final = pa.string()
_LIST: Final = pa.list_(_TEXT)
_EVENTS: Final = table_schema(
    Table.EVENTS, (Column.EVENT_ID, Column.EVENT_TYPE, Column.EVENT_TIME, Column.ITEM_ID, Column.USER_ID, Column.VALUE)
)
# attribute -> (column of the file, type)
_ATTRIBUTES: Final = {
    "country": ("Country", _TEXT),
    "region": ("RegionName", _TEXT),
    "body": ("Body", _TEXT),
    "acidity": ("Acidity", _TEXT),
    "elaborate": ("Elaborate", _TEXT),
    "abv": ("ABV", pa.float64()),
    "grapes": ("Grapes", _LIST),
    "harmonize": ("Harmonize", _LIST),
}
_ITEMS: Final = table_schema(
    Table.ITEMS,
    (Column.ITEM_ID, Column.TITLE, Column.CATEGORY, Column.BRAND),
    {name: kind for name, (_, kind) in _ATTRIBUTES.items()},
)


def read(source: Source, target: Target) -> None:
    """Ratings into `rating` events with their value, wines into items (category: type of wine, brand: winery)."""
    path = source.main("*ratings.csv")
    target.sources.append(path.name)
    for text in text_rows(
        path, ("RatingID", "UserID", "WineID", "Rating", "Date"), lambda row: target.reject(row, MALFORMED, path)
    ):
        user, wine, rating = text["UserID"].str.strip(), text["WineID"].str.strip(), numbers(text["Rating"])
        time = pd.to_datetime(text["Date"], format="ISO8601", errors="coerce", utc=True)
        kept = target.sift(
            text,
            [
                (user.eq(""), "no user"),
                (wine.eq(""), "no wine"),
                (rating.isna(), "rating is not a number"),
                (time.isna(), "no readable date"),
            ],
            path,
        )
        events = pd.DataFrame(
            {
                Column.EVENT_ID: text["RatingID"],
                Column.EVENT_TYPE: EventType.RATING.value,
                Column.EVENT_TIME: time,
                Column.ITEM_ID: wine,
                Column.USER_ID: user,
                Column.VALUE: rating,
            }
        )
        target.write(Table.EVENTS, events[kept], _EVENTS)
    _items(source, target)
    target.write_ids(Table.USERS)


def _items(source: Source, target: Target) -> None:
    path = source.beside("*wines.csv")
    if path is None:
        target.notes.append("no *wines.csv: items carry no attributes")
        target.write_ids(Table.ITEMS)
        return
    target.sources.append(path.name)
    skipped: list[str] = []
    columns = ["WineID", "WineName", "Type", "WineryName", *(column for column, _ in _ATTRIBUTES.values())]
    text = pd.concat(text_rows(path, columns, skipped.append), ignore_index=True)
    if skipped:
        target.notes.append(f"{path.name}: {len(skipped)} malformed rows left out")
    wines = pd.DataFrame(
        {
            Column.ITEM_ID: text["WineID"].str.strip(),
            Column.TITLE: text["WineName"],
            Column.CATEGORY: text["Type"],
            Column.BRAND: text["WineryName"],
        }
    )
    for name, (column, kind) in _ATTRIBUTES.items():
        cells = text[column]
        wines[name] = cells.map(_listed) if kind == _LIST else numbers(cells) if kind == pa.float64() else cells
    target.write(Table.ITEMS, target.first_of_each(wines, Column.ITEM_ID, path), _ITEMS)


def _listed(cell: str) -> list[str]:
    """A list as Python prints it; any other text is a list of one."""
    try:
        value = ast.literal_eval(cell)
    except (ValueError, SyntaxError):
        value = cell
    return [str(v) for v in value] if isinstance(value, list) else [cell] if cell else []
