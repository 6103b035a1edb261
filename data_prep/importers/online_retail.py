"""UCI Online Retail: invoice lines of a UK gift shop, as Parquet or as the CSV that is passed around (ISO-8859-1, US dates).

A line of a sale is a purchase; a line of a cancellation (invoice C..., negative quantity) is a return of as many pieces. A line without a
customer belongs to a guest, who is known by the invoice. Codes such as POST or M are kept as items: people do buy them, and what should never
be recommended is a rule of the shop, not of the import.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from core.schema import Column, EventType, Table
from data_prep.data_directory import table_schema
from data_prep.importers.source import Source, numbers, text_rows
from data_prep.importers.target import MALFORMED, Target

EXPECTS: Final = "online_retail.parquet or .csv with one invoice line a row (save the Excel sheet as CSV)"
ASSUMES: Final = "invoice times are UTC; prices are GBP"
CURRENCY: Final = "GBP"
COUNTRY: Final = "country"

_COLUMNS: Final = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
_EVENTS: Final = table_schema(
    Table.EVENTS,
    (
        Column.EVENT_ID,
        Column.EVENT_TYPE,
        Column.EVENT_TIME,
        Column.ITEM_ID,
        Column.USER_ID,
        Column.VISITOR_ID,
        Column.SESSION_ID,
        Column.QUANTITY,
        Column.PRICE,
        Column.CURRENCY,
    ),
)
_ITEMS: Final = table_schema(Table.ITEMS, (Column.ITEM_ID, Column.TITLE, Column.PRICE, Column.CURRENCY))
_USERS: Final = table_schema(Table.USERS, (Column.USER_ID,), {COUNTRY: _EVENTS.field(Column.USER_ID).type})


def read(source: Source, target: Target) -> None:
    """Invoice lines into events, items (most frequent description, median price) and users (country)."""
    path = source.main("*retail*.parquet", "*retail*.csv", "*.parquet", "*.csv")
    target.sources.append(path.name)
    facts: list[pd.DataFrame] = []  # item, title, price, number of lines
    countries: dict[str, str] = {}
    lines = 0
    for text in text_rows(path, _COLUMNS, lambda row: target.reject(row, MALFORMED, path), "latin-1"):
        numbered = pd.Series(np.arange(lines, lines + len(text)).astype(str), index=text.index)
        lines += len(text)
        events = _events(text, numbered, target, path)
        target.write(Table.EVENTS, events, _EVENTS)
        events[Column.TITLE] = text["Description"].str.strip()
        facts.append(events.groupby([Column.ITEM_ID, Column.TITLE, Column.PRICE]).size().rename("lines").reset_index())
        of_user = (
            events[[Column.USER_ID]]
            .assign(**{COUNTRY: text["Country"].str.strip()})
            .dropna()
            .drop_duplicates(Column.USER_ID)
        )
        countries = dict(zip(of_user[Column.USER_ID], of_user[COUNTRY], strict=True)) | countries
    target.write(Table.ITEMS, _items(pd.concat(facts, ignore_index=True)), _ITEMS)
    users = pd.DataFrame(sorted(countries.items()), columns=[Column.USER_ID, COUNTRY])
    target.write(Table.USERS, users, _USERS)


def _events(text: pd.DataFrame, numbered: pd.Series[str], target: Target, path: Path) -> pd.DataFrame:
    invoice, item = text["InvoiceNo"].str.strip(), text["StockCode"].str.strip()
    customer = text["CustomerID"].str.strip().str.removesuffix(".0")  # a float column, because some are missing
    quantity, price, time = numbers(text["Quantity"]), numbers(text["UnitPrice"]), _times(text["InvoiceDate"])
    cancelled = invoice.str.upper().str.startswith("C")
    kept = target.sift(
        text,
        [
            (invoice.eq(""), "no invoice number"),
            (item.eq(""), "no stock code"),
            (invoice.str.upper().str.startswith("A"), "an accounting adjustment (invoice A...), not a sale"),
            (time.isna(), "no readable date"),
            (quantity.isna(), "quantity is not a number"),
            (price.isna(), "price is not a number"),
            (price.le(0), "price is not positive"),
            (quantity.le(0) & ~cancelled, "quantity is not positive and the invoice is no cancellation"),
            (quantity.ge(0) & cancelled, "a cancellation whose quantity is not negative"),
        ],
        path,
    )
    frame = pd.DataFrame(
        {
            # Invoices do repeat a line: its number keeps the two apart.
            Column.EVENT_ID: numbered,
            Column.EVENT_TYPE: np.where(cancelled, EventType.RETURN.value, EventType.PURCHASE_COMPLETE.value),
            Column.EVENT_TIME: time,
            Column.ITEM_ID: item,
            Column.USER_ID: customer.mask(customer.eq("")),
            Column.VISITOR_ID: invoice.where(customer.eq("")),
            Column.SESSION_ID: invoice,
            Column.QUANTITY: quantity.abs(),
            Column.PRICE: price,
            Column.CURRENCY: CURRENCY,
        }
    )
    return frame[kept].copy()


def _times(cells: pd.Series[str]) -> pd.Series[pd.Timestamp]:
    """ISO text, or month/day/year as the CSV has it."""
    iso = pd.to_datetime(cells, format="ISO8601", errors="coerce", utc=True)
    if not iso.isna().any():
        return iso
    return iso.fillna(pd.to_datetime(cells, format="%m/%d/%Y %H:%M", errors="coerce", utc=True))


def _items(facts: pd.DataFrame) -> pd.DataFrame:
    """Facts `[distinct item, title, price]` with their number of lines -> one row an item; of equally frequent titles the first by name."""
    titles = facts[facts[Column.TITLE].ne("")].groupby([Column.ITEM_ID, Column.TITLE])["lines"].sum().reset_index()
    titles = titles.sort_values([Column.ITEM_ID, "lines", Column.TITLE], ascending=[True, False, True])
    title = titles.drop_duplicates(Column.ITEM_ID).set_index(Column.ITEM_ID)[Column.TITLE]
    price = facts.loc[facts.index.repeat(facts["lines"])].groupby(Column.ITEM_ID)[Column.PRICE].median()
    return (
        pd.DataFrame({Column.TITLE: title, Column.PRICE: price})
        .rename_axis(Column.ITEM_ID)
        .reset_index()
        .assign(**{Column.CURRENCY: CURRENCY})
    )
