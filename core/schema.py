"""The data contract (docs/data-contract.md): tables, columns, event types. No other module spells these names out.

Times are int64 microseconds since the epoch, UTC, wherever they are numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MICROSECOND: Final = 1
SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR


class Table(StrEnum):
    """The three tables a shop gives, each a folder of files in the data directory."""

    EVENTS = "events"
    ITEMS = "items"
    USERS = "users"


class Column(StrEnum):
    """Column names of the tables a shop gives (external) and of the prepared ones (rows instead of ids)."""

    # events
    EVENT_TYPE = "event_type"
    EVENT_TIME = "event_time"
    ITEM_ID = "item_id"
    USER_ID = "user_id"
    VISITOR_ID = "visitor_id"
    EVENT_ID = "event_id"
    SESSION_ID = "session_id"
    QUANTITY = "quantity"
    PRICE = "price"
    CURRENCY = "currency"
    POSITION = "position"
    PLACEMENT = "placement"
    QUERY = "query"
    ATTRIBUTION_TOKEN = "attribution_token"
    VALUE = "value"
    # items
    TITLE = "title"
    CATEGORY = "category"
    BRAND = "brand"
    ITEM_GROUP_ID = "item_group_id"
    AVAILABLE = "available"
    STOCK = "stock"
    CREATED_AT = "created_at"
    AVAILABLE_FROM = "available_from"
    AVAILABLE_UNTIL = "available_until"
    # prepared
    ITEM = "item"  # int32 row of the item id map
    USER = "user"  # int32 row of the user id map (known users and visitors)
    TIME = "time"  # int64 microseconds
    TYPE = "type"  # int8 code of the event type
    GAIN = "gain"  # float32, what the event counts as a label
    SESSION = "session"  # int64, unique in the prepared set
    DELETED = "deleted"  # bool: the live catalog's log says that the item is gone


class EventType(StrEnum):
    """What can happen. The order is the int8 code in prepared data and histories: append only."""

    IMPRESSION = "impression"
    DETAIL_PAGE_VIEW = "detail-page-view"
    CLICK = "click"
    ADD_TO_CART = "add-to-cart"
    REMOVE_FROM_CART = "remove-from-cart"
    ADD_TO_WISHLIST = "add-to-wishlist"
    SEARCH = "search"
    PURCHASE_COMPLETE = "purchase-complete"
    RETURN = "return"
    RATING = "rating"

    @property
    def code(self) -> int:
        """The int8 code of this type in prepared data."""
        return EVENT_TYPES.index(self)


EVENT_TYPES: Final[tuple[EventType, ...]] = tuple(EventType)


@dataclass(frozen=True)
class TableContract:
    """Required and optional columns of a table. `kinds` names what each known column must hold."""

    table: Table
    required: tuple[Column, ...]
    kinds: dict[Column, str]  # text | time | number | integer | boolean
    attributes: bool  # unknown columns become attributes (else they are ignored, and counted)


EVENTS: Final = TableContract(
    Table.EVENTS,
    (Column.EVENT_TYPE, Column.EVENT_TIME, Column.ITEM_ID),  # and user_id or visitor_id
    {
        Column.EVENT_TYPE: "text",
        Column.EVENT_TIME: "time",
        Column.ITEM_ID: "text",
        Column.USER_ID: "text",
        Column.VISITOR_ID: "text",
        Column.EVENT_ID: "text",
        Column.SESSION_ID: "text",
        Column.QUANTITY: "number",
        Column.PRICE: "number",
        Column.CURRENCY: "text",
        Column.POSITION: "integer",
        Column.PLACEMENT: "text",
        Column.QUERY: "text",
        Column.ATTRIBUTION_TOKEN: "text",
        Column.VALUE: "number",
    },
    attributes=False,
)
ITEMS: Final = TableContract(
    Table.ITEMS,
    (Column.ITEM_ID,),
    {
        Column.ITEM_ID: "text",
        Column.TITLE: "text",
        Column.CATEGORY: "text",
        Column.BRAND: "text",
        Column.PRICE: "number",
        Column.CURRENCY: "text",
        Column.ITEM_GROUP_ID: "text",
        Column.AVAILABLE: "boolean",
        Column.STOCK: "integer",
        Column.CREATED_AT: "time",
        Column.AVAILABLE_FROM: "time",
        Column.AVAILABLE_UNTIL: "time",
    },
    attributes=True,
)
USERS: Final = TableContract(
    Table.USERS,
    (Column.USER_ID,),
    {Column.USER_ID: "text", Column.CREATED_AT: "time"},
    attributes=True,
)
CONTRACTS: Final[dict[Table, TableContract]] = {c.table: c for c in (EVENTS, ITEMS, USERS)}

CATEGORY_SEPARATOR: Final = " > "

# Beside the tables of a data directory that `import` or `simulate` wrote.
DATASET_FILE: Final = "dataset.yaml"  # layout, source file names, `synthetic_time: true|false`
REJECTED: Final = "rejected"  # folder of the rows that could not become events, each with its `reason`
REASON: Final = "reason"
