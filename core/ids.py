"""External ids (strings, the shop's) and rows (dense int32, ours): different types, one map between them.

An id map only ever grows: a row is never reused. A deleted id becomes a tombstone: its row stays, its text and its hash do not, so that who
comes back under the same id is a new person with a new row. Only `prepare` assigns permanent rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Final, NewType

import numpy as np

from core.columns import Array, Columns, Texts

ItemId = NewType("ItemId", str)
ItemRow = NewType("ItemRow", int)
PersonKey = NewType("PersonKey", str)
PersonRow = NewType("PersonRow", int)

NO_ROW: Final = -1
_MOST_SEARCHED: Final = 2_000  # ids that are looked up one by one


def person_key(user_id: str | None, visitor_id: str | None = None) -> PersonKey:
    """The key of a person in the id map and in Redis. A known user wins over the visitor they came as.

    >>> person_key("7", "guest-1"), person_key(None, "7")
    ('u:7', 'v:7')
    """
    return PersonKey(f"u:{user_id}" if user_id else f"v:{visitor_id}")


def hash64(text: str) -> int:
    """A stable 64-bit hash of an id: the first 8 bytes of BLAKE2b, little-endian."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


class IdMap:
    """External id <-> row, memory-mapped. Look-ups by binary search on a sorted 64-bit hash, then the id itself is compared."""

    def __init__(self, ids: Texts, hashes: Array, order: Array, alive: Array) -> None:
        self._ids, self._hashes, self._order = ids, hashes, order
        self.alive = alive  # bool [n], False for a tombstone

    @classmethod
    def of(cls, ids: Iterable[str], alive: Array | None = None) -> IdMap:
        """Row i is the i-th id. Ids must be distinct and not empty, but for those that are not `alive` (bool `[n]`): they are tombstones, empty."""
        ids = list(ids)
        alive = np.ones(len(ids), bool) if alive is None else alive
        if len(set(ids) - {""}) != int(alive.sum()) or any(
            bool(i) != a for i, a in zip(ids, alive.tolist(), strict=True)
        ):
            raise ValueError("ids must be distinct and not empty, those of tombstones empty")
        hashes = np.fromiter((hash64(i) for i in ids), np.uint64, len(ids))
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        return cls(Texts.of(ids), hashes[order], order, alive)

    @classmethod
    def open(cls, folder: Path) -> IdMap:
        """Memory-map the map that `write` left in `folder`."""
        c = Columns.open(folder)
        ids = c["id"]
        assert isinstance(ids, Texts)
        return cls(ids, c.numbers("hash"), c.numbers("order"), c.numbers("alive"))

    def write(self, folder: Path) -> None:
        """Write as a column folder."""
        Columns({"id": self._ids, "hash": self._hashes, "order": self._order, "alive": self.alive}).write(folder)

    def extended(self, ids: Iterable[str]) -> IdMap:
        """This map plus the ids it lacks, in sorted order after the present rows (so that the result does not depend on the order given)."""
        new = sorted(set(ids).difference(self._ids, [""]))
        return IdMap.of([*self._ids, *new], np.concatenate([self.alive, np.ones(len(new), bool)]))

    def without(self, ids: Iterable[str]) -> IdMap:
        """This map with tombstones in the rows of `ids`, as far as it has them: nothing in it is derived from them any more."""
        alive = np.array(self.alive)
        rows = self.rows(set(ids))
        alive[rows[rows != NO_ROW]] = False
        return IdMap.of((i if a else "" for i, a in zip(self._ids, alive.tolist(), strict=True)), alive)

    def row(self, external: str) -> int:
        """The row of an id, or NO_ROW. The empty text is no id, though tombstones hold it."""
        if not external:
            return NO_ROW
        wanted = np.uint64(hash64(external))
        at = int(np.searchsorted(self._hashes, wanted))
        while at < len(self._hashes) and self._hashes[at] == wanted:
            if self._ids[self._order[at]] == external:
                return int(self._order[at])
            at += 1
        return NO_ROW

    def rows(self, externals: Iterable[str]) -> Array:
        """int32 rows of many ids, NO_ROW for an unknown one."""
        externals = list(externals)
        # the table takes a second to make for a million ids: no request may wait for that
        if len(externals) > _MOST_SEARCHED or "_table" in self.__dict__:
            return np.fromiter((self._table.get(e, NO_ROW) for e in externals), np.int32, len(externals))
        return self._searched(externals)

    def _searched(self, externals: list[str]) -> Array:
        """`row` of each, with one search for all."""
        rows = np.full(len(externals), NO_ROW, np.int32)
        if not len(self._hashes):
            return rows
        hashes = np.fromiter(map(hash64, externals), np.uint64, len(externals))
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        found = self._order[at]
        for n in np.flatnonzero(self._hashes[at] == hashes).tolist():
            row = int(found[n])
            # another id may have the same hash: then it is looked for among those
            rows[n] = row if externals[n] and self._ids[row] == externals[n] else self.row(externals[n])
        return rows

    @property
    def texts(self) -> Texts:
        """Every id in the order of rows; a tombstone's is empty."""
        return self._ids

    @cached_property
    def _table(self) -> dict[str, int]:
        return {external: row for row, external in enumerate(self._ids) if external}

    def __getitem__(self, row: int) -> str:
        return str(self._ids[row])

    def __len__(self) -> int:
        return len(self._ids)
