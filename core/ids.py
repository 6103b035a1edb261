"""External ids (strings, the shop's) and rows (dense int32, ours): different types, one map between them.

An id map only ever grows: a row is never reused, a deleted id becomes a tombstone. Only `prepare` assigns permanent rows.
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
        self.alive = alive  # bool [n], False for a deleted id

    @classmethod
    def of(cls, ids: Iterable[str], alive: Array | None = None) -> IdMap:
        """Row i is the i-th id. Ids must be distinct and not empty."""
        ids = list(ids)
        if len(set(ids)) != len(ids) or "" in ids:
            raise ValueError("ids must be distinct and not empty")
        hashes = np.fromiter((hash64(i) for i in ids), np.uint64, len(ids))
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        return cls(Texts.of(ids), hashes[order], order, np.ones(len(ids), bool) if alive is None else alive)

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
        new = sorted(set(ids).difference(self._ids))
        return IdMap.of([*self._ids, *new], np.concatenate([self.alive, np.ones(len(new), bool)]))

    def row(self, external: str) -> int:
        """The row of an id, or NO_ROW. A tombstone still has its row: ask `alive`."""
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
        if len(externals) > 64:
            return np.fromiter((self._table.get(e, NO_ROW) for e in externals), np.int32, len(externals))
        return np.fromiter((self.row(e) for e in externals), np.int32, len(externals))

    @property
    def texts(self) -> Texts:
        """Every id, tombstones too, in the order of rows."""
        return self._ids

    @cached_property
    def _table(self) -> dict[str, int]:
        return {external: row for row, external in enumerate(self._ids)}

    def __getitem__(self, row: int) -> str:
        return str(self._ids[row])

    def __len__(self) -> int:
        return len(self._ids)
