"""MovieLens in its CSV layout (latest-small, 20M, 25M, 32M): ratings.csv with epoch seconds, movies.csv with genres by `|`."""

from __future__ import annotations

from typing import Final

import pandas as pd
import pyarrow as pa

from core.schema import Column, EventType, Table
from data_prep.data_directory import table_schema
from data_prep.importers.source import Source, numbers, text_rows
from data_prep.importers.target import MALFORMED, Target

EXPECTS: Final = "ratings.csv (userId, movieId, rating, timestamp) and movies.csv, plain or gzip"
GENRES: Final = "genres"
YEAR: Final = "year"

_NO_GENRES: Final = "(no genres listed)"
_LATEST: Final = 2**32  # seconds; later is milliseconds or junk
_EVENTS: Final = table_schema(
    Table.EVENTS, (Column.EVENT_TYPE, Column.EVENT_TIME, Column.ITEM_ID, Column.USER_ID, Column.VALUE)
)
_ITEMS: Final = table_schema(
    Table.ITEMS, (Column.ITEM_ID, Column.TITLE), {GENRES: pa.list_(pa.string()), YEAR: pa.int64()}
)


def read(source: Source, target: Target) -> None:
    """Ratings into `rating` events with their value, movies into items with genres and the year that ends the title."""
    path = source.main("ratings.csv")
    target.sources.append(path.name)
    for text in text_rows(
        path, ("userId", "movieId", "rating", "timestamp"), lambda row: target.reject(row, MALFORMED, path)
    ):
        user, movie = text["userId"].str.strip(), text["movieId"].str.strip()
        rating, seconds = numbers(text["rating"]), numbers(text["timestamp"])
        kept = target.sift(
            text,
            [
                (user.eq(""), "no user"),
                (movie.eq(""), "no movie"),
                (rating.isna(), "rating is not a number"),
                (seconds.isna(), "timestamp is not a number"),
                (~seconds.between(0, _LATEST), "timestamp is not in epoch seconds"),
            ],
            path,
        )
        events = pd.DataFrame(
            {
                Column.EVENT_TYPE: EventType.RATING.value,
                Column.EVENT_TIME: pd.to_datetime(seconds[kept], unit="s", utc=True),
                Column.ITEM_ID: movie[kept],
                Column.USER_ID: user[kept],
                Column.VALUE: rating[kept],
            }
        )
        target.write(Table.EVENTS, events, _EVENTS)
    _items(source, target)
    target.write_ids(Table.USERS)


def _items(source: Source, target: Target) -> None:
    path = source.beside("movies.csv")
    if path is None:
        target.notes.append("no movies.csv: items carry no title and no genres")
        target.write_ids(Table.ITEMS)
        return
    target.sources.append(path.name)
    skipped: list[str] = []
    text = pd.concat(text_rows(path, ("movieId", "title", "genres"), skipped.append), ignore_index=True)
    if skipped:
        target.notes.append(f"{path.name}: {len(skipped)} malformed rows left out")
    movies = pd.DataFrame(
        {
            Column.ITEM_ID: text["movieId"].str.strip(),
            Column.TITLE: text["title"].str.strip(),
            GENRES: text["genres"].map(_genres),
            YEAR: pd.to_numeric(text["title"].str.extract(r"\((\d{4})\)\s*$")[0], errors="coerce").astype("Int64"),
        }
    )
    target.write(Table.ITEMS, target.first_of_each(movies, Column.ITEM_ID, path), _ITEMS)


def _genres(cell: str) -> list[str]:
    return [] if cell.strip() in ("", _NO_GENRES) else cell.strip().split("|")
