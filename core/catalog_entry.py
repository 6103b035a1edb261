"""What one entry of the catalog's log says, and what all entries so far say of an item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, Self

import orjson

from core.schema import Column

Row = Mapping[str, Any]  # an item under the names of the items table; attributes under their own

ATTRIBUTES: Final = "attributes"
Window = tuple[float, float]  # half-open, microseconds
ALWAYS: Final = (float("-inf"), float("inf"))


class Kind(StrEnum):
    """The calls that write entries."""

    UPSERT = "upsert"
    DELETE = "delete"
    AVAILABILITY = "availability"


@dataclass(frozen=True)
class Entry:
    """One call. As JSON: `{"time", "kind"}` and `items` (upsert), or `item_ids` and, for availability, `available`."""

    kind: Kind
    time: int  # microseconds: when it was written, by the server's clock
    items: tuple[Row, ...] = ()
    item_ids: tuple[str, ...] = ()
    available: bool = False
    sequence: int = 0  # the log gives it

    def payload(self) -> bytes:
        """For the log, which keeps the sequence number beside it."""
        said: dict[str, Any] = {"time": self.time, "kind": self.kind}
        if self.kind is Kind.UPSERT:
            said["items"] = self.items
        else:
            said["item_ids"] = self.item_ids
        if self.kind is Kind.AVAILABILITY:
            said["available"] = self.available
        return orjson.dumps(said)

    @classmethod
    def of(cls, sequence: int, payload: bytes) -> Self:
        """From the log."""
        said = orjson.loads(payload)
        return cls(
            Kind(said["kind"]),
            said["time"],
            tuple(said.get("items", ())),
            tuple(said.get("item_ids", ())),
            said.get("available", False),
            sequence,
        )


@dataclass
class Listing:
    """What the entries say of one item. None: nothing, so the items table counts."""

    row: Row | None = None  # of the last upsert
    deleted: bool = False
    available: bool | None = None
    row_time: int = 0  # microseconds: when `row` was said
    available_time: int = 0

    def there(self, in_table: bool) -> bool:
        """Whether the item exists; `in_table`: the release knows it."""
        return not self.deleted and (in_table or self.row is not None)

    def holds(self, in_table: bool, table_available: bool, now: int, table_window: Window = ALWAYS) -> bool:
        """Whether it may be shown at `now`, microseconds."""
        if not self.there(in_table):
            return False
        since, until = table_window if self.row is None else window(self.row)
        flag = table_available if self.available is None else self.available
        return flag and since <= now < until


@dataclass
class Listings:
    """Every item that entries speak of. A plain fold over the log: later entries win."""

    of: dict[str, Listing] = field(default_factory=dict)

    def apply(self, entry: Entry) -> tuple[str, ...]:
        """Take an entry in; the ids that it speaks of."""
        if entry.kind is Kind.UPSERT:
            for row in entry.items:
                flag = is_available(row)
                self.of[row[Column.ITEM_ID]] = Listing(row, False, flag, entry.time, entry.time)
            return tuple(row[Column.ITEM_ID] for row in entry.items)
        for item_id in entry.item_ids:
            listing = self.of.setdefault(item_id, Listing())
            if entry.kind is Kind.DELETE:
                listing.deleted = True
            else:
                listing.available, listing.available_time = entry.available, entry.time
        return entry.item_ids


def lasting(entries: Sequence[Entry]) -> list[Entry]:
    """What remains of entries when all that later ones supersede is left out: also for a release that has seen some of them.

    An upsert supersedes whatever came before it for its item, a deletion the upsert (until the next one the item is gone), and of deletions and
    availabilities the last of each kind counts.
    """
    kept: list[Entry] = []
    upserted, deleted, flagged = set[str](), set[str](), set[str]()
    for entry in reversed(entries):
        if entry.kind is Kind.UPSERT:
            ids = [row[Column.ITEM_ID] for row in entry.items]
            left = {i for i in ids if i not in upserted and i not in deleted}
            entry = replace(entry, items=tuple(row for row in entry.items if row[Column.ITEM_ID] in left))
            upserted.update(ids)
        else:
            before = deleted if entry.kind is Kind.DELETE else flagged
            ids = [i for i in entry.item_ids if i not in upserted and i not in before]
            entry = replace(entry, item_ids=tuple(ids))
            before.update(ids)
        if entry.items or entry.item_ids:
            kept.append(entry)
    return kept[::-1]


def is_available(row: Row) -> bool:
    """What a row of the items table says: `available`, else whether there is `stock`, else yes."""
    if row.get(Column.AVAILABLE) is not None:
        return bool(row[Column.AVAILABLE])
    stock = row.get(Column.STOCK)
    return stock is None or stock > 0


def window(row: Row) -> Window:
    """When an item is available; without an end that is not known."""
    since, until = row.get(Column.AVAILABLE_FROM), row.get(Column.AVAILABLE_UNTIL)
    return (since if since else ALWAYS[0]), (until if until else ALWAYS[1])
