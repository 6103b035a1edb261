"""A release's items with those of the catalog's log in rows behind them: every array of the request path, written to by one thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from core.catalog_entry import ATTRIBUTES, Row, is_available
from core.columns import Array
from core.live_columns import LiveColumns
from core.release import SOURCES
from core.room import with_room
from core.schema import Column
from ranking.live_items import LiveItemTable
from retrieval.query import TowerSource
from retrieval.sources import TOWERS
from serving.live_ids import LiveIds
from serving.live_towers import LiveTowers, Newcomers
from serving.release import Release

ROOM: Final = 1 << 20  # rows for new items: addresses, not memory
_PREFIX: Final = "attribute."  # of attribute columns
_CONTENT: Final = {
    Column.TITLE,
    Column.CATEGORY,
    Column.BRAND,
    Column.PRICE,
}  # and attributes: what the item tower reads
_NOT_TAGS: Final = {Column.ITEM_ID, Column.TITLE, Column.PRICE}


class LiveItems:
    """The items of `base`, and new ones; `view` is a release that has them all."""

    def __init__(self, base: Release) -> None:
        self._base, self._known = base, base.items.rows
        self.rows = self._known  # in use, whether their item is there or not
        self.available: Array = with_room(base.available, ROOM)  # bool [rows]; every view sees it change
        self._fill = with_room(base.fill, ROOM)
        self._columns = LiveColumns(base.items, ROOM)
        self._table = None if base.table is None else LiveItemTable(base.table, ROOM)
        self._new, self._ids = dict[str, int](), dict[int, str]()
        towers = next((s for s in base.sources if isinstance(s, TowerSource)), None)
        self._towers = None if towers is None else LiveTowers(towers, base.path / SOURCES / TOWERS, ROOM)

    @property
    def new(self) -> int:
        """Rows of items that the release does not know."""
        return self.rows - self._known

    def row(self, item_id: str) -> int:
        """Where an item is; NO_ROW."""
        return self._new[item_id] if item_id in self._new else self._base.item_ids.row(item_id)

    def known(self, item_id: str) -> bool:
        """Whether the release has the item."""
        return item_id not in self._new and self._base.item_ids.row(item_id) >= 0

    def deleted(self, item_id: str) -> bool:
        """Whether the release knows that an item of its is gone, from the entries that it has seen."""
        items = self._base.items
        return Column.DELETED in items and bool(items.numbers(Column.DELETED)[self._base.item_ids.row(item_id)])

    def vectors(self, rows: Sequence[Row]) -> Sequence[Array | None]:
        """Of items as upserted, float32 `[d]` each; None in a release without towers. Reads nothing that `write` changes, and takes some time."""
        if self._towers is None:
            return [None] * len(rows)
        content = [{n: v for n, v in columns_of(row).items() if n in _CONTENT or n.startswith(_PREFIX)} for row in rows]
        return list(
            self._towers.vectors(content, self._base.item_ids.rows(row[Column.ITEM_ID] for row in rows).tolist())
        )

    def write(self, row: Row, vector: Array | None) -> int:
        """Put an item in its row, which is returned; a new id gets the next one. Its availability stays as it is: of a new one, none.

        Raises:
            IndexError: if there is no room.
        """
        item_id, columns = str(row[Column.ITEM_ID]), columns_of(row)
        at = self.row(item_id)
        if at < 0:
            at = self.rows
            self._fill[at] = at
        self._columns.write(at, columns | {Column.AVAILABLE: is_available(row), Column.DELETED: False})
        if self._table is not None:
            self._table.write(at, row.get(Column.PRICE), _tags(columns))
        if self._towers is not None and vector is not None:
            self._towers.write(at, vector)
        if at == self.rows:
            self._new[item_id], self._ids[at] = at, item_id
            self.rows += 1
        return at

    def view(self) -> Release:
        """The release with all rows of now. It never changes, but for the availability of items and what is known of a changed one."""
        base, n = self._base, self.rows
        items = self._columns.view(n)
        towers = None if self._towers is None else self._towers.view(n, self.available)
        return replace(
            base,
            item_ids=base.item_ids if n == self._known else LiveIds.over(base.item_ids, self._new, self._ids, n),
            items=items,
            sources=tuple(towers if towers and isinstance(s, TowerSource) else s for s in base.sources),
            table=None if self._table is None else self._table.view(items),
            available=self.available[:n],
            fill=self._fill[:n],
            newcomers=(Newcomers(towers, self._known),) if towers and n > self._known else (),
        )


def columns_of(row: Row) -> dict[str, Any]:
    """An upserted item under the names of prepared columns."""
    return {
        **{name: value for name, value in row.items() if name != ATTRIBUTES},
        **{_PREFIX + name: value for name, value in row.get(ATTRIBUTES, {}).items()},
    }


def _tags(columns: dict[str, Any]) -> list[str]:
    """As in the ranker's item table: `name=value` of every text and list."""
    found = []
    for name, value in columns.items():
        if name not in _NOT_TAGS:
            texts = value if isinstance(value, list) else [value] if isinstance(value, str) else []
            found += [f"{name.removeprefix(_PREFIX)}={text}" for text in texts]
    return found
